"""A proxy under siege, and what must be as before when an attack is over."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from ..process import BAD_SIGNS, READY, environment
from ..waiting import PATIENCE

BYSTANDERS = 200
#: Bytes of memory that an attack may leave behind: allocators keep some of what was once needed.
KEPT = 96 * 1024 * 1024
#: What is freed goes back to the system at once, so that memory tells what is held.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "131072"}
#: Descriptors that the event loop may open for itself.
OWN_DESCRIPTORS = 2
#: Seconds in which all that an attack leaves behind is gone.
LINGERS = 30.0
#: Of short patience, so that what attackers leave behind is gone soon.
OPTIONS = (
    *("--grace", "300ms", "--retry-for", "2s", "--connect-timeout", "3s", "--bind", "authorization"),
    *("--max-message", "1MiB", "--max-queue", "1MiB", "--admin", "127.0.0.1:0"),
)
_ADMIN = re.compile(r"admin listening url=(\S+)")


class Siege:
    """The proxy, with the bystanders who talk through it: processes of their own, which any number of tests share."""

    def __init__(self, folder: Path) -> None:
        """Start the town and the proxy before it."""
        self._town = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.hostile.town"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._log = folder / "proxy.log"
        self._proxy: subprocess.Popen[bytes] | None = None
        try:
            self._start(self._line())
        except BaseException:
            self._kill()
            raise

    def _start(self, port: str) -> None:
        with self._log.open("wb") as log:
            self._proxy = subprocess.Popen(
                [
                    *(sys.executable, "-m", "reconnect_proxy.cli", "serve", "--listen", "127.0.0.1:0"),
                    *("--upstream", f"ws://127.0.0.1:{port}", *OPTIONS),
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**environment("200ms"), **ALLOCATOR},
            )
        self.url = self._logged(re.compile(READY.pattern, re.MULTILINE))
        self._admin = self._logged(_ADMIN)
        self._ask(f"settle {self.url} {BYSTANDERS}")
        self._process = psutil.Process(self._proxy.pid)
        self._asked: dict[str, int] = {}
        self.heard = 0
        self.descriptors = self._process.num_fds()
        self.memory = self._process.memory_info().rss

    def __enter__(self) -> Self:
        """Stand."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the proxy, which must end well, and the town."""
        assert self._proxy is not None
        try:
            self._proxy.terminate()
            code = self._proxy.wait(PATIENCE)
            assert code == 0, f"the proxy ended with {code}"
            self._look_at_log()
        finally:
            self._kill()

    @property
    def address(self) -> tuple[str, int]:
        """Where the proxy listens."""
        host, _, port = self.url.removeprefix("ws://").rpartition(":")
        return host, int(port)

    @property
    def log(self) -> str:
        """What the proxy wrote so far."""
        return self._log.read_text(errors="replace")

    def asked_for(self, path: str) -> int:
        """Return how often attackers got through to the upstream at `path`, as of the last `judge`."""
        return self._asked.get(path, 0)

    def grown(self) -> int:
        """Return the bytes of memory that the proxy has more than when the siege began."""
        return int(self._process.memory_info().rss - self.memory)

    async def judge(self) -> None:
        """Check that the bystanders were not harmed and that nothing is left of an attack."""
        verdict = await asyncio.to_thread(self._ask, "judge")
        assert not verdict["faults"], verdict["faults"]
        assert verdict["heard"] > self.heard, "the bystanders said nothing, so nothing was tested"
        self.heard, self._asked = verdict["heard"], verdict["asked"]
        assert self._proxy is not None
        assert self._proxy.poll() is None, f"the proxy has died:\n{self.log[-2000:]}"
        self._look_at_log()
        left = await asyncio.to_thread(self._left)
        for _ in range(int(LINGERS / 0.1)):
            if not left:
                return
            await asyncio.sleep(0.1)
            left = await asyncio.to_thread(self._left)
        assert not left, left

    def _left(self) -> str:
        with urllib.request.urlopen(f"{self._admin}/sessions?limit=1", timeout=PATIENCE) as answer:
            sessions = json.load(answer)["total"]
        held = self._process.num_fds() - self.descriptors
        grown = self.grown()
        if sessions != BYSTANDERS:
            return f"there are {sessions} sessions, of which {BYSTANDERS} are the bystanders'"
        if held > OWN_DESCRIPTORS:
            return f"{held} descriptors are held that were not before"
        return f"{grown} bytes of memory are held that were not before" if grown > KEPT else ""

    def _look_at_log(self) -> None:
        log = self.log
        found = [sign for sign in (*BAD_SIGNS, " ERROR ") if sign in log]
        assert not found, f"the proxy wrote {found}: {log[log.index(found[0]) :][:3000]}"

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._town.stdin is not None
        self._town.stdin.write(line + "\n")
        self._town.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def _line(self) -> str:
        assert self._town.stdout is not None
        line = self._town.stdout.readline()
        assert line, "the town has died"
        return line.strip()

    def _logged(self, pattern: re.Pattern[str]) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if found := pattern.search(self.log):
                return found[1]
            time.sleep(0.02)
        raise AssertionError(f"the proxy did not start:\n{self.log}")

    def _kill(self) -> None:
        for process in (self._proxy, self._town):
            if process is not None:
                process.kill()
                process.wait()
        for pipe in (self._town.stdin, self._town.stdout):
            if pipe is not None:
                pipe.close()
