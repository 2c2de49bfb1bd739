"""What the report draws, as numbers."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest

from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.checks.traces import Trace, traces
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, FaultRecord, LinkEvent
from reconnect_harness.report import chart as pictures
from reconnect_harness.report.chart import picture, recoveries, sample
from tests.reconnect_harness.histories import conversation, fault, history, message

C2U, U2C = Direction


def _picture(told: History) -> dict[str, Any]:
    drawn = picture(told, traces(told), proxied=True)
    again: dict[str, Any] = json.loads(json.dumps(drawn, allow_nan=False))
    return again


def _traces(count: int, session: str = "c01", *flaws: Flaw) -> list[Trace]:
    return [Trace(session, C2U, n, 100, float(n), n + 0.5, flaws) for n in range(1, count + 1)]


def test_a_session_is_columns_that_add_up_to_its_messages() -> None:
    """Departures and numbers as differences; a lost message travels for -1."""
    (session,) = _picture(history(*conversation([1, 2, 4], sent=4)))["sessions"]
    columns = session["c2u"]
    assert session["name"] == "c01"
    assert [round(sent * pictures.UNIT, 5) for sent in itertools.accumulate(columns["sent"])] == [1.0, 2.0, 3.0, 4.0]
    assert list(itertools.accumulate(columns["number"])) == [1, 2, 3, 4]
    assert [round(travel * pictures.UNIT, 5) for travel in columns["travel"][:2]] == [0.5, 0.5]
    assert columns["travel"][2] == -1
    assert columns["size"] == [100, 100, 100, 100]
    assert columns["flaws"] == [[2, "l", 1]]


def test_a_message_that_was_never_sent_is_marked() -> None:
    """It is drawn where it arrived."""
    (session,) = _picture(history(message("received", 7, 3.0)))["sessions"]
    assert session["c2u"]["sent"] == [round(3.0 / pictures.UNIT)]
    assert session["c2u"]["flaws"] == [[0, "c", 0]]


def test_only_directions_that_flow_are_plotted() -> None:
    """The other one has no series."""
    drawn = _picture(history(*conversation([1, 2])))
    for name in ("depth", "latency", "sent", "received"):
        assert list(drawn[name]) == ["c2u"]


def test_a_run_without_a_message_has_a_picture() -> None:
    """An empty one."""
    drawn = _picture(History())
    assert (drawn["sessions"], drawn["faults"], drawn["start"]) == ([], [], 0.0)


def test_all_is_drawn_as_long_as_there_is_room() -> None:
    """Nothing is left out."""
    found = [*_traces(10), *_traces(5, "c02", Flaw.LOST)]
    assert sample(found, 10, 5) == (found, 1)


def test_of_too_many_messages_every_session_keeps_its_share() -> None:
    """And the flawed ones are kept before others."""
    found = [*_traces(30), *_traces(10, "c02"), *_traces(5, "c03", Flaw.LOST)]
    drawn, every = sample(found, 10, 5)
    assert every == 4
    kept = {name: sum(1 for trace in drawn if trace.session == name) for name in ("c01", "c02", "c03")}
    assert kept == {"c01": 8, "c02": 3, "c03": 5}


def test_even_wrong_messages_have_a_bound() -> None:
    """A proxy that loses everything does not make a page that cannot be opened."""
    drawn, every = sample(_traces(1000, "c01", Flaw.LOST), 10, 100)
    assert (len(drawn), every) == (100, 1)


def test_the_drawn_messages_of_a_long_run_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The series count all of them all the same."""
    monkeypatch.setattr(pictures, "MOST_DRAWN", 10)
    drawn = _picture(history(*conversation(range(1, 41), sent=40)))
    assert drawn["every"] == 4
    assert len(drawn["sessions"][0]["c2u"]["sent"]) == 10
    received = drawn["received"]["c2u"]
    assert sum(received) * drawn["coarse"]["step"] == pytest.approx(40)


def test_a_fault_is_drawn_from_when_it_was_asked_for_until_the_last_stream_recovered() -> None:
    """On the link or process that it was done to."""
    other = FaultRecord("kill", "proxy", 7.0, 7.0, 7.25)
    drawn = _picture(history(*conversation(range(1, 11)), faults=[fault(4.0, 4.9), other]))
    assert drawn["faults"] == [
        {"name": "down", "target": "upstream", "on": "link", "from": 3.99, "to": 4.9, "recovery": 0.6},
        {"name": "kill", "target": "proxy", "on": "process", "from": 7.0, "to": 7.25, "recovery": 0.25},
    ]


def test_a_fault_without_recovery_is_drawn_too() -> None:
    """-1 where a stream never recovered, nothing where the fault never took hold."""
    told = history(*conversation([1, 2, 3]), faults=[fault(4.0, 5.0), fault(None, None, "no Toxiproxy")])
    faults = _picture(told)["faults"]
    assert [(found["from"], found["recovery"]) for found in faults] == [(3.99, -1), (None, None)]
    assert recoveries(told)[0][1] == [math.inf]


def test_links_that_were_lost_are_drawn() -> None:
    """Those that came, or were to go, are not."""
    links = [
        LinkEvent(1.0, End.CLIENT, "c01", "connected", True),
        LinkEvent(2.0, End.CLIENT, "c01", "disconnected", False, 1006, "gone"),
        LinkEvent(3.0, End.UPSTREAM, "u1.1", "disconnected", False),
        LinkEvent(9.0, End.CLIENT, "c01", "disconnected", True, 1000),
    ]
    drawn = _picture(history(*conversation([1]), links=links))
    assert drawn["links"] == [
        [2.0, "client", "c01", "disconnected 1006 gone"],
        [3.0, "upstream", "u1.1", "disconnected"],
    ]
