"""Rude upstreams: any kind of upstream can be told to misbehave as well, with `rude` in a scenario.

| key | what it does |
| --- | --- |
| `reject: [401, 503]` | answers the first handshakes of each session with these statuses, one after the other |
| `reject_again: [404]` | the same with the handshakes of a session that was connected before (`X-Reconnect`) |
| `close: [1000, 1012]` | closes the first connection of each session, with the next of these codes each time |
| `deaf: 1s` | reads nothing from each connection for that long |
| `mute: true` | answers no Ping |
| `after: 1s` | when it closes or is deaf: so long after the traffic has begun |

A session is what the ids in the handshake say; without an id every connection is one of its own. Each deed is in the
history, as an event `rude` whose reason begins with the key.
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
    """Does to the handshakes and connections of one upstream what its misbehaviour say.

    Args:
        misbehaviour: what to do.
        name: what the upstream is called in the history.
        recorder: where each deed is recorded.
        begun: set when the traffic begins.

    """

    def __init__(self, misbehaviour: Misbehaviour, name: str, recorder: EventSink, begun: asyncio.Event) -> None:
        self._misbehaviour = misbehaviour
        self._name = name
        self._recorder = recorder
        self._begun = begun
        self._dials: Counter[tuple[str, bool]] = Counter()
        # The sessions whose first connection has been met, in order.
        self._met: list[str] = []
        self._connections = 0

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Say whether a handshake goes on: None, or the response that rejects it."""
        session, again = _session(request), "X-Reconnect" in request.headers
        statuses = self._misbehaviour.reject_again if again else self._misbehaviour.reject
        number = self._dials[session, again]
        self._dials[session, again] += 1
        if number >= len(statuses):
            return None
        status = HTTPStatus(statuses[number])
        self._did(f"{'reject_again' if again else 'reject'}: {status}")
        return connection.respond(status, json.dumps({"error": "rude", "detail": f"rejected with {status}"}) + "\n")

    def meet(self, connection: UpstreamConnection) -> None:
        """Begin to be rude to a connection that has been made."""
        assert connection.request is not None
        self._connections += 1
        if self._misbehaviour.mute:
            connection.mute()
            self._did("mute")
        if self._misbehaviour.deaf:
            background(self._be_deaf(connection))
        session = _session(connection.request) or f"connection {self._connections}"
        if session not in self._met:
            self._met.append(session)
            if self._misbehaviour.close:
                background(self._close(connection, len(self._met)))

    async def _be_deaf(self, connection: UpstreamConnection) -> None:
        await self._time_has_come()
        self._did(f"deaf: for {self._misbehaviour.deaf:g} s")
        await connection.deafen(self._misbehaviour.deaf)

    async def _close(self, connection: UpstreamConnection, number: int) -> None:
        await self._time_has_come()
        codes = self._misbehaviour.close
        code = codes[(number - 1) % len(codes)]
        self._did(f"close: {code}")
        # A reason for each: so that it shows which close it was that reached a client.
        await connection.leave(code, f"rude close {number} of {self._name}")

    async def _time_has_come(self) -> None:
        await self._begun.wait()
        await asyncio.sleep(self._misbehaviour.after)

    def _did(self, what: str) -> None:
        self._recorder.link(self._name, "rude", asked=True, reason=what)


def _session(request: Request) -> str:
    """Return the id of the session that a handshake belongs to, "" where it names none."""
    return request.headers.get("X-Reconnect-Id") or request.headers.get("X-Connection-Id") or ""
