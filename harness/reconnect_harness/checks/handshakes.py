"""What of the handshakes of clients has arrived at their upstreams, at first and after each redial.

Only clients whose scenario gives them a `handshake` are judged. Their path with its query, their subprotocols, cookies
and other headers have to arrive as they were sent, and the subprotocol that the upstream has chosen has to come back.
When the upstream is dialled again, the chosen subprotocol may be the only one that is offered. Whose handshake it is
that arrives follows from the messages of its session (`History.owners`), not from what the handshake says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Self

from reconnect_harness.checks.judged import owner_of
from reconnect_harness.checks.judgement import Finding, Violation
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, LinkEvent


class _Handshake(NamedTuple):
    """What a record of `peers.handshake` says. Names of headers are in lower case."""

    t: float
    name: str
    path: str
    query: str
    subprotocols: Sequence[str]
    chosen: str | None
    headers: Mapping[str, list[str]]

    @classmethod
    def of(cls, event: LinkEvent) -> Self:
        fields = json.loads(event.reason)
        path, _, query = fields["path"].partition("?")
        headers: dict[str, list[str]] = {}
        for name, value in fields["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        return cls(event.t, event.name, path, query, fields["subprotocols"], fields["chosen"], headers)


def handshake_changes(history: History) -> Finding:
    """Find what of the clients' handshakes was dropped or changed on its way to their upstreams."""
    made = [(event.end, _Handshake.of(event)) for event in history.links if event.event == "handshake"]
    sent = {handshake.name: handshake for end, handshake in made if end is End.CLIENT}
    owners = _owners(history)
    seen: set[str] = set()
    violations = []
    for end, arrived in made:
        client = owners.get(arrived.name, "")
        if end is not End.UPSTREAM or history.shared or client not in sent:
            continue
        again = client in seen
        when = "when its upstream was dialled again" if again else "on its way to the upstream"
        seen.add(client)
        for what in _differences(sent[client], arrived, again=again):
            violations.append(Violation(arrived.t, f"the handshake of client {client}: {what} {when}"))
    violations += _not_chosen(sent, [handshake for end, handshake in made if end is End.UPSTREAM], owners)
    return Finding.counted(violations)


def _owners(history: History) -> dict[str, str]:
    """Return the client of each session of an upstream, where messages show it."""
    found = {stream.name: owner_of(history, stream) for stream in history.streams[Direction.U2C]}
    return {**found, **history.owners}


def _differences(sent: _Handshake, arrived: _Handshake, *, again: bool) -> Iterator[str]:
    if arrived.path != sent.path:
        yield f"its path {sent.path} was changed to {arrived.path}"
    if arrived.query != sent.query:
        how = f"was changed to ?{arrived.query}" if arrived.query else "was dropped"
        yield f"its query ?{sent.query} {how}" if sent.query else f"a query ?{arrived.query} was added"
    # When one has been chosen for the client, another must not be chosen any more.
    needed = [sent.chosen] if again and sent.chosen else sent.subprotocols
    for name in needed:
        if name not in arrived.subprotocols:
            yield f"its subprotocol {name} was dropped"
    for name, values in sent.headers.items():
        if name == "cookie":
            yield from _cookie_differences(values, arrived.headers.get(name, []))
        elif name not in arrived.headers:
            yield f"its header {name} was dropped"
        elif not set(values) <= set(arrived.headers[name]):
            yield f"its header {name}: {', '.join(values)} was changed to {', '.join(arrived.headers[name])}"


def _cookie_differences(sent: Sequence[str], arrived: Sequence[str]) -> Iterator[str]:
    there = _cookies(arrived)
    for name, value in _cookies(sent).items():
        if name not in there:
            yield f"its cookie {name} was dropped"
        elif there[name] != value:
            yield f"its cookie {name}={value} was changed to {there[name]}"


def _cookies(lines: Sequence[str]) -> dict[str, str]:
    pairs = (pair.strip().partition("=") for line in lines for pair in line.split(";"))
    return {name: value for name, _, value in pairs}


def _not_chosen(
    sent: Mapping[str, _Handshake], arrived: Sequence[_Handshake], owners: Mapping[str, str]
) -> Iterator[Violation]:
    """Yield the clients that were told another subprotocol than their upstream has chosen."""
    for client, handshake in sent.items():
        chosen = {each.chosen for each in arrived if owners.get(each.name) == client} - {None}
        if chosen and handshake.chosen not in chosen:
            told = handshake.chosen or "none"
            which = " or ".join(map(str, sorted(filter(None, chosen))))
            what = f"its upstream has chosen the subprotocol {which}, and the client was told {told}"
            yield Violation(handshake.t, f"the handshake of client {client}: {what}")
