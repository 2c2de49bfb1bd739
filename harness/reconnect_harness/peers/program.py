"""A client that is a program of the user's own. It speaks JSON lines:

    harness → stdin     {"send": TEXT}                    send this message of the application
                        (the end of stdin)                close the connection, and exit
    stdout → harness    {"connected": true}               the connection, or the next one, was made
                        {"sent": TEXT}                    the message was given to the socket
                        {"received": TEXT}                a message has arrived
                        {"closed": 1006, "reason": ""}    the connection has ended, with this code

A message without `sent` in the end counts as refused: it may have been lost before it was sent. TEXT is the message
that the adapter makes, if the scenario has one. Other lines, and what the program writes to stderr, go to clients.log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from reconnect_harness.history.message import Direction, decode
from reconnect_harness.peers.client import OPEN_SECONDS, PlainClient
from reconnect_harness.processes.actor import background

#: How long a program may take until it is connected, in seconds.
CONNECT_SECONDS = 30.0

#: The longest line, in bytes.
_LINE = 64 * 1024**2


class ProgramClient(PlainClient):
    """A client that `command` is: its words, with `{url}`, `{client}` and `{room}` for the values."""

    def __init__(self, *arguments: Any, command: Sequence[str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._command = [self._filled(word) for word in command]
        self._unsent: set[str] = set()
        self._connected = False
        # Whether it has said `sent`.
        self._confirms = False

    def _filled(self, word: str) -> str:
        values = {"url": self.url, "client": self.name, "room": self.adapter.room if self.adapter else ""}
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", value)
        return word

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Run the program until it ends, or is told to close."""
        pipe = asyncio.subprocess.PIPE
        try:
            program = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, limit=_LINE)
        except OSError as error:
            self._end("unreachable", reason=f"{self._command[0]} cannot be started: {error.strerror}")
            self.tried.set()
            return
        assert program.stdin is not None and program.stdout is not None
        lines = _Lines(program.stdin, self._unsent)
        works = [background(work) for work in (self._send(lines), self._finish(program), self._overdue())]
        try:
            while line := await program.stdout.readline():
                await self._heard(line, lines)
            status = await program.wait()
            if self._connected or not self.tried.is_set():
                event = "disconnected" if self._connected else "unreachable"
                self._end(event, reason=f"the program ended with status {status}")
            if self._unsent and not self._confirms:
                why = "the program has never said `sent`, so that none of its messages could be lost"
                self.recorder.link(self.name, "breach", asked=False, reason=why)
        finally:
            for work in works:
                work.cancel()
            await asyncio.wait(works)
            for message in self._unsent:
                stamp = self.adapter.unpack(message) if self.adapter is not None else message
                self.recorder.refused(self.name, Direction.C2U, decode(stamp or message))
            self.tried.set()
            if program.returncode is None:
                program.kill()
                await program.wait()

    async def _heard(self, line: bytes, back: _Lines) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            sys.stderr.write(f"{self.name}: {line.decode(errors='replace')}")
            return
        if told.get("connected"):
            self._connected = True
            self.recorder.link(self.name, "connected", asked=True)
            self.tried.set()
        elif "sent" in told:
            self._unsent.discard(told["sent"])
            self._confirms = True
        elif "received" in told:
            await self._arrive(back, told["received"])
        elif "closed" in told:
            self._end("disconnected", code=told["closed"], reason=told.get("reason", ""))

    def _end(self, event: str, **how: Any) -> None:
        self._connected = False
        self.recorder.link(self.name, event, asked=self.leaving.is_set(), **how)

    async def _finish(self, program: asyncio.subprocess.Process) -> None:
        """Close the stdin of the program when the client leaves, and end it if it does not end."""
        await self.leaving.wait()
        assert program.stdin is not None
        program.stdin.close()
        await asyncio.sleep(OPEN_SECONDS)
        program.kill()

    async def _overdue(self) -> None:
        """Record a program that does not connect in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.tried.wait()
                return
        self._end("unreachable", reason=f"the program did not say that it is connected in {CONNECT_SECONDS:.0f} s")
        self.tried.set()


class _Lines:
    """The stdin of a program, as what messages are sent to. `unsent` has what the program has not confirmed."""

    def __init__(self, pipe: asyncio.StreamWriter, unsent: set[str]) -> None:
        self._pipe = pipe
        self._unsent = unsent

    async def send(self, message: str | bytes) -> None:
        """Tell the program to send a message."""
        self._unsent.add(str(message))
        with contextlib.suppress(ConnectionError):
            self._pipe.write(json.dumps({"send": message}).encode() + b"\n")
            await self._pipe.drain()
