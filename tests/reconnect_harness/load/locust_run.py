"""A real locust process, and its output."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from websockets.sync.server import ServerConnection, serve

from reconnect_harness.sut import base
from tests.reconnect_harness.waiting import PATIENCE

ROOT = Path(__file__).parents[3]

#: Three cuts of the upstream link, with so much delay on it that something is always under way.
FLAP = """
name: short-flap
summary: The upstream link is slow, and is cut three times.
proxy: {mode: duplex, retry_for: 30s}
upstream: {kind: aware, push: 10/s}
clients: {kind: aware, count: 1, for: 3s}
faults:
  - {at: 0s, link: upstream, do: latency, for: 4s, latency: 80ms}
  - {at: 500ms, link: upstream, do: down, for: 300ms, times: 3, every: 900ms}
expect: {lost: 0}
"""


@dataclass(frozen=True, slots=True)
class Said:
    """The output and the exit code of a locust that has ended."""

    code: int
    text: str

    def requests(self, name: str) -> int:
        """Return how many requests of a name there were, 0 if none."""
        found = re.search(rf"^WS +{name} +(\d+) ", self.text, re.MULTILINE)
        return int(found[1]) if found else 0

    def total(self, column: str) -> int:
        """Return a sum of the summary's table."""
        table = self.text[self.text.index("WebSocket load against") :].splitlines()
        titles = table[1].split()
        row = next(line for line in table if line.startswith("total "))
        return int(row.split()[1 + titles.index(column)].replace(",", ""))


def free_port() -> int:
    """Return a port for locust, which does not report a port of its own choice; no other program gets it."""
    return base.free_port()


@contextlib.contextmanager
def running(*options: str, folder: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    """Start locust in a session of its own, and kill what is left of it at the end."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    # It is the code of this checkout that is tested, wherever locust stands.
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environ.get("PYTHONPATH")])])
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "locust", *options],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        process.stdout = output
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def said(process: subprocess.Popen[str]) -> str:
    """Return its output so far."""
    assert process.stdout is not None
    # Not read(): the position is that of the process too.
    return os.pread(process.stdout.fileno(), 1 << 24, 0).decode(errors="replace")


def ended(process: subprocess.Popen[str]) -> Said:
    """Wait until it has ended."""
    code = process.wait(PATIENCE)
    return Said(code, said(process))


def locust(*options: str, folder: Path = ROOT) -> Said:
    """Run a headless locust to its end."""
    with running("--headless", "--only-summary", *options, folder=folder) as process:
        return ended(process)


@contextlib.contextmanager
def echo_server(seen: list[tuple[str, str]]) -> Iterator[int]:
    """An ordinary echo server on a port; it notes from which address it is asked for which path."""

    def echo(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append((connection.remote_address[0], connection.request.path))
        for message in connection:
            connection.send(message)

    with serve(echo, "127.0.0.1", 0) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            serving.join()
