"""Checkers: each of them fails when it should."""

from __future__ import annotations

import math

import pytest

from reconnect_harness.checks.checkers import RUN_CHECKERS, client_disconnects, judge, message_findings
from reconnect_harness.checks.judgement import Expectation, Finding, Verdict, is_timed
from reconnect_harness.checks.recovery import recovery_times
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, FaultRecord, Footprint, LinkEvent
from tests.reconnect_harness.histories import connected, conversation, fault, history, message

ALL = range(1, 11)
U2C = Direction.U2C
EXPECTED = [
    Expectation(check, Direction.C2U, 0.0) for check in ("lost", "reordered", "duplicated", "corrupted", "misdelivered")
]


def _find(flaw: Flaw, found: History, direction: Direction) -> Finding:
    return message_findings(found, direction)[flaw]


def _verdicts(found: History) -> dict[str, Verdict]:
    judged = judge(found, EXPECTED, [Direction.C2U])
    return {result.check: result.verdict for result in judged.results if result.direction is Direction.C2U}


def test_a_whole_conversation_is_valid() -> None:
    """Every message once and in order: nothing is found."""
    judged = judge(history(*conversation(ALL)), EXPECTED, [Direction.C2U])
    assert judged.verdict is Verdict.VALID
    assert not judged.doubts
    assert all(not result.violations for result in judged.results if not is_timed(result.check))


@pytest.mark.parametrize(
    ("arrivals", "check", "number"),
    [
        ([1, 2, 3, 4, 6, 7, 8, 9, 10], "lost", 5),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], "lost", 10),
        ([1, 2, 4, 3, 5, 6, 7, 8, 9, 10], "reordered", 3),
        ([1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10], "duplicated", 5),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2], "duplicated", 2),
        ([*ALL, 11], "corrupted", 11),
    ],
)
def test_one_wrong_message_is_one_finding(arrivals: list[int], check: str, number: int) -> None:
    """A message that is dropped, swapped, repeated or invented fails its own check, which names it, and no other."""
    found = history(*conversation(arrivals))
    verdicts = _verdicts(found)
    assert [name for name, verdict in verdicts.items() if verdict is Verdict.INVALID] == [check]
    result = next(r for r in judge(found, EXPECTED, [Direction.C2U]).results if r.check == check)
    assert result.value == 1
    assert f"c2u c01 number {number} " in result.violations[0].what


def test_order_is_judged_without_repeats() -> None:
    """A message that is sent again after it has arrived does not break the order."""
    found = history(*conversation([1, 2, 3, 4, 3, 4, 5, 6, 7, 8, 9, 10]))
    assert _find(Flaw.REORDERED, found, Direction.C2U).value == 0
    assert _find(Flaw.DUPLICATED, found, Direction.C2U).value == 2


def test_a_message_that_arrives_changed_is_corrupted() -> None:
    """The violation says what is wrong; the message does not count as lost too."""
    events = conversation([1, 2, 4, 5, 6, 7, 8, 9, 10])
    found = history(*events, message("received", 3, 3.5, wrong="truncated: 20 of 100 bytes came"))
    assert "truncated" in _find(Flaw.CORRUPTED, found, Direction.C2U).violations[0].what
    assert _find(Flaw.LOST, found, Direction.C2U).value == 0


def test_an_unreadable_message_is_corrupted_and_breaks_no_order() -> None:
    """It has no number that could be compared."""
    found = history(*conversation(ALL), message("received", 0, 3.6, stream="?", wrong="no readable header: b'x'"))
    assert _find(Flaw.CORRUPTED, found, Direction.C2U).value == 1
    assert _find(Flaw.REORDERED, found, Direction.C2U).value == 0


def test_a_refused_message_may_arrive_or_not() -> None:
    """Whether a message that the socket refused has arrived is unknown."""
    refused = message("refused", 10, 10.1)
    assert _find(Flaw.LOST, history(*conversation(range(1, 10)), refused), Direction.C2U).value == 0
    both = history(*conversation(ALL), refused)
    assert _find(Flaw.LOST, both, Direction.C2U).value == 0
    assert _find(Flaw.CORRUPTED, both, Direction.C2U).value == 0


def test_a_stream_without_a_receiver_is_lost_once() -> None:
    """Ten messages without a receiver are ten lost messages."""
    assert _find(Flaw.LOST, history(*conversation([])), Direction.C2U).value == 10


def test_each_client_of_a_stream_has_to_get_all_of_it() -> None:
    """Two clients attached to one session: what one of them misses is lost, and the other does not make up for it."""
    u2c = Direction.U2C
    events = conversation(ALL, direction=u2c, stream="u1.1")
    second = [
        message("received", number, number + 0.6, direction=u2c, stream="u1.1", name="c02")
        for number in ALL
        if number != 4
    ]
    shared = history(*events, *second, links=connected("c01", "c02"), shared=True)
    found = _find(Flaw.LOST, shared, u2c)
    assert found.value == 1
    assert "number 4 " in found.violations[0].what
    assert "c02" in found.violations[0].what


def test_directions_are_judged_apart() -> None:
    """A loss in one direction does not count in the other."""
    found = history(*conversation(ALL), *conversation([1, 2], direction=Direction.U2C, stream="u1.1"))
    assert _find(Flaw.LOST, found, Direction.C2U).value == 0
    assert _find(Flaw.LOST, found, Direction.U2C).value == 8


def test_only_an_end_that_a_client_did_not_ask_for_is_a_disconnect() -> None:
    """Its own close does not count; a close by the other side and a failed handshake do."""
    links = [
        LinkEvent(0.0, End.CLIENT, "c01", "connected", True),
        LinkEvent(1.0, End.CLIENT, "c01", "disconnected", False, 1006),
        LinkEvent(2.0, End.CLIENT, "c01", "unreachable", False, 503),
        LinkEvent(3.0, End.CLIENT, "c02", "disconnected", True, 1000),
        LinkEvent(3.0, End.UPSTREAM, "u1.1", "disconnected", False, 1006),
    ]
    found = client_disconnects(history(links=links))
    assert found.value == 2
    assert ["1006" in found.violations[0].what, "503" in found.violations[1].what] == [True, True]


def test_recovery_is_from_the_end_of_a_fault_to_the_next_arrival() -> None:
    """One measurement for each fault and stream."""
    times = recovery_times(history(*conversation(ALL), faults=[fault(4.0, 5.25), fault(7.0, 7.4)]))
    assert [seconds for seconds, _ in times] == pytest.approx([0.1, 0.25])


def test_a_stream_that_stays_dead_never_recovers() -> None:
    """If messages that were sent after the fault never arrive, the recovery time is infinite."""
    found = history(*conversation([1, 2, 3]), faults=[fault()])
    assert [seconds for seconds, _ in recovery_times(found)] == [math.inf]
    judged = judge(found, [Expectation("recovery_p99", None, 60.0)], [Direction.C2U])
    assert judged.verdict is Verdict.INVALID


def test_a_client_that_gets_another_stream_has_recovered() -> None:
    """An ordinary server begins a stream anew on a new connection: later faults say nothing about the first one."""
    streams = [
        message("received", 1, t, direction=U2C, stream=stream)
        for t, stream in ((1.0, "u1.1"), (5.2, "u1.2"), (9.3, "u1.3"))
    ]
    found = history(*streams, faults=[fault(4.0, 5.0), fault(8.0, 9.0)])
    assert [seconds for seconds, _ in recovery_times(found)] == pytest.approx([0.2, 0.3])


def test_a_slow_client_is_not_hidden_by_a_fast_one() -> None:
    """Where one stream goes to several clients, each of them has to recover."""
    sent = [message("sent", number, 4.0 + number, direction=U2C, stream="u1.1") for number in (1, 2)]
    fast = [message("received", number, 4.5 + number, direction=U2C, stream="u1.1") for number in (1, 2)]
    slow = message("received", 1, 4.9, direction=U2C, stream="u1.1", name="c02")
    found = history(*sent, *fast, slow, faults=[fault(4.0, 5.2)])
    assert [seconds for seconds, _ in recovery_times(found)] == pytest.approx([0.3, math.inf])


def test_a_stream_that_had_ended_is_not_asked_to_recover() -> None:
    """A fault after the last message says nothing about recovery."""
    assert recovery_times(history(*conversation(ALL), faults=[fault(11.6, 12.0)])) == []


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        (history(), "no message was sent c2u"),
        (history(*conversation([])), "no message arrived c2u"),
        (history(*conversation(ALL), faults=[fault(None, None, "refused")]), "never took hold: refused"),
        (history(*conversation(ALL), faults=[fault(4.0, 5.0, "stuck")]), "could not be ended: stuck"),
        (history(*conversation(ALL), faults=[fault(20.0, 21.0)]), "was on while nothing was being sent"),
    ],
)
def test_a_run_that_proves_nothing_is_unknown(found: History, doubt: str) -> None:
    """A doubt says that there was no traffic, or that a fault had no effect."""
    judged = judge(found, [Expectation("duplicated", Direction.C2U, 0.0)], [Direction.C2U])
    assert judged.verdict is Verdict.UNKNOWN
    assert any(doubt in line for line in judged.doubts)


def test_a_bound_on_what_was_not_measured_is_unknown() -> None:
    """A recovery time without a fault cannot be within its bound."""
    judged = judge(history(*conversation(ALL)), [Expectation("recovery_p99", None, 1.0)], [Direction.C2U])
    assert judged.verdict is Verdict.UNKNOWN


def test_a_loss_outweighs_a_doubt() -> None:
    """A loss makes the run invalid, also if a fault never took hold."""
    found = history(*conversation([1, 2, 3]), faults=[fault(None, None)])
    assert judge(found, EXPECTED, [Direction.C2U]).verdict is Verdict.INVALID


def test_what_is_only_reported_does_not_decide() -> None:
    """A checker without a bound has a value, but no verdict."""
    judged = judge(history(*conversation([1, 2, 3])), [Expectation("lost", Direction.C2U, None)], [Direction.C2U])
    assert judged.verdict is Verdict.VALID
    assert next(r.value for r in judged.results if r.check == "lost") == 7


def test_a_bound_may_be_reached() -> None:
    """At most three lost means that three are allowed, and four are not."""
    found = history(*conversation(range(1, 8)))
    for bound, verdict in ((3.0, Verdict.VALID), (2.0, Verdict.INVALID)):
        judged = judge(found, [Expectation("lost", Direction.C2U, bound)], [Direction.C2U])
        assert judged.verdict is verdict


def test_a_later_doubt_makes_a_valid_run_unknown() -> None:
    """It leaves an invalid run invalid."""
    valid = judge(history(*conversation(ALL)), EXPECTED, [Direction.C2U])
    assert valid.doubted("the proxy has died").verdict is Verdict.UNKNOWN
    invalid = judge(history(*conversation([1])), EXPECTED, [Direction.C2U])
    assert invalid.doubted("the proxy has died").verdict is Verdict.INVALID


def test_echoes_are_judged_against_what_the_clients_sent() -> None:
    """With a service that is not ours, a client's message is lost when it does not come back."""
    sent = [message("sent", number, float(number)) for number in ALL]
    back = [message("received", n, n + 0.5, direction=Direction.U2C, name="c01") for n in ALL if n != 6]
    found = history(*sent, *back, echoed=True)
    assert _find(Flaw.LOST, found, Direction.U2C).value == 1
    assert _find(Flaw.CORRUPTED, found, Direction.U2C).value == 0


@pytest.mark.parametrize(
    ("check", "seconds"), [("latency_p50", 0.5), ("latency_p90", 0.5), ("latency_p99", 3.5), ("latency_max", 3.5)]
)
def test_latency_is_from_sending_to_the_first_arrival(check: str, seconds: float) -> None:
    """Repeats and losses do not count; the slowest messages are named."""
    # Number 7 comes three seconds late, number 1 twice, and number 3 not at all.
    sent = [message("sent", number, float(number)) for number in range(1, 13)]
    arrivals = [(number, number + 3.5 if number == 7 else number + 0.5) for number in range(1, 13) if number != 3]
    found = history(*sent, *(message("received", number, t) for number, t in [*arrivals, (1, 12.9)]))
    assert RUN_CHECKERS[check](found).value == pytest.approx(seconds)
    assert "number 7" in RUN_CHECKERS[check](found).violations[0].what


def test_a_bound_on_latency_without_messages_is_unknown() -> None:
    """Nothing arrived, so nothing was late."""
    judged = judge(history(*conversation([])), [Expectation("latency_p50", None, 1.0)], [Direction.C2U])
    assert judged.verdict is Verdict.UNKNOWN


def _repeated(sent: float, again: float, *faults: FaultRecord) -> Finding:
    """Return the age of a message that was sent at `sent`, arrived a moment later, and once more at `again`."""
    events = [message("sent", 7, sent), message("received", 7, sent + 0.01), message("received", 7, again)]
    return RUN_CHECKERS["repeat_age"](history(*events, faults=faults))


@pytest.mark.parametrize(("sent", "age"), [(3.89, 0.1), (1.99, 2.0), (3.995, 0.0)])
def test_the_age_of_a_repeat_is_that_at_the_fault(sent: float, age: float) -> None:
    """However long it took to repeat it. What was sent while the fault was taking hold has no age yet."""
    found = _repeated(sent, 6.0, fault(4.0, 5.0), fault(5.5, 5.6))
    assert found.value == pytest.approx(age)
    assert f"number 7 arrived again, sent {age:.3f} s before a fault" in found.violations[0].what


@pytest.mark.parametrize("faults", [[], [fault(2.0, 2.5)], [fault(6.5, 7.0)], [fault(None)]])
def test_a_repeat_that_no_fault_explains_is_of_infinite_age(faults: list[FaultRecord]) -> None:
    """There was none, or it was before the sending, after the repeat, or never took hold."""
    assert _repeated(3.0, 6.0, *faults).value == math.inf


def test_without_repeats_their_age_is_zero() -> None:
    """That is what a bound asks for, and not that nothing could be measured."""
    assert RUN_CHECKERS["repeat_age"](history(*conversation(ALL))).value == 0.0


def test_memory_is_the_most_above_what_there_was_before() -> None:
    """At any time of the run; without a measurement there is no value."""
    found = history(*conversation(ALL))
    assert RUN_CHECKERS["memory"](found).value is None
    for t, when, size in ((0.0, "before", 40), (1.0, "during", 90), (2.0, "during", 70), (3.0, "after", 50)):
        found.footprints.append(Footprint(t, when, 10, 1, 0, size * 1_000_000))
    finding = RUN_CHECKERS["memory"](found)
    assert finding.value == 50e6
    assert [(violation.t, violation.what) for violation in finding.violations] == [
        (1.0, "90 MB of memory, and 40 MB before they came")
    ]
