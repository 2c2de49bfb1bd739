"""What of the handshakes of clients arrives, by records of both ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconnect_harness.checks.handshakes import handshake_changes
from reconnect_harness.history.record import End, LinkEvent
from tests.reconnect_harness.histories import conversation, history

SENT: dict[str, Any] = {
    "path": "/rooms/c01?token=a%20b",
    "subprotocols": ["chat.v2", "chat.v1"],
    "chosen": "chat.v2",
    "headers": [["Cookie", "session=c01; theme=dark"], ["X-Tenant", "north"]],
}

#: As a proxy may pass it on: other cases, one cookie a line, more headers.
ARRIVED: dict[str, Any] = {
    **SENT,
    "headers": [["cookie", "theme=dark"], ["cookie", "session=c01"], ["x-tenant", "north"], ["X-Forwarded-For", "::1"]],
}


def _shaken(end: End, name: str, t: float, fields: dict[str, Any]) -> LinkEvent:
    return LinkEvent(t, end, name, "handshake", True, None, json.dumps(fields))


def _found(*arrived: dict[str, Any], owner: str = "c01", shared: bool = False) -> list[str]:
    """Return what is found if client c01 sends `SENT`, and these handshakes arrive at u1.1, one after the other."""
    links = [_shaken(End.CLIENT, "c01", 0.0, SENT)]
    links += [_shaken(End.UPSTREAM, "u1.1", float(t), fields) for t, fields in enumerate(arrived, 1)]
    messages = conversation([1, 2], 2, stream=owner, session="u1.1")
    return [
        violation.what for violation in handshake_changes(history(*messages, links=links, shared=shared)).violations
    ]


def test_what_arrives_as_it_was_sent_is_right() -> None:
    """Cookies may come in other lines and another order, and a proxy may add headers."""
    assert _found(ARRIVED, ARRIVED) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"path": "/?token=a%20b"}, "its path /rooms/c01 was changed to /"),
        ({"path": "/rooms/c01"}, "its query ?token=a%20b was dropped"),
        ({"path": "/rooms/c01?token=a+b"}, "its query ?token=a%20b was changed to ?token=a+b"),
        ({"subprotocols": ["chat.v2"]}, "its subprotocol chat.v1 was dropped"),
        ({"headers": [["Cookie", "theme=dark"], ["X-Tenant", "north"]]}, "its cookie session was dropped"),
        (
            {"headers": [["Cookie", "session=c02; theme=dark"], ["X-Tenant", "north"]]},
            "its cookie session=c01 was changed to c02",
        ),
        ({"headers": [["Cookie", "session=c01; theme=dark"]]}, "its header x-tenant was dropped"),
        (
            {"headers": [["Cookie", "session=c01; theme=dark"], ["X-Tenant", "south"]]},
            "its header x-tenant: north was changed to south",
        ),
    ],
)
def test_what_is_dropped_or_changed_is_named(changes: dict[str, Any], what: str) -> None:
    """At first; and again, with the words for it."""
    assert _found({**ARRIVED, **changes}) == [f"the handshake of client c01: {what} on its way to the upstream"]
    if "subprotocols" not in changes:
        again = f"the handshake of client c01: {what} when its upstream was dialled again"
        assert _found(ARRIVED, {**ARRIVED, **changes}) == [again]


def test_a_redial_offers_what_was_chosen() -> None:
    """Another subprotocol would be wrong for the client by then."""
    assert _found(ARRIVED, {**ARRIVED, "subprotocols": ["chat.v2"]}) == []
    (what,) = _found(ARRIVED, {**ARRIVED, "subprotocols": ["chat.v1"], "chosen": "chat.v1"})
    assert "its subprotocol chat.v2 was dropped when its upstream was dialled again" in what


def test_the_chosen_subprotocol_has_to_come_back() -> None:
    """The client was told one that its upstream does not speak."""
    (what,) = _found({**ARRIVED, "chosen": "chat.v1"})
    assert what.endswith("its upstream has chosen the subprotocol chat.v1, and the client was told chat.v2")


@pytest.mark.parametrize("options", [{"owner": "c02"}, {"shared": True}])
def test_a_handshake_of_another_client_is_not_compared(options: dict[str, Any]) -> None:
    """Nor that of a session which several clients share: it is that of one of them."""
    assert _found({**ARRIVED, "path": "/"}, **options) == []
