"""Connections that answer a Ping only when the program has taken the messages before it (PROTOCOL.md section 4).

    peer    ── 7 ── 8 ── Ping ──► buffered: 7, 8      the Pong waits
    program        recv() → 7, recv() → 8, recv() …   the next recv() shows that 7 and 8 are taken: Pong

websockets answers a Ping when it arrives, before the program has received the messages in front of it. If the program
is killed in between, its peer has been told that they arrived, and no record has them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class LatePongConnection(Connection):
    """A connection that answers a Ping when `recv` is called after all messages before the Ping were returned."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # How many messages have arrived, how many `recv` has returned, and how many of these count as taken.
        self._came = 0
        self._given = 0
        self._taken = 0
        # The Pongs that wait, each with the number of messages that must be taken first.
        self._waiting: deque[tuple[int, Frame]] = deque()
        self._send_frame = self.protocol.send_frame
        self.protocol.send_frame = self._hold  # type: ignore[method-assign]

    async def recv(self, decode: Any = None) -> Any:
        """Receive the next message; the messages before it count as taken from now on."""
        self._taken = self._given
        self._answer()
        message = await super().recv(decode)
        self._given += 1
        return message

    def process_event(self, event: Event) -> None:
        """Count messages as they arrive."""
        self._came += _ends_message(event)
        super().process_event(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection."""
        super().connection_lost(exc)
        # websockets aborts the transport if the program sends now. A transport of CPython that was closed with data in
        # its buffer then raises AttributeError (agronholm/anyio#1250).
        self.transport.abort = _do_nothing  # type: ignore[method-assign]

    def _hold(self, frame: Frame) -> None:
        """Send a frame, or keep it if it is a Pong that must wait."""
        # Messages of the same read have been parsed, but not yet processed.
        before = self._came + sum(map(_ends_message, self.protocol.events))
        if frame.opcode is Opcode.PONG and before > self._taken:
            self._waiting.append((before, frame))
        else:
            self._send_frame(frame)

    def _answer(self) -> None:
        due = False
        while self._waiting and self._waiting[0][0] <= self._taken:
            _, frame = self._waiting.popleft()
            # A closing connection sends no more frames: RFC 6455 section 5.5.1.
            if self.protocol.state is State.OPEN:
                self._send_frame(frame)
                due = True
        if due:
            self.send_data()


class LatePongClient(LatePongConnection, ClientConnection):
    """The connection of a client."""


class LatePongServer(LatePongConnection, ServerConnection):
    """The connection of a server."""


def _do_nothing() -> None:
    """Replace the abort of a transport that has ended."""


def _ends_message(event: Event) -> bool:
    return isinstance(event, Frame) and event.opcode in _DATA and event.fin
