"""While all sessions hold too much: those whose peers do not read end, the largest first, and no other one."""

from __future__ import annotations

import pytest

from reconnect_proxy.core import pressure
from reconnect_proxy.core.budget import make_budget
from reconnect_proxy.core.context import SessionState
from reconnect_proxy.core.message import Opcode
from reconnect_proxy.core.policy import Policy
from reconnect_proxy.core.pressure import LOOK, STALLED, Pressure
from reconnect_proxy.events import Limit, LimitReached

from .fakes import CALM, FakeLeg, SessionRig, pong

#: Bytes that all sessions may hold, and each in any case.
LIMIT, FLOOR = 1_000_000, 10_000


class Sessions:
    """Sessions under one budget, each with a client; some of the clients accept nothing."""

    def __init__(self, policy: Policy = CALM) -> None:
        self.first = SessionRig(policy)
        self.budget = make_budget(LIMIT, self.first.clock, self.first.events.append, FLOOR)
        self.rigs: list[SessionRig] = []
        self.legs: list[FakeLeg] = []
        self.policy = policy
        watch = Pressure(self.budget, lambda: [rig.context for rig in self.rigs], self.first.clock)
        self.budget.on_tight = watch.begin

    def add(self, held: int, stalled: bool = True) -> SessionRig:
        """Add a session that holds so many bytes for its client."""
        rig = SessionRig(self.policy, sharing=self.first, budget=self.budget)
        rig.open()
        _, upstream = rig.connect()
        client, _ = rig.client()
        client.waiting = stalled
        self.rigs.append(rig)
        self.legs.append(client)
        upstream.on_message(Opcode.BINARY, bytes(held))
        return rig

    @property
    def over(self) -> list[bool]:
        """Which sessions have ended."""
        return [rig.context.state is SessionState.ENDED for rig in self.rigs]


def test_the_largest_stalled_sessions_end_first_and_no_more_than_is_needed() -> None:
    """After the time for which a peer may refuse bytes; the reason says why."""
    sessions = Sessions()
    for held in (200_000, 400_000, 300_000, 250_000):
        sessions.add(held)
    sessions.first.clock.advance(STALLED - 1.0)
    assert not any(sessions.over)
    sessions.first.clock.advance(LOOK + 1.0)
    assert sessions.over == [False, True, False, False]
    assert sessions.legs[1].closed == (1013, "too much is held for a peer that does not read")
    [event] = sessions.rigs[1].seen(LimitReached)
    assert isinstance(event, LimitReached)
    assert event.limit is Limit.STALLED
    assert not sessions.budget.exceeded
    sessions.first.clock.advance(60.0)
    assert sessions.over.count(True) == 1


def test_sessions_that_move_are_not_touched() -> None:
    """Not even the largest: one whose client accepts bytes, one that accepts all, and one that confirms."""
    sessions = Sessions()
    sessions.add(900_000, stalled=False)
    taking, confirming = sessions.add(500_000), sessions.add(400_000)
    [link] = confirming.context.clients.links
    for _ in range(30):
        sessions.legs[1].accepted += 1
        _, upstream = confirming.context.links
        upstream.on_message(Opcode.BINARY, bytes(100_000))
        sessions.first.clock.advance(1.0)
        pong(link, sessions.legs[2].pings[-1])
    assert sessions.over == [False, False, False]
    assert taking.context.clients.links


def test_those_that_hold_little_are_not_touched() -> None:
    """They would free nothing."""
    sessions = Sessions()
    sessions.add(1_200_000, stalled=False)
    sessions.add(FLOOR // 2)
    sessions.first.clock.advance(60.0)
    assert sessions.over == [False, False]


def test_without_it_such_sessions_hold_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(pressure, "STALLED", 1e9)
    with pytest.raises(AssertionError):
        test_the_largest_stalled_sessions_end_first_and_no_more_than_is_needed()
