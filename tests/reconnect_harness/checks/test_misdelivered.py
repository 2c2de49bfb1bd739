"""A message that arrives at another client, or in another client's session, or comes back, is misdelivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconnect_harness.checks.checkers import judge, message_findings
from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.checks.traces import traces
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, MessageEvent
from reconnect_harness.scenario.expect import expectations
from tests.reconnect_harness.histories import connected, history, message

C2U, U2C = Direction
CLIENTS = ("c01", "c02")
NUMBERS = range(1, 6)


def _said(arrives: dict[str, str]) -> list[MessageEvent]:
    """Each client sends five messages; `arrives` has the session in which those of a client arrive."""
    sent = [message("sent", n, n, stream=c, name=c) for c in CLIENTS for n in NUMBERS]
    came = [message("received", n, n + 0.1, stream=c, session=arrives[c]) for c in CLIENTS for n in NUMBERS]
    return sent + came


def _pushed(arrives: dict[str, str]) -> list[MessageEvent]:
    """Each session pushes five messages; `arrives` has the client at which those of a session arrive."""
    sent = [message("sent", n, n, direction=U2C, stream=s) for s in arrives for n in NUMBERS]
    came = [
        message("received", n, n + 0.1, direction=U2C, stream=s, name=c) for s, c in arrives.items() for n in NUMBERS
    ]
    return sent + came


def _counts(found: History, direction: Direction) -> dict[Flaw, float | None]:
    return {flaw: each.value for flaw, each in message_findings(found, direction).items() if each.value}


OWN = {"c01": "u1.1", "c02": "u1.2"}
BACK = {"u1.1": "c01", "u1.2": "c02"}
CROSSED = {"u1.1": "c02", "u1.2": "c01"}


def test_what_belongs_together_is_valid() -> None:
    """The control: sessions and clients as they are."""
    found = history(*_said(OWN), *_pushed(BACK))
    judged = judge(found, expectations({"lost": 0}), list(Direction))
    assert judged.verdict is Verdict.VALID, judged


def test_a_proxy_that_delivers_every_message_to_the_wrong_client_is_invalid() -> None:
    """What the clients say is in the right sessions, which tells whose the answers are."""
    found = history(*_said(OWN), *_pushed(CROSSED))
    assert not _counts(found, C2U)
    assert _counts(found, U2C) == {Flaw.MISDELIVERED: 10, Flaw.LOST: 10}
    said = message_findings(found, U2C)[Flaw.MISDELIVERED].violations[0].what
    assert "was misdelivered: it arrived at c02" in said
    judged = judge(found, expectations({"client_disconnects": 0}), list(Direction))
    assert [each.label for each in judged.results if each.verdict is Verdict.INVALID] == ["misdelivered u2c"]


def test_a_message_in_the_session_of_another_client_is_misdelivered() -> None:
    """The session belongs to the client that says most in it."""
    stray = message("received", 6, 6.1, stream="c01", session="u1.2")
    found = history(*_said(OWN), message("sent", 6, 6.0, stream="c01", name="c01"), stray)
    assert _counts(found, C2U) == {Flaw.MISDELIVERED: 1, Flaw.LOST: 1}
    said = message_findings(found, C2U)[Flaw.MISDELIVERED].violations[0].what
    assert "it arrived at u1 in a session of c02" in said


@pytest.mark.parametrize("said", [_said(OWN), []])
def test_a_wrong_receiver_is_owed_nothing(said: list[MessageEvent]) -> None:
    """One message too many at the other client: it is misdelivered, and nothing is lost."""
    stray = message("received", 3, 6.1, direction=U2C, stream="u1.1", name="c02")
    assert _counts(history(*said, *_pushed(BACK), stray), U2C) == {Flaw.MISDELIVERED: 1}


def test_an_echo_belongs_to_the_client_that_sent_it() -> None:
    """Its stream is that of the client."""
    sent = [message("sent", n, n + 0.2, direction=U2C, stream="c01") for n in NUMBERS]
    came = [message("received", n, n + 0.3, direction=U2C, stream="c01", name="c02") for n in NUMBERS]
    assert _counts(history(*_said(OWN), *sent, *came), U2C) == {Flaw.MISDELIVERED: 5, Flaw.LOST: 5}


@pytest.mark.parametrize(
    ("back", "direction"),
    [
        (message("received", 2, 6.1, direction=U2C, stream="c01", name="c01"), U2C),
        (message("received", 2, 6.1, stream="u1.1", session="u1.1"), C2U),
    ],
)
def test_a_message_that_comes_back_is_misdelivered(back: MessageEvent, direction: Direction) -> None:
    """It is not one of the other direction that was never sent."""
    found = history(*_said(OWN), *_pushed(BACK), back)
    assert _counts(found, direction) == {Flaw.MISDELIVERED: 1}
    assert "it came back" in message_findings(found, direction)[Flaw.MISDELIVERED].violations[0].what
    assert [trace.what for trace in traces(found) if trace.flaws] == ["it was misdelivered"]


def test_clients_that_share_a_session_may_all_receive_it() -> None:
    """Those of a receiver."""
    found = history(*_pushed({"u1.1": "c01"}), *_pushed({"u1.1": "c02"}), links=connected(*CLIENTS), shared=True)
    assert not _counts(found, U2C)


def test_a_client_may_have_several_sessions() -> None:
    """An ordinary server has another one after each redial, and another upstream too."""
    later = [
        message("sent", 6, 6.0, stream="c01", name="c01"),
        message("received", 6, 6.1, stream="c01", name="u2", session="u2.1"),
    ]
    assert not _counts(history(*_said(OWN), *later), C2U)


def test_the_session_of_a_message_is_kept_in_the_file(tmp_path: Path) -> None:
    """A history that is read again gives the same verdict."""
    found = history(*_said(OWN), *_pushed(CROSSED))
    found.write(tmp_path / "history.jsonl")
    again = History.read(tmp_path / "history.jsonl")
    assert _counts(again, U2C) == _counts(found, U2C)
    assert {event.session for event in again.messages if event.end is End.UPSTREAM and event.event == "received"} == {
        "u1.1",
        "u1.2",
    }
