"""The pool under any sequence of dials, failures, losses and goodbyes: turns neither leak nor are given out too often.

What is checked, after each step or at the moment it happens:

- no more than the cap dial at one target at a time, and few while it is out;
- a turn is given to the session that has waited longest for that target, and to none twice;
- no session waits without a reason: all turns are taken, or a timer runs to the next probe, and no other timer runs;
- what the pool counts is what there is;
- a target is said to go out and to come back in turn;
- in the end, when everybody has left, nothing is left; and when all targets answer, everybody gets a turn.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reconnect_proxy.core.dial import DialFailure, DialRank
from reconnect_proxy.core.pool import PROBE_PATIENCE, PROBE_PAUSE, PROBES, PROVEN_AFTER, RESERVED, Pool
from reconnect_proxy.core.target import DialSlot, SlotState, Target, UpstreamAddress
from reconnect_proxy.events import Dialled, Event, UpstreamEjected, UpstreamReturned
from tests.examples import examples

from .fakes import FakeClock

# Some fifteen seconds on an idle core, and a loaded machine must not turn it red.
pytestmark = pytest.mark.timeout(600)


class Visitor:
    """A session that dials, and asks elsewhere when it is turned away (an impatient one gives up); a `SlotHolder`."""

    def __init__(self, machine: PoolMachine, impatient: bool, rank: DialRank) -> None:
        self.machine = machine
        self.rank = rank
        self.impatient = impatient
        self.slot: DialSlot | None = None
        # Where it is in the order in which all of its rank have asked.
        self.number = 0
        self.asleep = False

    def ask(self, target: Target) -> None:
        """Ask for a turn."""
        machine = self.machine
        self.number = machine.asked = machine.asked + 1
        machine.waiting[self] = target
        self.slot = DialSlot(target, self, self.impatient)
        machine.pool.enter(self.slot)

    def on_turn(self) -> None:
        """Check that it was this one's turn, and that there was one."""
        assert self.slot is not None
        machine, target = self.machine, self.slot.target
        assert machine.waiting.pop(self) is target
        others = [(other.rank, other.number) for other, at in machine.waiting.items() if at is target]
        assert all((self.rank, self.number) < other for other in others)
        machine.dialling[self] = target
        assert list(machine.dialling.values()).count(target) <= machine.limit(target, self.rank)

    def on_turned_away(self, reason: str) -> None:
        """Go elsewhere. There must be an elsewhere, unless a client is waiting."""
        assert reason
        target = self.machine.waiting.pop(self)
        assert not target.healthy
        self.slot = None
        if not self.impatient:
            assert any(other.healthy for other in self.machine.pool.targets)
            following = self.machine.pool.next_after(target)
            assert following is not None
            self.ask(following)

    def on_upstream_back(self) -> None:
        """Wake, and dial."""
        assert self.asleep
        self.asleep = False
        self.ask(self.machine.pool.pick())


class PoolMachine(RuleBasedStateMachine):
    """A pool, and sessions that come, dial, are lost and leave."""

    @initialize(
        weights=st.lists(st.integers(1, 5), min_size=1, max_size=3),
        max_dials=st.sampled_from([1, 2, 3, 8]),
        seed=st.integers(0, 9),
    )
    def begin(self, weights: list[int], max_dials: int, seed: int) -> None:
        """Make a pool."""
        self.clock = FakeClock()
        self.events: list[Event] = []
        self.max_dials = max_dials
        servers = [UpstreamAddress(f"ws://{index}", weight) for index, weight in enumerate(weights)]
        self.pool = Pool(servers, self.clock, self.events.append, max_dials, random.Random(seed).uniform)
        self.waiting: dict[Visitor, Target] = {}
        self.dialling: dict[Visitor, Target] = {}
        self.connected: dict[Visitor, Target] = {}
        self.sleeping: list[Visitor] = []
        self.asked = 0

    def limit(self, target: Target, rank: DialRank) -> int:
        """Return how many sessions of this rank, or in front of it, may dial a target at a time."""
        limit = self.max_dials if target.healthy else min(PROBES, self.max_dials)
        return limit if rank is DialRank.RESUMES else limit - limit // RESERVED

    # What is true at all times.

    @invariant()
    def the_counts_are_those_of_the_visitors(self) -> None:
        """Dialling, waiting, connected."""
        for target in self.pool.targets:
            for slots, counted in (
                (self.dialling, target.dialling),
                (self.waiting, target.waiting),
                (self.connected, target.sessions),
            ):
                assert counted == list(slots.values()).count(target)

    @invariant()
    def no_session_waits_without_a_reason(self) -> None:
        """All turns are taken, or a timer runs to the next probe; and there is no other timer."""
        timers = 0
        for target in self.pool.targets:
            ranks = [visitor.rank for visitor, at in self.waiting.items() if at is target]
            if ranks and target.dialling < self.limit(target, min(ranks)):
                assert not target.healthy
                timers += 1
        assert self.clock.live == timers

    @invariant()
    def health_is_told_in_turn(self) -> None:
        """Out, in, out, in: and what was said last is what is so."""
        for target in self.pool.targets:
            told = [isinstance(event, UpstreamEjected) for event in self.events if self._is_about(event, target)]
            assert told == [bool(index % 2 == 0) for index in range(len(told))]
            assert target.healthy is (len(told) % 2 == 0)

    @staticmethod
    def _is_about(event: Event, target: Target) -> bool:
        return isinstance(event, UpstreamEjected | UpstreamReturned) and event.upstream == target.url

    # What happens.

    @rule(count=st.sampled_from([1, 1, 3, 20]), impatient=st.booleans(), data=st.data())
    def sessions_come(self, count: int, impatient: bool, data: st.DataObject) -> None:
        """New ones pick a target; those that redial move on from one."""
        target = data.draw(st.sampled_from(self.pool.targets))
        rank = data.draw(st.sampled_from(DialRank))
        for _ in range(count):
            following = self.pool.pick() if impatient else self.pool.next_after(target)
            assert following is not None
            Visitor(self, impatient, rank).ask(following)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_client_comes(self, data: st.DataObject) -> None:
        """A session that waits for its turn is in front of others from then on, behind those of its new rank."""
        visitor = data.draw(st.sampled_from(list(self.waiting)))
        if visitor.rank is not DialRank.RESUMES:
            visitor.rank = DialRank(visitor.rank - 1)
            visitor.number = self.asked = self.asked + 1
            assert visitor.slot is not None
            self.pool.rerank(visitor.slot)

    @precondition(lambda self: self.dialling)
    @rule(how=st.sampled_from(["connected", "failed", "failed", "failed", "rejected"]), all_of_them=st.booleans())
    def dials_end(self, how: str, all_of_them: bool) -> None:
        """One, or all that are in progress."""
        for visitor in list(self.dialling)[: None if all_of_them else 1]:
            self._end(visitor, how)

    @rule(data=st.data())
    def a_session_gives_up(self, data: st.DataObject) -> None:
        """Whether it waits, dials or is connected."""
        everybody = [*self.waiting, *self.dialling, *self.connected]
        if everybody:
            self._leave(data.draw(st.sampled_from(everybody)))

    @precondition(lambda self: self.connected)
    @rule(data=st.data(), all_of_them=st.booleans())
    def links_are_lost(self, data: st.DataObject, all_of_them: bool) -> None:
        """One, or all."""
        lost = list(self.connected) if all_of_them else [data.draw(st.sampled_from(list(self.connected)))]
        for visitor in lost:
            assert visitor.slot is not None
            del self.connected[visitor]
            self.pool.leave(visitor.slot)

    @rule()
    def a_session_sleeps(self) -> None:
        """Between two attempts of its own."""
        visitor = Visitor(self, False, DialRank.RESUMES)
        visitor.asleep = True
        self.sleeping.append(visitor)
        self.pool.sleep(visitor)

    @precondition(lambda self: self.sleeping)
    @rule()
    def a_session_gets_up(self) -> None:
        """By itself, or it was woken already."""
        visitor = self.sleeping.pop()
        self.pool.wake(visitor)
        if visitor.asleep:
            visitor.asleep = False
            visitor.ask(self.pool.pick())

    @rule(data=st.data())
    def a_request_is_made(self, data: st.DataObject) -> None:
        """Without a place; it says how it went."""
        target = self.pool.pick_for_request()
        if data.draw(st.booleans()):
            self.pool.target_answered(target)
        else:
            self.pool.target_failed(target, "refused")

    @rule(seconds=st.sampled_from([PROBE_PAUSE, PROVEN_AFTER, PROBE_PATIENCE, 5.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        """Timers fire."""
        self.clock.advance(seconds)

    # How it is done.

    def _end(self, visitor: Visitor, how: str) -> None:
        slot = visitor.slot
        assert slot is not None
        target = self.dialling.pop(visitor)
        if how == "connected":
            self.connected[visitor] = target
            self.pool.connected(slot)
        elif how == "failed":
            self.pool.failed(slot, DialFailure("refused"))
        else:
            self.pool.rejected(slot)

    def _leave(self, visitor: Visitor) -> None:
        assert visitor.slot is not None
        for slots in (self.waiting, self.dialling, self.connected):
            slots.pop(visitor, None)
        self.pool.leave(visitor.slot)
        assert visitor.slot.state is SlotState.OVER

    def teardown(self) -> None:
        """Let all targets answer: everybody gets a turn. Then all leave: nothing is left."""
        if not hasattr(self, "pool"):
            return
        rounds = 0
        while self.waiting or self.dialling:
            for visitor in list(self.dialling):
                self._end(visitor, "connected")
            self.clock.advance(PROBE_PATIENCE)
            rounds += 1
            assert rounds < 1000, "a session waits for ever"
        for visitor in list(self.connected):
            self._leave(visitor)
        self.the_counts_are_those_of_the_visitors()
        assert [(t.dialling, t.waiting, t.sessions) for t in self.pool.targets] == [(0, 0, 0)] * len(self.pool.targets)
        assert self.clock.live == 0
        assert all(event.seconds >= 0 for event in self.events if isinstance(event, Dialled))


TestPoolMachine = PoolMachine.TestCase
# Drawn anew at each run; a failure prints the `@reproduce_failure` that brings it back.
TestPoolMachine.settings = settings(max_examples=examples(300), stateful_step_count=50, deadline=None, print_blob=True)
