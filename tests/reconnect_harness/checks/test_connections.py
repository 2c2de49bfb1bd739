"""What is lost or late within one connection, which no lost connection explains."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from reconnect_harness.checks.connections import within_connection
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, LinkEvent
from tests.reconnect_harness.histories import conversation, history


def _links(name: str, *moments: tuple[float, str], end: End = End.CLIENT) -> list[LinkEvent]:
    return [LinkEvent(t, end, name, event, True) for t, event in moments]


def _found(arrivals: Iterable[int], *moments: tuple[float, str]) -> list[str]:
    """Return what is found where c01 sends message n at n seconds, and has these links."""
    found = within_connection(history(*conversation(arrivals), links=_links("c01", *moments)))
    assert found.value == len(found.violations)
    return [violation.what for violation in found.violations]


ONE = ((0.0, "connected"),)
TWO = ((0.0, "connected"), (5.5, "disconnected"), (5.6, "connected"))


def test_all_in_order_is_right() -> None:
    """The control."""
    assert _found(range(1, 11), *ONE) == []


def test_the_end_of_a_connection_may_be_lost_with_it() -> None:
    """Numbers 4 and 5 were under way when the first connection was lost."""
    assert _found([1, 2, 3, 6, 7, 8, 9, 10], *TWO) == []


def test_a_message_is_lost_while_connected_if_a_later_one_of_its_connection_arrives() -> None:
    """The same numbers, and no connection was lost."""
    assert _found([1, 2, 3, 6, 7, 8, 9, 10], *ONE) == [
        "c2u c01 number 4 (text, 100 bytes) never arrived, though number 6, which was sent after it on the same "
        "connection, did",
        "c2u c01 number 5 (text, 100 bytes) never arrived, though number 6, which was sent after it on the same "
        "connection, did",
    ]


def test_the_beginning_of_a_connection_is_not_lost_with_the_one_before() -> None:
    """Number 6 was sent on the second connection."""
    (what,) = _found([1, 2, 3, 4, 5, 7, 8, 9, 10], *TWO)
    assert "number 6 " in what


@pytest.mark.parametrize(("links", "count"), [(ONE, 1), (TWO, 0)])
def test_order_holds_within_a_connection_only(links: tuple[tuple[float, str], ...], count: int) -> None:
    """Number 5 may still be on its way while the next connection carries number 6."""
    late = _found([1, 2, 3, 4, 6, 5, 7, 8, 9, 10], *links)
    assert len(late) == count
    assert all("number 5 (text, 100 bytes) arrived later, though number 6" in what for what in late)


def test_what_was_sent_while_there_were_two_connections_is_left_out() -> None:
    """An upstream may have the old and the new connection of a session, and send each message on either."""
    overlap = _links("u1.1", (0.0, "connected"), (3.5, "connected"), (7.5, "disconnected"), end=End.UPSTREAM)
    sent = {"direction": Direction.U2C, "stream": "u1.1"}
    assert within_connection(history(*conversation([1, 2, 3, 7, 8, 9, 10], **sent), links=overlap)).value == 0
    (lost,) = within_connection(history(*conversation([1, 3, 7, 8, 9, 10], **sent), links=overlap)).violations
    assert "number 2 " in lost.what


def test_it_is_not_known_where_a_message_has_several_receivers() -> None:
    """A client that comes later has not lost what was sent before."""
    shared = History(0.0, conversation([1, 3]), _links("c01", *ONE), shared=True)
    assert within_connection(shared).value is None
