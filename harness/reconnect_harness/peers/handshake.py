"""What clients of a run put into their handshakes, and what arrives of it: recorded at both ends, for the checks.

Both ends record an event `handshake` of their link, whose reason is JSON: the path with its query, the subprotocols
that were offered and the one that was chosen, and the headers. A client records those that the scenario gave it; an
upstream records all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

from websockets.asyncio.server import ServerConnection

from reconnect_harness.history.recorder import EventSink

#: The name of the event in the history.
HANDSHAKE = "handshake"


@dataclass(frozen=True, slots=True)
class ClientHandshake:
    """What a client asks for: `{client}` in a path, a header or a reason stands for its name."""

    path: str = ""
    subprotocols: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_spec(cls, fields: Mapping[str, Any] | None, client: str) -> Self:
        """Make that of one client from JSON-able fields, or from None."""
        if fields is None:
            return cls()
        headers = {name: value.replace("{client}", client) for name, value in fields["headers"].items()}
        return cls(fields["path"].replace("{client}", client), tuple(fields["subprotocols"]), headers)

    def url(self, url: str) -> str:
        """Return where to connect, given the URL of the system under test."""
        return urljoin(url, self.path) if self.path else url

    def record(self, recorder: EventSink, name: str, url: str, chosen: str | None) -> None:
        """Record what was asked for at `url`, and the subprotocol that was chosen."""
        parts = urlsplit(url)
        asked = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        _record(recorder, name, asked, self.subprotocols, chosen, self.headers.items())


def record_arrival(recorder: EventSink, stream: str, connection: ServerConnection) -> None:
    """Record what has arrived of the handshake of a connection that carries a stream of an upstream."""
    assert connection.request is not None
    headers = connection.request.headers
    offered = [name.strip() for line in headers.get_all("Sec-WebSocket-Protocol") for name in line.split(",")]
    _record(recorder, stream, connection.request.path, offered, connection.subprotocol, headers.raw_items())


def first_offered(connection: ServerConnection, offered: Iterable[str]) -> Any:
    """Choose the first subprotocol that a client has offered, None if there is none."""
    return next(iter(offered), None)


def _record(
    recorder: EventSink,
    name: str,
    path: str,
    offered: Iterable[str],
    chosen: str | None,
    headers: Iterable[tuple[str, str]],
) -> None:
    fields = {"path": path, "subprotocols": list(offered), "chosen": chosen, "headers": list(headers)}
    recorder.link(name, HANDSHAKE, asked=True, reason=json.dumps(fields))
