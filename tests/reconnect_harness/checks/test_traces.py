"""Traces: the way of each message."""

from __future__ import annotations

import pytest

from reconnect_harness.checks.checkers import message_findings
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.checks.traces import traces
from reconnect_harness.history.message import Direction
from tests.reconnect_harness.histories import connected, conversation, history, message

C2U, U2C = Direction


@pytest.mark.parametrize(
    ("arrivals", "flawed"),
    [
        ([1, 2, 3, 4], {}),
        ([1, 3, 4], {2: (Flaw.LOST,)}),
        ([1, 3, 2, 4], {2: (Flaw.REORDERED,)}),
        ([1, 2, 2, 3, 4], {2: (Flaw.DUPLICATED,)}),
        ([1, 2, 3, 4, 9], {9: (Flaw.CORRUPTED,)}),
        ([1, 4, 2, 2], {2: (Flaw.DUPLICATED,), 3: (Flaw.LOST,)}),
    ],
)
def test_each_flaw_has_its_message(arrivals: list[int], flawed: dict[int, tuple[Flaw, ...]]) -> None:
    """Of a message with two traces the last one is looked at."""
    found = {trace.number: trace.flaws for trace in traces(history(*conversation(arrivals, sent=4)))}
    assert {number: flaws for number, flaws in found.items() if flaws} == flawed


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("arrivals", [[1, 2, 3, 4], [], [4, 3, 2, 1], [2, 2, 9, 1, 1, 0], [1, 3, 2, 3, 4]])
def test_flaws_are_those_that_the_checkers_count(arrivals: list[int], direction: Direction) -> None:
    """In either direction."""
    told = history(*conversation(arrivals, sent=4, direction=direction, stream="one"))
    counted = {flaw: sum(1 for trace in traces(told) if flaw in trace.flaws) for flaw in Flaw}
    assert counted == {flaw: finding.value for flaw, finding in message_findings(told, direction).items()}


def test_a_trace_has_its_times_from_the_start_of_the_traffic() -> None:
    """It also has the time that the message took."""
    told = history(*conversation([1], sent=2))
    told.start = 0.5
    came, lost = traces(told)
    assert (came.sent, came.arrived, came.travel) == (0.5, 1.0, 0.5)
    assert (lost.sent, lost.arrived, lost.travel, lost.t) == (1.5, None, None, 1.5)


def test_a_repeated_message_travelled_once() -> None:
    """A repeat has no latency, and does not change the queue."""
    first, again = traces(history(*conversation([1, 1], sent=1)))
    assert (first.first, first.travel) == (True, 0.5)
    assert (again.first, again.travel) == (False, None)


def test_a_message_that_was_never_sent_has_no_beginning() -> None:
    """The trace says so."""
    (stray,) = traces(history(message("received", 7, 3.0)))
    assert (stray.sent, stray.arrived, stray.what) == (None, 3.0, "it was never sent")


def test_a_session_is_named_after_its_client() -> None:
    """What was pushed belongs to the client that got it; what no client got, to its stream."""
    pushed = conversation([1], sent=1, direction=U2C, stream="u1.1")
    unheard = conversation([], sent=1, direction=U2C, stream="u1.2")
    told = history(*conversation([1], sent=1), *pushed, *unheard)
    assert {trace.session for trace in traces(told)} == {"c01", "u1.2"}


def test_what_is_pushed_to_two_clients_travels_twice() -> None:
    """It may be lost at one of them."""
    sent = conversation([], sent=2, direction=U2C, stream="u1.1")
    one = [message("received", n, 5.0 + n, direction=U2C, stream="u1.1", name="c01") for n in (1, 2)]
    other = [message("received", 1, 5.0, direction=U2C, stream="u1.1", name="c02")]
    found = traces(history(*sent, *one, *other, links=connected("c01", "c02"), shared=True))
    assert {(j.session, j.number) for j in found if not j.flaws} == {("c01", 1), ("c01", 2), ("c02", 1)}
    assert [(j.session, j.number) for j in found if j.flaws] == [("c02", 2)]


def test_a_refused_message_is_not_owed() -> None:
    """It is a trace only if it arrived."""
    refused = [message("sent", 1, 1.0), message("refused", 1, 1.1)]
    assert traces(history(*refused)) == []
    assert len(traces(history(*refused, message("received", 1, 2.0)))) == 1
