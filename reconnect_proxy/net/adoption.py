"""How picows gets a socket after the handshake.

picows makes handshakes itself, reads heads in one form only, and answers at once, but we dial first. So `accept` and
`outgoing` make the handshake, and picows gets the socket when it carries a leg. Then picows is given a handshake in the
form that it knows. Its answer is replaced by the real one, or is not sent.

    accepted:  real head --accept--> host …   then: a plain head ---> picows ---> our 101   ---> socket
    dialled:   real 101 --outgoing--> checked then: a plain 101 ---> picows ---> its request --> nowhere
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, cast

from multidict import CIMultiDict
from picows import WSAutoPingStrategy, WSUpgradeResponse, WSUpgradeResponseWithListener

from .burst import BurstTransport
from .handshake import accept_key
from .head import encode_value
from .leg import WebSocketLeg
from .reader import READ_BUFFER, Reader

_LOG = logging.getLogger("reconnect_proxy.net")
_NO_HEADERS: CIMultiDict[str] = CIMultiDict()


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """picows' logger. Only faults of this program (`exception`) are logged; the session reports what peers do wrong.

    Because it is not a `Logger`, picows does not make one for each connection.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log `msg` if it comes with an exception, which makes it a fault of this program."""
        if kwargs.get("exc_info"):
            super().log(level, msg, *args, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log nothing: picows logs the beginning and the end of each connection."""

    def isEnabledFor(self, level: int) -> bool:
        """Tell that only errors are wanted, so that picows does not build other messages."""
        return level >= logging.ERROR


_PICOWS_LOG = _Quiet(_LOG, {})
#: Reads nothing, and keeps nothing alive.
_NO_READER = asyncio.Protocol()


class _Said:
    """The 101 as picows has it sent: `headers` come behind those that every handshake has."""

    __slots__ = ("extra", "headers")

    status = HTTPStatus.SWITCHING_PROTOCOLS

    def __init__(self, extra: Iterable[tuple[str, str]]) -> None:
        self.extra = extra
        # picows puts its Sec-WebSocket-Accept here.
        self.headers: dict[str, str] = {}

    def to_bytes(self) -> bytearray:
        """Return the whole answer."""
        lines = [f"{name}: {value}\r\n" for name, value in (*self.headers.items(), *self.extra)]
        self.extra = ()
        return bytearray(encode_value(f"{_SWITCHING}{''.join(lines)}\r\n"))


_UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
_SWITCHING = f"HTTP/1.1 101 Switching Protocols\r\n{_UPGRADE}"
_RESPONSE = f"{_SWITCHING}Sec-WebSocket-Accept: %b\r\n\r\n".encode()
_REQUEST = f"GET / HTTP/1.1\r\n{_UPGRADE}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n".encode()


def take_accepted(
    transport: asyncio.Transport, leg: WebSocketLeg, key: str, headers: Iterable[tuple[str, str]], rest: bytes
) -> None:
    """Answer a client's handshake, and let `leg` have its socket.

    Args:
        transport: the socket.
        leg: is attached as soon as the 101 is written, before this returns.
        key: the client's Sec-WebSocket-Key.
        headers: the headers of the 101 that not every handshake has.
        rest: what the client has sent behind its head.
    """
    said = WSUpgradeResponseWithListener(cast(WSUpgradeResponse, _Said(headers)), leg)
    leg.protocol = protocol = _make_protocol(lambda request: said, leg.max_message, dialled=False)
    protocol.connection_made(BurstTransport(transport))
    _give(transport, protocol)
    _feed(protocol, _REQUEST % key.encode("ascii") + rest)


def take_dialled(transport: asyncio.Transport, leg: WebSocketLeg, rest: bytes) -> None:
    """Let `leg` have the socket of an upstream that was sent a handshake and has answered it.

    Args:
        transport: the socket.
        leg: is attached before this returns.
        rest: what the upstream has sent behind its head.
    """
    leg.protocol = protocol = _make_protocol(lambda request, response: leg, leg.max_message, dialled=True)
    burst = BurstTransport(transport)
    # It writes a request of its own, with a key of its own.
    burst.mute()
    protocol.connection_made(burst)
    burst.unmute()
    key = protocol.transport.request.headers["Sec-WebSocket-Key"]
    _give(transport, protocol)
    _feed(protocol, _RESPONSE % accept_key(key).encode("ascii") + rest)


def _make_protocol(listener_factory: Callable[..., Any], max_message: int, dialled: bool) -> Reader:
    return Reader(
        "" if dialled else None,
        "/" if dialled else None,
        dialled,
        listener_factory,
        _PICOWS_LOG,
        True,  # disconnect_on_exception
        None,  # websocket_handshake_timeout: the protocol that reads the head has its own
        False,  # enable_auto_ping: the core pings
        1.0,
        1.0,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # enable_auto_pong: a Ping is a sign of life, which the core is told of
        max_message,
        None,  # extra_headers
        READ_BUFFER,
    )


def _give(transport: asyncio.Transport, protocol: Reader) -> None:
    """Let `protocol` read from `transport`, and drop the references to the protocol before it."""
    # uvloop keeps a reference to the last method that it called on a protocol without a buffer of its own.
    transport.set_protocol(_NO_READER)
    transport.set_protocol(protocol)


def _feed(protocol: Reader, data: bytes) -> None:
    """Give `protocol` bytes that were read before it took over the socket."""
    rest = memoryview(data)
    while rest:
        buffer = protocol.get_buffer(len(rest))
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        protocol.buffer_updated(count)
        rest = rest[count:]
