"""What a user of a load run costs its generator: CPU and memory of locust's process, with a mock upstream and no proxy.

    python docs/load_cost.py                                    # 1,000 users, one message a second each
    python docs/load_cost.py --users 4000 --rate 6/m AwareUser

It starts a run, waits until all users talk, reads the process for a while, and prints what docs/load.md has in a table.
What the first process costs without users is measured with one, and taken off.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from typing import IO, NamedTuple

import psutil

#: How long everybody may take to come, and how long they talk before it counts, in seconds.
COME_SECONDS = 120.0
SETTLE_SECONDS = 5.0


class Cost(NamedTuple):
    """What a run cost its generator: CPU in cores, resident bytes."""

    cpu: float
    memory: int


def measure(users: int, options: argparse.Namespace) -> Cost:
    """Run so many users, and read their process."""
    lasts = users / 200 + SETTLE_SECONDS + options.seconds + 30
    command = [sys.executable, "-m", "harness.load", "--headless", "--only-summary", "-u", str(users), "-r", "200"]
    command += ["-t", f"{lasts:.0f}s", "--rate", options.rate, "--push", options.push, "--sut", "direct"]
    with tempfile.TemporaryFile("w+") as output:
        run = subprocess.Popen([*command, options.users_class], stdout=output, stderr=subprocess.STDOUT, text=True)
        try:
            _wait_for_all(run, output)
            time.sleep(SETTLE_SECONDS)
            process = psutil.Process(run.pid)
            before, began = process.cpu_times(), time.monotonic()
            time.sleep(options.seconds)
            after, lasted = process.cpu_times(), time.monotonic() - began
            spent = after.user + after.system - before.user - before.system
            return Cost(spent / lasted, process.memory_info().rss)
        finally:
            run.terminate()
            run.wait()


def _wait_for_all(run: subprocess.Popen[str], output: IO[str]) -> None:
    deadline = time.monotonic() + COME_SECONDS
    while time.monotonic() < deadline and run.poll() is None:
        output.seek(0)
        if "All users spawned" in output.read():
            return
        time.sleep(0.2)
    raise SystemExit("not all users came in time")


def main() -> None:
    """Measure one user and many, and print what each of the many costs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--rate", default="1/s")
    parser.add_argument("--push", default="0/s")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to read")
    parser.add_argument("users_class", nargs="?", default="PlainUser", choices=["PlainUser", "AwareUser"])
    options = parser.parse_args()
    one, many = measure(1, options), measure(options.users, options)
    cpu = (many.cpu - one.cpu) / options.users
    memory = (many.memory - one.memory) / options.users
    print(
        f"{options.users_class} {options.users} x {options.rate}, pushed {options.push}: "
        f"{many.cpu:.2f} of a core, {cpu * 1e6:.0f} µs of CPU a second and {memory / 1024:.0f} KiB for each user; "
        f"empty {one.cpu:.3f} of a core, {one.memory / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
