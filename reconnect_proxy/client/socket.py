"""A `websockets` connection as the core sees a socket: what carries the client's leg at the moment.

`core.link.Link` calls a `ConnectionLeg` to write, and a `LinkedConnection` calls the link with what it receives. Data
messages do not pass here: the task that follows the connection takes them with `recv`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame
from websockets.frames import Opcode as FrameOpcode
from websockets.protocol import Event, State

from ..core.interfaces import Acceptance
from ..core.link import Link
from ..core.message import Opcode

__all__ = ["ConnectionLeg", "LinkedConnection"]


class LinkedConnection(ClientConnection):
    """A connection that reports what websockets keeps to itself: Pongs, bytes, room to write, the end.

    It overrides methods of `asyncio.Protocol`. Of websockets' internals it uses `process_event`, to see a Pong, and
    `send_data`, to write without waiting.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.leg = ConnectionLeg(self)
        # Set when the handshake is settled.
        self.link: Link | None = None
        self.bytes_received = 0
        # Cleared while the link wants no more: `_follow` then takes nothing, and websockets stops reading by itself.
        self.readable = asyncio.Event()
        self.readable.set()
        self.lost = False
        self._hangup: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self.bytes_received += len(data)
        super().data_received(data)
        if self.state is State.CLOSING and self._hangup is None and self.close_timeout is not None:
            # websockets leaves it to the server to end TCP, and has no timer for it while nothing is sent.
            self._hangup = self.loop.call_later(self.close_timeout, self.transport.abort)

    def process_event(self, event: Event) -> None:
        super().process_event(event)
        if self.link is not None and isinstance(event, Frame) and event.opcode is FrameOpcode.PONG:
            self.link.on_pong(bytes(event.data))

    def pause_writing(self) -> None:
        super().pause_writing()
        self.leg.writable = False

    def resume_writing(self) -> None:
        super().resume_writing()
        self.leg.writable = True
        if self.link is not None:
            self.link.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.transport = LostTransport(self.transport)
        self.lost = True
        self.readable.set()
        if self._hangup is not None:
            self._hangup.cancel()
        if self.link is not None:
            self.link.die()

    @property
    def takes_frames(self) -> bool:
        """False once the connection is closing: what is written then is left to the next link."""
        return self.state is State.OPEN and not self.transport.is_closing()


class LostTransport(asyncio.Transport):
    """The transport of a lost connection.

    websockets aborts the transport of a lost connection when a program sends on or closes it. A transport of CPython
    that was closed with data in its buffer then raises AttributeError (agronholm/anyio#1250).
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return True

    def abort(self) -> None:
        """Do nothing: it is over."""


class ConnectionLeg:
    """What a `core.link.Link` asks of its socket (`core.interfaces.Leg`)."""

    def __init__(self, connection: LinkedConnection) -> None:
        self.writable = True
        # websockets compresses and inflates by itself: here messages are plain.
        self.deflate = False
        self._connection = connection

    def send(self, opcode: int, payload: bytes, /) -> None:
        if self._connection.takes_frames:
            if opcode == Opcode.TEXT:
                self._connection.protocol.send_text(payload)
            else:
                self._connection.protocol.send_binary(payload)
            self._connection.send_data()

    def ping(self, payload: bytes, /) -> None:
        if self._connection.takes_frames:
            self._connection.protocol.send_ping(payload)
            self._connection.send_data()

    def close(self, code: int, reason: str) -> None:
        if self._connection.takes_frames:
            self._connection.protocol.send_close(code, reason)
            self._connection.send_data()

    def abort(self) -> None:
        self._connection.transport.abort()

    def pause_reading(self) -> None:
        # What a lost connection has buffered is counted, however much it is.
        if not self._connection.lost:
            self._connection.readable.clear()

    def resume_reading(self) -> None:
        self._connection.readable.set()

    def progress(self) -> int:
        return self._connection.bytes_received

    def acceptance(self) -> Acceptance:
        waiting = self._connection.transport.get_write_buffer_size()
        return Acceptance(-waiting, waiting > 0, acknowledges=False)
