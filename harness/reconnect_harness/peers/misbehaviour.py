"""Upstreams that misbehave: any kind of upstream can do so as well, with `rude` in a scenario.

| key | what it does |
| --- | --- |
| `reject: [401, 503]` | answers the first handshakes of each session with these statuses, one after the other |
| `reject_again: [404]` | the same for the handshakes of a session that was connected before (`X-Reconnect`) |
| `close: [1000, 1012]` | closes the first connection of each session, with the next of these codes each time |
| `deaf: 1s` | reads nothing from each connection for that time |
| `mute: true` | answers no Ping |
| `after: 1s` | when it closes or is deaf, counted from the start of the traffic |

A session is identified by the ids in the handshake; without an id each connection has its own. Each misbehaviour is in
the history, as an event `rude` whose reason starts with the key.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from reconnect_harness.history.recorder import EventSink
from reconnect_harness.peers.upstream_connection import UpstreamConnection
from reconnect_harness.processes.actor import background


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """What a scenario says under `rude`; see the table. Times are seconds."""

    reject: tuple[int, ...] = ()
    reject_again: tuple[int, ...] = ()
    close: tuple[int, ...] = ()
    deaf: float = 0.0
    mute: bool = False
    after: float = 1.0

    @classmethod
    def from_spec(cls, fields: Mapping[str, Any]) -> Self:
        """Make it from JSON-able fields."""
        given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        return cls(**given)


class Misbehaver:
    """Does the misbehaviour of one upstream to its handshakes and connections.

    Args:
        misbehaviour: what to do.
        name: the name of the upstream in the history.
        recorder: where each misbehaviour is recorded.
        begun: set when the traffic begins.

    """

    def __init__(self, misbehaviour: Misbehaviour, name: str, recorder: EventSink, begun: asyncio.Event) -> None:
        self._misbehaviour = misbehaviour
        self._name = name
        self._recorder = recorder
        self._begun = begun
        self._dials: Counter[tuple[str, bool]] = Counter()
        # The sessions that have had their first connection, in order.
        self._met: list[str] = []
        self._connections = 0

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return None to accept a handshake, or the response that rejects it."""
        session, again = _session(request), "X-Reconnect" in request.headers
        statuses = self._misbehaviour.reject_again if again else self._misbehaviour.reject
        number = self._dials[session, again]
        self._dials[session, again] += 1
        if number >= len(statuses):
            return None
        status = HTTPStatus(statuses[number])
        self._record(f"{'reject_again' if again else 'reject'}: {status}")
        return connection.respond(status, json.dumps({"error": "rude", "detail": f"rejected with {status}"}) + "\n")

    def meet(self, connection: UpstreamConnection) -> None:
        """Start the misbehaviour to a new connection."""
        assert connection.request is not None
        self._connections += 1
        if self._misbehaviour.mute:
            connection.mute()
            self._record("mute")
        if self._misbehaviour.deaf:
            background(self._stop_reading(connection))
        session = _session(connection.request) or f"connection {self._connections}"
        if session not in self._met:
            self._met.append(session)
            if self._misbehaviour.close:
                background(self._close(connection, len(self._met)))

    async def _stop_reading(self, connection: UpstreamConnection) -> None:
        await self._until_it_is_time()
        self._record(f"deaf: for {self._misbehaviour.deaf:g} s")
        await connection.deafen(self._misbehaviour.deaf)

    async def _close(self, connection: UpstreamConnection, number: int) -> None:
        await self._until_it_is_time()
        codes = self._misbehaviour.close
        code = codes[(number - 1) % len(codes)]
        self._record(f"close: {code}")
        # A reason for each, to tell which close reached a client.
        await connection.leave(code, f"rude close {number} of {self._name}")

    async def _until_it_is_time(self) -> None:
        await self._begun.wait()
        await asyncio.sleep(self._misbehaviour.after)

    def _record(self, what: str) -> None:
        self._recorder.link(self._name, "rude", asked=True, reason=what)


def _session(request: Request) -> str:
    """Return the id of the session of a handshake, or "" if it names none."""
    return request.headers.get("X-Reconnect-Id") or request.headers.get("X-Connection-Id") or ""
