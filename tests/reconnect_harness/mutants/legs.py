"""The connections of a relay, whose frames may be harmed as they arrive; and what of a handshake passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Event, Side

#: Request headers that a library makes itself, or that apply to one hop only.
_OF_ONE_HOP = ("host", "upgrade", "connection", "content-length", "transfer-encoding", "user-agent")

#: What a relay may do to frames.
FRAME_FLAWS = ("forget-after-ping", "decode-fragments", "swallow-pings", "swallow-upstream-pings", "swallow-closes")


class HarmedConnection(Connection):
    """A connection that changes frames as they arrive, if `flaw` says so."""

    flaw: str = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_text = False
        self._after_ping = False
        is_client = self.protocol.side is Side.SERVER
        if self.flaw == ("swallow-pings" if is_client else "swallow-upstream-pings"):
            self._never_send(Opcode.PONG)
        if self.flaw == "swallow-closes" and is_client:
            self._never_send(Opcode.CLOSE)

    def process_event(self, event: Event) -> None:
        """Harm a frame, and take it."""
        if isinstance(event, Frame):
            self._harm(event)
        super().process_event(event)

    def _harm(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text = frame.opcode is Opcode.TEXT
        if self.flaw == "forget-after-ping" and frame.opcode is Opcode.CONT and self._after_ping:
            frame.data = b""
        self._after_ping = frame.opcode is Opcode.PING
        data = frame.opcode in (Opcode.TEXT, Opcode.CONT)
        if self.flaw == "decode-fragments" and self._is_text and data:
            frame.data = bytes(frame.data).decode(errors="replace").encode()

    def _never_send(self, opcode: Opcode) -> None:
        send = self.protocol.send_frame

        def send_others(frame: Frame) -> None:
            if frame.opcode is not opcode:
                send(frame)

        self.protocol.send_frame = send_others  # type: ignore[method-assign]


class ClientLeg(HarmedConnection, ServerConnection):
    """The connection of a client."""


class UpstreamLeg(HarmedConnection, ClientConnection):
    """The connection to the upstream."""


#: What a relay may do to a handshake: each changes the path, and the headers that pass.
_Headers = list[tuple[str, str]]
HANDSHAKE_FLAWS: dict[str, Callable[[str, _Headers], tuple[str, _Headers]]] = {
    "drop-query": lambda path, headers: (path.partition("?")[0], headers),
    "drop-path": lambda path, headers: (f"/?{path.partition('?')[2]}", headers),
    "drop-cookie": lambda path, headers: (path, _without(headers, "cookie")),
    "drop-authorization": lambda path, headers: (path, _without(headers, "authorization")),
    "drop-headers": lambda path, headers: (path, []),
    "decode-query": lambda path, headers: (path.replace("%20", "+"), headers),
    "cut-headers": lambda path, headers: (path, [(name, value.partition(",")[0]) for name, value in headers]),
    "cut-cookie": lambda path, headers: (path, [(name, value.partition(";")[0]) for name, value in headers]),
}


def _without(headers: _Headers, name: str) -> _Headers:
    return [(key, value) for key, value in headers if key.lower() != name]


def passing_headers(items: Iterable[tuple[str, str]], prefixes: tuple[str, ...]) -> _Headers:
    """Return the headers that are for the other end; those with the prefixes are not."""
    return [
        (name, value)
        for name, value in items
        if name.lower() not in _OF_ONE_HOP and not name.lower().startswith(prefixes)
    ]


def upstream_request(request: Request, flaw: str, prefixes: tuple[str, ...]) -> tuple[str, _Headers]:
    """Return the path and the headers with which a relay dials for a request."""
    change = HANDSHAKE_FLAWS.get(flaw, lambda path, headers: (path, headers))
    return change(request.path, passing_headers(request.headers.raw_items(), ("sec-websocket-", *prefixes)))


def offered_subprotocols(request: Request) -> list[Any]:
    """Return the subprotocols that a request offers."""
    offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
    return [name.strip() for name in offered.split(",") if name.strip()]
