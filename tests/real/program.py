"""A client or a server that a test runs as a process, and that reports in JSON lines on its stdout.

| line | meaning |
| --- | --- |
| `{"ready": true}` | connected, or listening |
| `{"got": "calls", "n": 7}` | message 7 of the stream `calls` has arrived |
| `{"sent": "calls", "n": 812}` | at the end: so many messages of the stream were sent |
| `{"lost": "1006"}` | the program was told that its connection has ended |
| `{"back": true}` | it is connected again, by its own effort or its library's |
| `{"end": true}` | all answers are there, and the connection is closed; the process ends with status 0 |

A line `stop` on its stdin makes it send no further messages, wait for what it is owed, and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from reconnect_harness.processes.child import Child, Warden

#: How long a step of a program may take, in seconds. The machine may be busy, a browser is slow to start.
PATIENCE = 40.0

Line = dict[str, Any]


class Program(Child):
    """One such process. Make it with `launch`; `Testbed` stops it.

    Attributes:
        lines: what it has reported so far.

    """

    lines: list[Line]

    @classmethod
    async def launch(
        cls, name: str, command: Sequence[str], spec: Mapping[str, Any], log: Path, warden: Warden
    ) -> Self:
        """Start `command` with `spec` as JSON behind it."""
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        program = await cls.start(name, [*command, json.dumps(spec)], log, warden, environ=environ, piped=True)
        program.lines = []
        program._news = asyncio.Condition()
        program._over = False
        program._reading = asyncio.create_task(program._read())
        return program

    async def until(self, check: Callable[[list[Line]], bool], what: str, within: float = PATIENCE) -> None:
        """Wait until `check` holds for the lines; `what` says in an error what was waited for."""
        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: self._over or check(self.lines))
        except TimeoutError:
            raise AssertionError(f"within {within:g} s: {self._state(what)}") from None
        assert check(self.lines), f"the program has ended: {self._state(what)}"

    async def ready(self) -> Self:
        """Wait until it is connected, or listens."""
        await self.until(lambda lines: {"ready": True} in lines, "it is ready")
        return self

    def count(self, key: str) -> int:
        """Return how many lines have this key."""
        return sum(key in line for line in self.lines)

    def numbers(self, stream: str) -> list[int]:
        """Return the numbers of the messages of `stream` that have arrived, in order."""
        return [line["n"] for line in self.lines if line.get("got") == stream]

    def sent(self, stream: str) -> int:
        """Return how many messages of `stream` were sent, once it has ended."""
        (count,) = (line["n"] for line in self.lines if line.get("sent") == stream)
        return int(count)

    def called(self) -> int:
        """Return how many calls it has made, once it was told to stop."""
        (count,) = (line["called"] for line in self.lines if "called" in line)
        return int(count)

    async def further(self, stream: str, more: int = 5, within: float = PATIENCE) -> None:
        """Wait until so many more messages of `stream` have arrived."""
        wanted = len(self.numbers(stream)) + more
        await self.until(lambda _: len(self.numbers(stream)) >= wanted, f"{more} more {stream} arrive", within)

    async def finish(self, within: float = PATIENCE) -> None:
        """Tell it to stop, and wait until it has ended well."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"stop\n")
        await self.until(lambda lines: {"end": True} in lines, "it has all that it is owed", within)
        status = await self.wait(within)
        assert status == 0, self.failure(f"ended with status {status}")

    async def kill(self) -> None:
        """End it as in a crash, and read what it had reported."""
        self.send_signal(signal.SIGKILL)
        await self.wait()
        await self._reading

    async def stop(self) -> None:
        """End it at once; the test is over."""
        await self.kill()
        await super().stop()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while text := await self._process.stdout.readline():
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict):
                    self.lines.append(line)
            async with self._news:
                self._news.notify_all()
        self._over = True
        async with self._news:
            self._news.notify_all()

    def _state(self, what: str) -> str:
        streams = {str(line["got"]): set(self.numbers(line["got"])) for line in self.lines if "got" in line}
        heard = {stream: len(numbers) for stream, numbers in streams.items()}
        gaps = {stream: sorted(set(range(1, max(numbers))) - numbers)[:9] for stream, numbers in streams.items()}
        last = "\n".join(f"    {line}" for line in self.lines[-5:])
        events = {key: self.count(key) for key in ("lost", "back", "error")}
        received = f"It had received {heard}, without {gaps}, and reported {events}; its last reports:\n{last}\n"
        return str(self.failure(f"was waited for until {what}. {received}"))
