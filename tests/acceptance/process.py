"""`reconnect-proxy serve` as a process of its own."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

import psutil
import pytest

from .waiting import PATIENCE, eventually

#: How many workers proxies of these tests have where they do not say; ACCEPTANCE_WORKERS=2 runs all of them with two.
WORKERS = int(os.environ.get("ACCEPTANCE_WORKERS", "1"))
#: For tests that look at the one process, or count the lines that each process writes.
one_process = pytest.mark.skipif(WORKERS > 1, reason="it is about a proxy in one process")

READY = re.compile(r"^listening on (wss?://\S+) -> (.+) \(mode (\w+)\)$")
DEFAULTS = ("--listen", "127.0.0.1:0", "--workers", str(WORKERS))
BAD_SIGNS = ("Traceback", "never retrieved", "never awaited", "was destroyed but it is pending", "Unhandled")


class Serving:
    """One running proxy: where it listens, what it wrote to stderr, and how to stop it."""

    def __init__(self, process: Process, options: tuple[str, ...]) -> None:
        """Watch a process that was just started; `started` waits for its ready line."""
        assert process.stderr is not None
        self.process = process
        self.options = options
        self.lines: list[str] = []
        self.url = ""
        self._stderr = process.stderr
        self._ready = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def started(cls, *options: str, drain: str, prefix: Sequence[str] = ()) -> "Serving":
        """Start a proxy on a free port, through the command `prefix`, and wait until it says that it listens."""
        process = await asyncio.create_subprocess_exec(
            *(*prefix, sys.executable, "-m", "reconnect_proxy.cli", "serve", *DEFAULTS, *options),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=PIPE,
            env=environment(drain),
        )
        serving = cls(process, options)
        ready = asyncio.create_task(serving._ready.wait())
        try:
            async with asyncio.timeout(PATIENCE * 2):
                await asyncio.wait([ready, serving._reader], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await serving.kill()
            raise
        finally:
            ready.cancel()
        if not serving.url:
            await serving.kill()
            raise AssertionError("the proxy did not start:\n" + serving.log)
        return serving

    @property
    def log(self) -> str:
        """All that it wrote to stderr so far."""
        return "\n".join(self.lines)

    async def logged(self, text: str, count: int | None = None) -> None:
        """Wait until the log has `text`, once or more, or `count` times. It may be written after what it is about."""
        await eventually(lambda: self.log.count(text) >= (1 if count is None else count), f"the log has {text!r}")
        assert count in (None, self.log.count(text))

    @property
    def base(self) -> str:
        """The address as HOST:PORT."""
        return self.url.partition("://")[2]

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.returncode is None

    def rss(self) -> int:
        """The bytes of memory it holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def cpu(self) -> float:
        """The seconds of CPU that it has used."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def descriptors(self) -> int:
        """The number of its open file descriptors."""
        return int(psutil.Process(self.process.pid).num_fds())

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def exit_code(self, within: float = PATIENCE) -> int:
        """Wait until it has ended."""
        async with asyncio.timeout(within):
            code = await self.process.wait()
            await self._reader
        return code

    async def stop(self) -> None:
        """Ask it to stop; it must, with 0, and must not have complained of itself."""
        if self.alive:
            self.signal()
        try:
            code = await self.exit_code()
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"SIGTERM did not stop the proxy:\n{self.log}") from None
        assert code == 0, f"the proxy ended with {code}:\n{self.log}"
        found = [sign for sign in BAD_SIGNS if sign in self.log]
        assert not found, f"the proxy wrote {found}:\n{self.log}"

    async def kill(self) -> None:
        """End it at once."""
        if self.alive:
            self.process.kill()
        await self.process.wait()
        await self._reader

    async def _read(self) -> None:
        while line := await self._stderr.readline():
            text = line.decode().rstrip("\n")
            self.lines.append(text)
            match = READY.match(text)
            if match is not None:
                self.url = match[1]
                self._ready.set()


async def failed_start(*options: str, prefix: Sequence[str] = ()) -> tuple[int | None, str]:
    """Return the exit code of a proxy that does not start, and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *(*prefix, sys.executable, "-m", "reconnect_proxy.cli", "serve", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=PIPE,
        env=environment("0s"),
    )
    async with asyncio.timeout(PATIENCE * 2):
        _, stderr = await process.communicate()
    return process.returncode, stderr.decode().rstrip("\n")


def environment(drain: str) -> dict[str, str]:
    """The environment without this user's settings of the proxy, and with the drain time of its stop."""
    settings = {key: value for key, value in os.environ.items() if not key.startswith("RECONNECT_PROXY_")}
    return {**settings, "RECONNECT_PROXY_DRAIN": drain, "PYTHONUNBUFFERED": "1"}
