"""Connections that keep the promise of a Pong: what came before the Ping has been taken (PROTOCOL.md section 4).

    peer    ── 7 ── 8 ── Ping ──► buffered: 7, 8      the Pong waits
    program        recv() → 7, recv() → 8, recv() …   whoever asks for more has taken what there was: Pong

websockets answers a Ping when it arrives, before the program has seen the messages in front of it. If the program is
killed in between, its peer has been told that they arrived, and they are in no record.
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


class PromisingConnection(Connection):
    """A connection that answers a Ping when `recv` has been asked for more than what came before it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # How many messages have come, and how many the program has been given, and is done with.
        self._came = 0
        self._given = 0
        self._taken = 0
        # The Pongs that wait, each with the number of messages that have to be taken first.
        self._waiting: deque[tuple[int, Frame]] = deque()
        self._send_frame = self.protocol.send_frame
        self.protocol.send_frame = self._hold  # type: ignore[method-assign]

    async def recv(self, decode: Any = None) -> Any:
        """Receive the next message; those before it count as taken from now on."""
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
        """Take the end of the connection."""
        super().connection_lost(exc)
        # websockets aborts the transport when somebody sends now. One of CPython's that was closed with data in its
        # buffer, and is gone, raises AttributeError at that (agronholm/anyio#1250).
        self.transport.abort = _do_nothing  # type: ignore[method-assign]

    def _hold(self, frame: Frame) -> None:
        """Send a frame, or keep it if it is a Pong whose time has not come."""
        # What came with the same read has been parsed, and not yet been processed.
        before = self._came + sum(map(_ends_message, self.protocol.events))
        if frame.opcode is Opcode.PONG and before > self._taken:
            self._waiting.append((before, frame))
        else:
            self._send_frame(frame)

    def _answer(self) -> None:
        due = False
        while self._waiting and self._waiting[0][0] <= self._taken:
            _, frame = self._waiting.popleft()
            # A closing connection sends nothing any more: RFC 6455 section 5.5.1.
            if self.protocol.state is State.OPEN:
                self._send_frame(frame)
                due = True
        if due:
            self.send_data()


class PromisingClient(PromisingConnection, ClientConnection):
    """The connection of a client."""


class PromisingServer(PromisingConnection, ServerConnection):
    """The connection of a server."""


def _do_nothing() -> None:
    """Stand for the end of what has ended."""


def _ends_message(event: Event) -> bool:
    return isinstance(event, Frame) and event.opcode in _DATA and event.fin
