"""A session that several clients share: which messages are owed to which client."""

from __future__ import annotations

from reconnect_harness.checks.checkers import message_findings
from reconnect_harness.checks.judgement import Finding
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, LinkEvent
from tests.reconnect_harness.histories import conversation, history, message

U2C = Direction.U2C
ALL = range(1, 11)


def _link(name: str, event: str, t: float) -> LinkEvent:
    return LinkEvent(t, End.CLIENT, name, event, asked=True)


def _shared(arrivals: dict[str, list[int]], links: list[LinkEvent]) -> History:
    """Make a history in which message n of the upstream is sent at n seconds, and arrives half a second later."""
    events = [message("sent", number, float(number), direction=U2C, stream="u1.1") for number in ALL]
    for name, numbers in arrivals.items():
        events += [message("received", n, n + 0.5, direction=U2C, stream="u1.1", name=name) for n in numbers]
    made = history(*events, links=sorted(links, key=lambda link: link.t))
    made.shared = True
    return made


def _lost(found: History, direction: Direction) -> Finding:
    return message_findings(found, direction)[Flaw.LOST]


def _numbers(found: Finding, client: str = "") -> list[int]:
    end = f" at {client}" if client else " and never arrived"
    return [round(violation.t) for violation in found.violations if violation.what.endswith(end)]


def test_every_message_is_owed_to_each_connected_client() -> None:
    """If all get all, nothing is lost; what one client misses is lost at this client."""
    there = [_link("c01", "connected", 0), _link("c02", "connected", 0)]
    assert _lost(_shared({"c01": list(ALL), "c02": list(ALL)}, there), U2C).value == 0
    found = _lost(_shared({"c01": list(ALL), "c02": [n for n in ALL if n != 4]}, there), U2C)
    assert _numbers(found, "c02") == [4]
    assert found.value == 1


def test_a_client_that_gets_nothing_is_noticed() -> None:
    """Though the stream has no arrival at this client."""
    there = [_link("c01", "connected", 0), _link("c02", "connected", 0)]
    found = _lost(_shared({"c01": list(ALL)}, there), U2C)
    assert _numbers(found, "c02") == list(ALL)


def test_a_client_is_owed_what_is_sent_while_it_is_connected() -> None:
    """Not what was sent before it connected, nor what may have been in flight when it left; again when it returns."""
    there = [
        _link("c01", "connected", 0),
        _link("c02", "connected", 2.5),
        _link("c02", "disconnected", 5.5),
        _link("c02", "connected", 8.5),
    ]
    assert _lost(_shared({"c01": list(ALL), "c02": [3, 4, 9, 10]}, there), U2C).value == 0
    assert _numbers(_lost(_shared({"c01": list(ALL), "c02": [3, 9]}, there), U2C), "c02") == [4, 10]


def test_a_message_that_arrives_nowhere_is_lost_once() -> None:
    """One client has to get it, though none was connected when it was sent; it is not counted for each client."""
    gap = [
        _link("c01", "connected", 0),
        _link("c01", "disconnected", 4.1),
        _link("c02", "connected", 6.5),
    ]
    found = _lost(_shared({"c01": [1, 2, 3], "c02": [6, 7, 8, 9, 10]}, gap), U2C)
    assert _numbers(found) == [4, 5]
    assert found.value == 2
    assert _lost(_shared({"c01": [1, 2, 3], "c02": [4, 5, 6, 7, 8, 9, 10]}, gap), U2C).value == 0


def test_what_clients_send_is_theirs_alone() -> None:
    """The other direction is judged as in other sessions."""
    found = history(*conversation([1, 2, 4], sent=4), links=[_link("c01", "connected", 0)])
    found.shared = True
    assert _lost(found, Direction.C2U).value == 1
