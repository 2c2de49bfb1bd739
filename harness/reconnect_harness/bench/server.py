"""The server behind every contender: made of picows on uvloop, so that it costs little beside what is measured.

    python -m reconnect_harness.bench.server '{}'          says {"port": …}, then does as it is told: see `Server`

What becomes of a connection is in its path, which every proxy passes on:

| path | what it does |
| --- | --- |
| `/echo` | sends back what it gets |
| `/sink?n=N&grant=G` | takes; after each G messages it says on the control connection that N may go on |
| `/burst?n=N&total=T` | takes; says so of the first and of the T-th message |
| `/push?n=N` | sends what the control connection asks for |
| `/control` | the generator's own way to this server, past the contender; what is said there is `Word` |
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

#: Connections that are waiting to be accepted: thousands come at once when the server returns.
BACKLOG = 4096

#: The largest message, in bytes.
LARGEST = 32 * 1024**2

#: Everyone, in place of the number of a connection.
ALL = 2**32 - 1

# RFC 6455 section 5.2. Plain numbers: picows' enum costs a look-up with each comparison.
BINARY, CLOSE = 0x2, 0x8

#: What picows writes safely on uvloop: it puts the head of a larger frame where it puts the next one's too, and uvloop
#: keeps no copy of what it cannot write yet.
_SAFE = 8192

_WORD = struct.Struct("!IIId")


class Word(NamedTuple):
    """What is said on the control connection: of connection `n`, so many messages, of `size` bytes, or at time `t`."""

    n: int
    messages: int
    size: int = 0
    t: float = 0.0

    def to_bytes(self) -> bytes:
        """Return it as it is sent."""
        return _WORD.pack(*self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read it."""
        return cls(*_WORD.unpack(data))


def send(transport: WSTransport, payload: bytes) -> None:
    """Send a server's message, of any size."""
    if len(payload) <= _SAFE:
        transport.send(BINARY, payload)  # type: ignore[arg-type]  # a number does as well
        return
    size = len(payload)
    head = struct.pack("!BBH", 0x82, 126, size) if size < 2**16 else struct.pack("!BBQ", 0x82, 127, size)
    transport.underlying_transport.writelines((head, payload))


class _Connection(WSListener):
    """A connection; what it does with messages is in its kind."""

    def __init__(self, server: Server, asked: Mapping[str, int]) -> None:
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
        """Do with a message what is to be done."""


class _Echo(_Connection):
    def take(self, frame: picows.WSFrame) -> None:
        send(self.transport, frame.get_payload_as_bytes())


class _Sink(_Connection):
    taken = 0

    def take(self, frame: picows.WSFrame) -> None:
        self.taken += 1
        if self.taken % self.asked["grant"] == 0:
            self.server.tell(Word(self.n, self.asked["grant"]))


class _Burst(_Connection):
    taken = 0

    def take(self, frame: picows.WSFrame) -> None:
        self.taken += 1
        if self.taken in (1, self.asked["total"]):
            self.server.tell(Word(self.n, self.taken, t=time.monotonic()))


class _Push(_Connection):
    def take(self, frame: picows.WSFrame) -> None:
        raise AssertionError("nobody speaks here but the server")


class _Control(_Connection):
    payload = b""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.server.control = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.server.control = None

    def take(self, frame: picows.WSFrame) -> None:
        word = Word.from_bytes(frame.get_payload_as_bytes())
        if len(self.payload) != word.size:
            self.payload = bytes(word.size)
        for connection in self.server.connections:
            if word.n in (ALL, connection.n) and isinstance(connection, _Push):
                for _ in range(word.messages):
                    send(connection.transport, self.payload)


_KINDS: Mapping[str, type[_Connection]] = {
    "/echo": _Echo,
    "/sink": _Sink,
    "/burst": _Burst,
    "/push": _Push,
    "/control": _Control,
}


class Server:
    """The server. Its port stays its own while it is dead, so that it can come back to it."""

    def __init__(self) -> None:
        self.connections: set[_Connection] = set()
        self.control: WSTransport | None = None
        self._held = _bound(0)
        self.port: int = self._held.getsockname()[1]
        self._server: asyncio.Server | None = None

    def tell(self, word: Word) -> None:
        """Say something on the control connection, if there is one."""
        if self.control is not None:
            self.control.send(BINARY, word.to_bytes())  # type: ignore[arg-type]  # see send

    async def live(self) -> dict[str, float]:
        """Begin to listen; return the moment, on the clock that all processes share."""
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
        """Stop listening and drop all connections, as a killed process does; but not the control connection."""
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.transport.underlying_transport.abort()
        return {"t": time.monotonic()}

    async def sessions(self) -> dict[str, int]:
        """Say how many connections there are, without the control connection."""
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
    server = Server()
    await server.live()
    actor.say({"port": server.port, "pid": os.getpid()})
    await actor.obey({"die": server.die, "live": server.live, "sessions": server.sessions})
    with contextlib.suppress(OSError):
        await server.die()


if __name__ == "__main__":
    actor.run(play, uvloop.new_event_loop)
