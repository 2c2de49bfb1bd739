"""What a user of a load run costs its generator: CPU and memory of locust's process, with a mock upstream and no proxy.

    python docs/load_cost.py                                    # 1,000 users, one message a second each
    python docs/load_cost.py --users 4000 --rate 6/m AwareUser

It starts a run, waits until each user has a connection, reads the process for a while, and prints what docs/load.md has
in a table. The memory of the process without users is measured with one, and taken off.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

#: How long everybody may take to come, in seconds.
COME_SECONDS = 120.0


class Look(NamedTuple):
    """What was seen of the process at a moment: CPU seconds, resident bytes, round trips so far."""

    moment: float
    cpu: float
    memory: int
    trips: int


def measure(users: int, options: argparse.Namespace) -> tuple[Look, Look]:
    """Run so many users, and look at their process twice."""
    command = [sys.executable, "-m", "reconnect_harness.load", "--headless", "-u", str(users), "-r", "200"]
    command += ["--rate", options.rate, "--push", options.push, "--sut", "direct", options.users_class]
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        with said.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as run:
            try:
                process = psutil.Process(run.pid)
                _wait_for_all(process, users)
                before = _look(process, said)
                time.sleep(options.seconds)
                return before, _look(process, said)
            finally:
                run.terminate()


def _wait_for_all(process: psutil.Process, users: int) -> None:
    deadline = time.monotonic() + COME_SECONDS
    while time.monotonic() < deadline:
        if sum(found.status == psutil.CONN_ESTABLISHED for found in process.net_connections("tcp")) >= users:
            return
        time.sleep(0.5)
    raise SystemExit("not all users came in time")


def _look(process: psutil.Process, said: Path) -> Look:
    """Look at the process at the moment when it has told of its statistics, as it does every two seconds."""
    told = len(said.read_text())
    while True:
        time.sleep(0.05)
        trips = re.findall(r"^WS +round trip +(\d+) ", said.read_text()[told:], re.MULTILINE)
        if trips:
            times = process.cpu_times()
            return Look(time.monotonic(), times.user + times.system, process.memory_info().rss, int(trips[-1]))


def main() -> None:
    """Measure one user and many, and print what each of the many costs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--rate", default="1/s")
    parser.add_argument("--push", default="0/s")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to read")
    parser.add_argument("users_class", nargs="?", default="PlainUser", choices=["PlainUser", "AwareUser"])
    options = parser.parse_args()
    (_, empty), (before, after) = measure(1, options), measure(options.users, options)
    lasted = after.moment - before.moment
    cpu, rate = (after.cpu - before.cpu) / lasted, (after.trips - before.trips) / lasted
    memory = (after.memory - empty.memory) / options.users / 1024
    print(
        f"{options.users_class} {options.users} x {options.rate}: {rate:,.0f} round trips a second took {cpu:.2f} of a "
        f"core, {cpu / rate * 1e6:.0f} µs each; {memory:.0f} KiB for each user; empty {empty.memory / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
