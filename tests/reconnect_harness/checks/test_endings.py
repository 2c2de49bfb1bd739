"""The checkers of how links end: each of them fails when it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.checks.checkers import breaches, judge, leaks
from reconnect_harness.checks.endings import expectation
from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import MEMORY_KEPT, THREADS_KEPT, End, FaultRecord, Footprint, LinkEvent
from tests.reconnect_harness.histories import conversation, fault, history

ALL = range(1, 11)


def _client(event: str, code: int | None = None, reason: str = "", *, name: str = "c01", **changes: Any) -> LinkEvent:
    return LinkEvent(changes.get("t", 5.0), End.CLIENT, name, event, changes.get("asked", False), code, reason)


def _upstream(
    event: str, code: int | None = None, reason: str = "", *, name: str = "u1.1", asked: bool = False
) -> LinkEvent:
    return LinkEvent(5.0, End.UPSTREAM, name, event, asked, code, reason)


def _wrong(check: str, said: object, *links: LinkEvent, **more: Any) -> list[str]:
    """Return the violations that a checker finds in a history of links."""
    expected = expectation(check, said)
    assert expected.find is not None
    return [violation.what for violation in expected.find(history(links=links, **more)).violations]


UP, GONE = _client("connected", asked=True), _client("disconnected", 1000, "done", asked=True)


def test_clients_that_are_closed_as_expected_are_right() -> None:
    """By code, by code and reason, by one of several."""
    for said in (1014, "1014", "1014 upstream unavailable", [1000, 1014]):
        assert not _wrong("client_close", said, UP, _client("disconnected", 1014, "upstream unavailable"))


@pytest.mark.parametrize(
    ("said", "links", "complaint"),
    [
        (1014, [UP, _client("disconnected", 1006)], "c01 was closed with 1006, rather than with 1014"),
        ("1014 lost", [UP, _client("disconnected", 1014, "gone")], "with 1014 gone, rather than with 1014 lost"),
        (1014, [UP, GONE], "c01 was never closed"),
        (1014, [UP, _client("disconnected", 1014), _client("connected", name="c02")], "c02 was never closed"),
        (1014, [], "there was no client"),
        ({"old": 4000}, [UP, GONE], "there was no link 'old'"),
        ({"old": 4000}, [UP, _client("disconnected", name="c01.old", asked=True)], "with no code, rather than"),
    ],
)
def test_clients_that_are_not_closed_as_expected_are_wrong(
    said: object, links: list[LinkEvent], complaint: str
) -> None:
    """Another code, another reason, no close at all, no client."""
    wrong = _wrong("client_close", said, *links)
    assert len(wrong) == 1
    assert complaint in wrong[0]


def test_links_of_a_label_are_judged_apart() -> None:
    """The client's own conversation and its links with labels are separate."""
    old = _client("disconnected", 4000, "taken over", name="c01.old", asked=True)
    assert not _wrong("client_close", {"old": 4000}, UP, old, GONE)
    assert _wrong("client_close", 4000, UP, old, GONE) == ["client c01 was never closed, rather than with 4000"]


def test_an_upstream_is_judged_by_its_last_connection() -> None:
    """A session that was dialled again does not end with its first connection."""
    up = _upstream("connected", asked=True)
    end = _upstream("disconnected", 4321, "vanished")
    assert not _wrong("upstream_close", 4321, up, _upstream("disconnected", 1006), up, end)
    assert (
        "u1.1 was closed with 1006" in _wrong("upstream_close", 4321, up, end, up, _upstream("disconnected", 1006))[0]
    )
    assert "u1.1 was never closed" in _wrong("upstream_close", 4321, up)[0]
    assert "no upstream connection" in _wrong("upstream_close", 4321)[0]


@pytest.mark.parametrize(
    ("said", "links", "complaints"),
    [
        (401, [_client("unreachable", 401, "no")], []),
        ([401, 404], [_client("unreachable", 401), _client("unreachable", 404)], []),
        ([401, 404], [_client("unreachable", 401)], ["no handshake was refused with 404"]),
        (401, [_client("unreachable", 503)], ["answered with 503", "no handshake was refused with 401"]),
        ({"thief": 403}, [UP, _client("unreachable", 403, name="c01.thief", asked=True)], []),
        (
            {"thief": 403},
            [UP, _client("connected", name="c01.thief")],
            ["c01.thief was let in", "no handshake of thief"],
        ),
        ({"thief": 403}, [UP], ["there was no link 'thief'", "no handshake of thief was refused with 403"]),
    ],
)
def test_handshakes_are_refused_as_expected_or_not(said: object, links: list[LinkEvent], complaints: list[str]) -> None:
    """A client that is let in, or refused otherwise, is a violation; so is a missing client."""
    wrong = _wrong("handshake", said, *links)
    assert len(wrong) == len(complaints)
    assert all(any(complaint in what for what in wrong) for complaint in complaints)


def test_a_close_has_its_time() -> None:
    """Within the span; without a close there is nothing to measure."""
    faults = [fault(4.0, 5.0)]
    for t, wrong in ((4.5, 1), (6.0, 0), (9.0, 1)):
        assert len(_wrong("closed_after", "1s..3s", UP, _client("disconnected", 1014, t=t), faults=faults)) == wrong
    find = expectation("closed_after", "1s..3s").find
    assert find is not None
    assert find(history(links=[UP, GONE], faults=faults)).value is None


def test_final_closes_reach_their_clients() -> None:
    """Each with its code and reason, and only closes that an upstream has sent."""
    said = _upstream("disconnected", 4001, "one", asked=True)
    passing = _upstream("disconnected", 1012, "two", asked=True)
    heard = _client("disconnected", 4001, "one")
    assert not _wrong("passed_on", [4001], said, passing, heard)
    assert "which reached no client" in _wrong("passed_on", [4001], said, passing)[0]
    swallowed = "\n".join(_wrong("passed_on", [4001], said, _client("disconnected", 1000)))
    assert "which reached no client" in swallowed
    assert "no upstream has said" in swallowed
    invented = _client("disconnected", 1012, "three")
    assert "no upstream has said" in _wrong("passed_on", [4001], said, heard, invented)[0]
    passed = _wrong("passed_on", [4001], said, passing, heard, _client("disconnected", 1012, "two"))
    assert ["which is not to be passed on" in what for what in passed] == [True]
    assert "no upstream has closed a connection with 4002" in _wrong("passed_on", [4001, 4002], said, heard)[0]


def test_a_close_without_its_reason_says_so() -> None:
    """In both directions. While a fault is on, a proxy may say what it likes of connections that were lost."""
    said = _upstream("disconnected", 4001, "over", asked=True)
    bare = _client("disconnected", 4001)
    assert "client c01 was closed with 4001, which is the code of its upstream, and the reason was dropped" in _wrong(
        "passed_on", [4001], said, bare
    )
    heard, lost = _client("disconnected", 4001, "over"), _client("disconnected", 1011, "lost")
    assert _wrong("passed_on", [4001], said, heard, lost) == [
        "client c01 was closed with 1011 lost, which no upstream has said"
    ]
    assert not _wrong("passed_on", [4001], said, heard, lost, faults=[fault()])


def test_closes_of_clients_that_reach_their_upstream_are_right() -> None:
    """With code and reason; each of the codes has to occur."""
    left = _client("left", 4001, "c01 leaves", asked=True)
    assert not _wrong("passed_up", [4001], left, _upstream("disconnected", 4001, "c01 leaves"))
    assert _wrong("passed_up", [4001], left, _upstream("disconnected", 1000)) == [
        "client c01 has closed with 4001 c01 leaves, which reached no upstream"
    ]
    assert _wrong("passed_up", [4001], left, _upstream("disconnected", 4001)) == [
        "client c01 has closed with 4001 c01 leaves, which reached an upstream, but the reason was dropped"
    ]
    assert _wrong("passed_up", [4001]) == ["no client has closed its connection with 4001"]


@pytest.mark.parametrize(
    ("check", "said", "complaint"),
    [
        ("client_close", 99, "client_close: 99 is not an ending: write a code from 1000 to 4999"),
        ("client_close", "gone", "'gone' is not an ending"),
        ("client_close", True, "True is not an ending"),
        ("handshake", {"thief": 1014}, "handshake: 1014 is not an ending: write a code from 300 to 599"),
        ("passed_on", [], "the list is empty"),
        ("closed_after", "1s", "is not a span of time"),
    ],
)
def test_a_wrong_ending_is_reported(check: str, said: object, complaint: str) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match=complaint):
        expectation(check, said)


def test_an_ending_decides_the_verdict() -> None:
    """It is one of the checks, by its own name."""
    expected = [expectation("client_close", 1014)]
    for code, verdict in ((1014, Verdict.VALID), (1006, Verdict.INVALID)):
        found = history(*conversation(ALL), links=[UP, _client("disconnected", code)])
        judged = judge(found, expected, [Direction.C2U])
        assert judged.verdict is verdict
        assert "client_close" in [result.check for result in judged.results]


def test_a_breach_is_found() -> None:
    """What an end has seen that the protocol forbids."""
    found = history(links=[_upstream("breach", reason="a message came before the gate was open")])
    assert breaches(found).value == 1
    assert "before the gate" in breaches(found).violations[0].what


BEFORE = Footprint(0.0, "before", 10, 2, 0, 30_000_000, 0)


def _held(after: Footprint) -> History:
    found = history()
    found.footprints += [BEFORE, after._replace(when="after")]
    return found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"files": 11}, "11 open files and sockets, 10 before the clients connected"),
        ({"threads": 3 + THREADS_KEPT}, "threads"),
        ({"children": 1}, "1 processes other than the first"),
        ({"memory": BEFORE.memory + MEMORY_KEPT + 1}, "MB of memory"),
        ({"sessions": 1}, "1 sessions"),
    ],
)
def test_anything_that_there_is_more_of_is_a_leak(more: dict[str, Any], words: str) -> None:
    """One more is enough, except for threads of a pool and memory that an allocator keeps."""
    found = leaks(_held(BEFORE._replace(**more)))
    assert found.value
    assert words in found.violations[0].what


def test_less_than_before_is_no_leak() -> None:
    """Neither is as much, nor a few threads and megabytes more."""
    for after in (
        BEFORE,
        BEFORE._replace(files=5, threads=2 + THREADS_KEPT, memory=BEFORE.memory + MEMORY_KEPT, sessions=None),
    ):
        assert leaks(_held(after)).value == 0


def test_leaks_of_what_was_not_measured_are_unknown() -> None:
    """A system that is not a process of ours cannot be measured."""
    assert leaks(history()).value is None


def test_what_was_held_is_in_the_file_of_the_run(tmp_path: Path) -> None:
    """So that its report can be made again."""
    _held(BEFORE._replace(files=11)).write(tmp_path / "history.jsonl")
    again = History.read(tmp_path / "history.jsonl")
    assert again.footprints == [BEFORE, BEFORE._replace(when="after", files=11)]
    assert leaks(again).value == 1


@pytest.mark.parametrize(
    ("asked", "code", "faults", "value"),
    [
        (True, 1006, [], 1),
        (True, 1000, [], 0),
        (False, 1006, [], 0),
        # A lost link cannot answer.
        (True, 1006, [fault(3.0, 4.5)], 0),
        (True, 1006, [fault(1.0, 2.0)], 1),
    ],
)
def test_a_close_frame_has_to_be_answered(asked: bool, code: int, faults: list[FaultRecord], value: int) -> None:
    """While there is a link that can."""
    link = LinkEvent(5.0, End.CLIENT, "c01", "disconnected", asked, code, "no close frame received")
    found = breaches(history(links=[link], faults=faults))
    assert found.value == value
    assert all("c01: its close frame was not answered" in violation.what for violation in found.violations)
