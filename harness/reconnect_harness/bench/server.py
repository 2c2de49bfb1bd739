"""The server behind every contender, made with picows on uvloop, so that it costs little.

    python -m reconnect_harness.bench.server '{}'     writes {"port": …}, then obeys commands: see `BenchServer`

The path of a connection, which every proxy passes on, says what the server does with it:

| path | what the server does |
| --- | --- |
| `/echo` | sends back what it receives |
| `/sink?n=N&grant=G` | receives; after every G messages it confirms them on the control connection |
| `/burst?n=N&total=T` | receives; reports the first and the T-th message on the control connection |
| `/push?n=N` | sends the messages that are asked for on the control connection |
| `/control` | the generator's own connection to this server, past the contender, for `ControlMessage` |
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

import picows
import uvloop
from picows import WSListener, WSTransport, WSUpgradeRequest

from reconnect_harness.processes import actor

#: How many connections may wait to be accepted: thousands come at once when the server returns.
BACKLOG = 4096

#: The largest message, in bytes.
LARGEST = 32 * 1024**2

#: The number that stands for all connections.
ALL = 2**32 - 1

# RFC 6455 section 5.2. Plain numbers: comparing members of picows' enum costs more.
BINARY, CLOSE = 0x2, 0x8

#: Up to this size picows can write to uvloop. It writes the heads of all larger frames into one buffer, and uvloop does
#: not copy what it cannot send yet.
_SAFE = 8192

_FORMAT = struct.Struct("!IIId")


class ControlMessage(NamedTuple):
    """A message on the control connection: about connection `n`, a number of messages, their size, or a moment `t`."""

    n: int
    messages: int
    size: int = 0
    t: float = 0.0

    def to_bytes(self) -> bytes:
        return _FORMAT.pack(*self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        return cls(*_FORMAT.unpack(data))


def send(transport: WSTransport, payload: bytes) -> None:
    """Send a message of any size as a server does, without a mask."""
    if len(payload) <= _SAFE:
        transport.send(BINARY, payload)  # type: ignore[arg-type]  # a number does as well
        return
    size = len(payload)
    head = struct.pack("!BBH", 0x82, 126, size) if size < 2**16 else struct.pack("!BBQ", 0x82, 127, size)
    transport.underlying_transport.writelines((head, payload))


class _ServerConnection(WSListener):
    """A connection; its subclasses handle the messages."""

    def __init__(self, server: BenchServer, asked: Mapping[str, int]) -> None:
        self.server = server
        self.asked = asked
        self.n = asked.get("n", 0)
        self.transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.server.connections.add(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.server.connections.discard(self)

    def on_ws_frame(self, transport: WSTransport, frame: picows.WSFrame) -> None:
        kind: Any = frame.msg_type
        if kind == BINARY:
            self.take(frame)
        elif kind == CLOSE:
            transport.send_close()
            transport.disconnect()

    def take(self, frame: picows.WSFrame) -> None:
        """Handle a message."""


class _EchoConnection(_ServerConnection):
    def take(self, frame: picows.WSFrame) -> None:
        send(self.transport, frame.get_payload_as_bytes())


class _SinkConnection(_ServerConnection):
    taken = 0

    def take(self, frame: picows.WSFrame) -> None:
        self.taken += 1
        if self.taken % self.asked["grant"] == 0:
            self.server.tell(ControlMessage(self.n, self.asked["grant"]))


class _BurstConnection(_ServerConnection):
    taken = 0

    def take(self, frame: picows.WSFrame) -> None:
        self.taken += 1
        if self.taken in (1, self.asked["total"]):
            self.server.tell(ControlMessage(self.n, self.taken, t=time.monotonic()))


class _PushConnection(_ServerConnection):
    """Only the server sends on it."""


class _ControlConnection(_ServerConnection):
    payload = b""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.server.control = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.server.control = None

    def take(self, frame: picows.WSFrame) -> None:
        message = ControlMessage.from_bytes(frame.get_payload_as_bytes())
        if len(self.payload) != message.size:
            self.payload = bytes(message.size)
        for connection in self.server.connections:
            if message.n in (ALL, connection.n) and isinstance(connection, _PushConnection):
                for _ in range(message.messages):
                    send(connection.transport, self.payload)


_KINDS: Mapping[str, type[_ServerConnection]] = {
    "/echo": _EchoConnection,
    "/sink": _SinkConnection,
    "/burst": _BurstConnection,
    "/push": _PushConnection,
    "/control": _ControlConnection,
}


class BenchServer:
    """The server. It keeps its port while it is dead, so that it can return to it."""

    def __init__(self) -> None:
        self.connections: set[_ServerConnection] = set()
        self.control: WSTransport | None = None
        self._held = _bound(0)
        self.port: int = self._held.getsockname()[1]
        self._server: asyncio.Server | None = None

    def tell(self, message: ControlMessage) -> None:
        """Send something on the control connection, if there is one."""
        if self.control is not None:
            self.control.send(BINARY, message.to_bytes())  # type: ignore[arg-type]  # see send

    async def live(self) -> dict[str, float]:
        """Start to listen; return the moment, on the clock that all processes share."""
        moment = time.monotonic()
        self._server = await picows.ws_create_server(
            self._arrived,
            sock=_bound(self.port),
            backlog=BACKLOG,
            max_frame_size=LARGEST,
            websocket_handshake_timeout=30.0,
            use_aiofastnet=False,
        )
        return {"t": moment}

    async def die(self) -> dict[str, float]:
        """Stop listening and drop all connections, as a killed process does, except the control connection."""
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.transport.underlying_transport.abort()
        return {"t": time.monotonic()}

    async def sessions(self) -> dict[str, int]:
        """Return how many connections there are, without the control connection."""
        return {"count": len(self.connections)}

    def _arrived(self, request: WSUpgradeRequest) -> WSListener | None:
        parts = urlsplit(request.path.decode())
        kind = _KINDS.get(parts.path)
        asked = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
        return kind(self, asked) if kind is not None else None


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


async def play(spec: dict[str, Any]) -> None:
    """Serve until told to stop."""
    server = BenchServer()
    await server.live()
    actor.say({"port": server.port, "pid": os.getpid()})
    await actor.obey({"die": server.die, "live": server.live, "sessions": server.sessions})
    with contextlib.suppress(OSError):
        await server.die()


if __name__ == "__main__":
    actor.run(play, uvloop.new_event_loop)
