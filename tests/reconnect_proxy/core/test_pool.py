"""The pool of upstreams: which one is next, who may dial, which are down and how they come back."""

from __future__ import annotations

from collections import Counter

import pytest

from reconnect_proxy.core.dial import DialFailure, DialRank
from reconnect_proxy.core.pool import (
    EJECT_AFTER,
    LONGEST_EJECTION,
    PROBE_PATIENCE,
    PROBE_PAUSE,
    PROBES,
    PROVEN_AFTER,
    RESERVED,
    SHORTEST_EJECTION,
    Pool,
)
from reconnect_proxy.core.target import DialSlot, EjectOn, SlotState, Target, UpstreamAddress
from reconnect_proxy.events import Dialled, DialOutcome, Event, UpstreamEjected, UpstreamReturned

from .fakes import FakeClock

ONE, TWO, THREE = "ws://one", "ws://two", "ws://three"


class Rig:
    """A pool with a clock that moves when told, and an ear for its events."""

    def __init__(
        self, *servers: str | UpstreamAddress, max_dials: int = 8, eject_on: EjectOn = EjectOn.CONNECT
    ) -> None:
        self.clock = FakeClock()
        self.events: list[Event] = []
        each = [UpstreamAddress(server) if isinstance(server, str) else server for server in servers or (ONE,)]
        # Pauses are as long as they can be.
        self.pool = Pool(each, self.clock, self.events.append, max_dials, draw=max, eject_on=eject_on)

    @property
    def one(self) -> Target:
        """The first target."""
        return self.pool.targets[0]

    def session(
        self, target: Target | None = None, impatient: bool = False, rank: DialRank = DialRank.RESUMES
    ) -> Visitor:
        """Return a session that has asked for a turn at `target`."""
        visitor = Visitor(rank)
        visitor.slot = DialSlot(target or self.one, visitor, impatient)
        self.pool.enter(visitor.slot)
        return visitor

    def fail(self, target: Target, times: int = EJECT_AFTER, reason: str = "refused") -> None:
        """Let so many dials of `target` fail, one after the other."""
        for _ in range(times):
            self.pool.failed(self.session(target).turn(), DialFailure(reason))

    def health(self) -> list[bool]:
        """Return which targets are in."""
        return [upstream.healthy for upstream in self.pool.info()]

    def told(self) -> list[Event]:
        """Return the events about health."""
        return [event for event in self.events if not isinstance(event, Dialled)]


class Visitor:
    """A session as the pool sees it: writes down what it is told; satisfies `SlotHolder`."""

    def __init__(self, rank: DialRank = DialRank.RESUMES) -> None:
        self.slot: DialSlot | None = None
        self.rank = rank
        self.turns = 0
        self.turned_away: list[str] = []
        self.woken = 0

    def on_turn(self) -> None:
        """Count the turn."""
        assert self.slot is not None
        assert self.slot.state is SlotState.DIALLING
        self.turns += 1

    def on_turned_away(self, reason: str) -> None:
        """Record the reason."""
        self.turned_away.append(reason)

    def on_upstream_back(self) -> None:
        """Count it."""
        self.woken += 1

    def turn(self) -> DialSlot:
        """Return the slot, whose turn must have come."""
        assert self.turns == 1, "its turn has not come"
        assert self.slot is not None
        return self.slot


# Which target.


def test_new_sessions_go_round() -> None:
    """One after the other, in the order of the list."""
    rig = Rig(ONE, TWO, THREE)
    assert [rig.pool.pick().url for _ in range(6)] == [ONE, TWO, THREE] * 2


def test_weights_are_shares_that_are_spread_smoothly() -> None:
    """nginx's smooth weighted round robin: 5, 1, 1 is a a b a c a a, not five of a in a row."""
    rig = Rig(UpstreamAddress(ONE, 5), TWO, THREE)
    picked = [rig.pool.pick().url for _ in range(14)]
    assert picked == [ONE, ONE, TWO, ONE, THREE, ONE, ONE] * 2


def test_a_target_that_is_out_gets_no_new_sessions() -> None:
    """The others share them, and it does not make up for it afterwards."""
    rig = Rig(ONE, TWO, THREE)
    rig.fail(rig.pool.targets[1])
    assert Counter(rig.pool.pick().url for _ in range(10)) == {ONE: 5, THREE: 5}
    rig.clock.advance(SHORTEST_EJECTION)
    rig.pool.connected(rig.session(rig.pool.targets[1]).turn())
    assert Counter(rig.pool.pick().url for _ in range(9)) == {ONE: 3, TWO: 3, THREE: 3}


def test_a_redial_moves_on_to_the_next_that_is_in() -> None:
    """In the order of the list, from the last on to the first again; the one that was left comes last."""
    rig = Rig(ONE, TWO, THREE)
    one, two, three = rig.pool.targets
    assert [rig.pool.next_after(target) for target in (one, two, three)] == [two, three, one]
    rig.fail(two)
    assert rig.pool.next_after(one) is three
    rig.fail(three)
    assert rig.pool.next_after(one) is one


def test_the_first_dial_leaves_out_what_it_has_tried() -> None:
    """None when it has tried all."""
    rig = Rig(ONE, TWO, THREE)
    one, two, three = rig.pool.targets
    assert rig.pool.next_untried([two]) is three
    assert rig.pool.next_untried([two, three]) is one
    assert rig.pool.next_untried([two, three, one]) is None


def test_if_all_are_out_the_least_recently_failed_is_tried() -> None:
    """So each has its turn, and no session is stuck with one."""
    rig = Rig(ONE, TWO, THREE)
    one, two, three = rig.pool.targets
    for target in (two, three, one):
        rig.fail(target)
        rig.clock.advance(0.2)
    assert rig.pool.pick() is two
    rig.fail(two, 1)
    assert rig.pool.pick() is three
    assert rig.pool.next_untried([three]) is one


# Turns.


def test_no_more_than_the_cap_dial_at_a_time_and_the_rest_follow_in_their_order() -> None:
    """A turn that ends, in any way, is the next one's at once."""
    rig = Rig(max_dials=2)
    sessions = [rig.session() for _ in range(7)]
    assert [session.turns for session in sessions] == [1, 1, 0, 0, 0, 0, 0]
    rig.pool.connected(sessions[0].turn())
    rig.pool.failed(sessions[1].turn(), DialFailure("refused"))
    assert [session.turns for session in sessions] == [1, 1, 1, 1, 0, 0, 0]
    rig.pool.rejected(sessions[2].turn())
    rig.pool.leave(sessions[3].turn())
    assert [session.turns for session in sessions] == [1, 1, 1, 1, 1, 1, 0]
    assert (rig.one.dialling, rig.one.waiting, rig.one.sessions) == (2, 1, 1)


def test_a_session_that_leaves_the_queue_is_passed_over() -> None:
    """And leaving twice is leaving once."""
    rig = Rig(max_dials=1)
    first, second, third = (rig.session() for _ in range(3))
    assert second.slot is not None
    rig.pool.leave(second.slot)
    rig.pool.leave(second.slot)
    rig.pool.leave(first.turn())
    rig.pool.leave(first.turn())
    assert (second.turns, third.turns) == (0, 1)
    assert (rig.one.dialling, rig.one.waiting) == (1, 0)


def test_each_target_has_a_queue_of_its_own() -> None:
    """A slow one does not hold up the others."""
    rig = Rig(ONE, TWO, max_dials=1)
    rig.session(rig.pool.targets[0])
    assert rig.session(rig.pool.targets[0]).turns == 0
    assert rig.session(rig.pool.targets[1]).turns == 1


def test_each_dial_is_reported_with_its_outcome_and_time() -> None:
    """From its turn on: the wait for it is not the upstream's fault."""
    rig = Rig(max_dials=1)
    first, second = rig.session(), rig.session()
    rig.clock.advance(2.0)
    rig.pool.connected(first.turn())
    rig.clock.advance(0.5)
    rig.pool.failed(second.turn(), DialFailure("refused"))
    rig.pool.rejected(rig.session().turn())
    rig.pool.leave(rig.session().turn())
    assert rig.events == [
        Dialled(ONE, DialOutcome.CONNECTED, 2.0),
        Dialled(ONE, DialOutcome.FAILED, 0.5),
        Dialled(ONE, DialOutcome.REJECTED, 0.0),
        Dialled(ONE, DialOutcome.CANCELLED, 0.0),
    ]


# How a target goes out.


def test_failures_in_a_row_eject_a_target() -> None:
    """Three of them; said once, with the reason of the last."""
    rig = Rig()
    rig.fail(rig.one, EJECT_AFTER - 1)
    assert rig.health() == [True]
    rig.fail(rig.one, 1, "no route")
    assert rig.health() == [False]
    assert rig.told() == [UpstreamEjected(ONE, "no route")]
    rig.clock.advance(1.0)
    rig.fail(rig.one, 1)
    assert len(rig.told()) == 1


@pytest.mark.parametrize("proof", ["connected", "rejected", "request"])
def test_an_answer_ends_the_series(proof: str) -> None:
    """A handshake, a refusal below 500, or a plain request that was answered: the server is there."""
    rig = Rig()
    rig.fail(rig.one, EJECT_AFTER - 1)
    if proof == "connected":
        rig.pool.connected(rig.session().turn())
    elif proof == "rejected":
        rig.pool.rejected(rig.session().turn())
    else:
        rig.pool.target_answered(rig.one)
    rig.fail(rig.one, EJECT_AFTER - 1)
    assert rig.health() == [True]


def test_a_dial_that_is_given_up_says_nothing() -> None:
    """A client that leaves is no failure of the upstream, and no success either."""
    rig = Rig()
    for _ in range(10):
        rig.pool.leave(rig.session().turn())
    assert rig.health() == [True]
    rig.fail(rig.one, EJECT_AFTER - 1)
    rig.pool.leave(rig.session().turn())
    rig.fail(rig.one, 1)
    assert rig.health() == [False]


def test_links_that_die_right_after_they_opened_are_no_failures() -> None:
    """A 101 is an answer: the server is there, and drops this session."""
    rig = Rig()
    for _ in range(2 * EJECT_AFTER):
        slot = rig.session().turn()
        rig.pool.connected(slot)
        rig.pool.leave(slot)
    assert rig.told() == []


TAKEN = DialFailure("the connection was lost in the handshake", taken=True)


def test_a_target_that_serves_others_is_not_ejected_for_the_sake_of_one() -> None:
    """A session whose handshake is cut off each time does not take the server from all others."""
    rig = Rig()
    rig.pool.connected(rig.session().turn())
    rig.clock.advance(PROVEN_AFTER)
    for _ in range(10):
        rig.pool.failed(rig.session().turn(), TAKEN)
    assert rig.told() == []


def test_a_target_that_is_found_to_serve_others_is_in_again() -> None:
    """It was ejected before a link could hold; the next connection that it takes shows that it is there."""
    rig = Rig()
    rig.pool.connected(rig.session().turn())
    for _ in range(EJECT_AFTER):
        rig.pool.failed(rig.session().turn(), TAKEN)
    assert rig.health() == [False]
    rig.clock.advance(PROVEN_AFTER)
    rig.pool.failed(rig.session().turn(), TAKEN)
    assert rig.health() == [True]


def test_those_who_resume_with_a_client_dial_first() -> None:
    """Then first dials, then those whose first dial has failed, then those without a client; each in their order."""
    rig = Rig(max_dials=1)
    dialling = rig.session()
    ranks = [DialRank.ABSENT, DialRank.RETRIES, DialRank.OPENS, DialRank.RESUMES] * 2
    waiting = [rig.session(rank=rank) for rank in ranks]
    for index in (3, 7, 2, 6, 1, 5, 0, 4):
        assert waiting[index].turns == 0
        rig.pool.rejected(dialling.turn())
        dialling = waiting[index]
    assert dialling.turns == 1


def test_some_turns_are_for_those_who_resume() -> None:
    """However many others dial, and hang."""
    rig = Rig(max_dials=8)
    others = [rig.session(rank=DialRank.OPENS) for _ in range(20)]
    assert sum(each.turns for each in others) == 8 - 8 // RESERVED
    assert rig.session().turns == 1
    assert rig.session().turns == 1
    assert rig.session().turns == 0


def test_a_probe_of_others_does_not_keep_those_waiting_who_resume() -> None:
    """A target that is out may take connections, and leave some without an answer: not those of all sessions."""
    rig = Rig()
    rig.fail(rig.one)
    rig.clock.advance(2 * PROBE_PAUSE)
    assert rig.session(rank=DialRank.OPENS).turns == 1
    other, resuming = rig.session(rank=DialRank.OPENS), rig.session()
    rig.clock.advance(2 * PROBE_PAUSE)
    assert (other.turns, resuming.turns) == (0, 1)


def test_who_gets_a_client_meanwhile_goes_ahead() -> None:
    """And one whose client leaves falls back when its turn comes."""
    rig = Rig(max_dials=1)
    dialling = rig.session()
    leaves, comes, stays = rig.session(), rig.session(rank=DialRank.ABSENT), rig.session(rank=DialRank.OPENS)
    leaves.rank = DialRank.ABSENT
    comes.rank = DialRank.RESUMES
    assert comes.slot is not None
    rig.pool.rerank(comes.slot)
    for following in (comes, stays, leaves):
        assert following.turns == 0
        rig.pool.rejected(dialling.turn())
        dialling = following
    assert leaves.turns == 1


def test_sleepers_are_woken_in_the_order_of_their_ranks() -> None:
    """When a target is back, those who resume with a client come first."""
    rig = Rig()
    rig.fail(rig.one)
    woken: list[DialRank] = []
    for rank in reversed(DialRank):
        sleeper = Visitor(rank)
        sleeper.on_upstream_back = lambda rank=rank: woken.append(rank)  # type: ignore[method-assign, misc]
        rig.pool.sleep(sleeper)
    rig.clock.advance(2 * PROBE_PAUSE)
    rig.pool.connected(rig.session().turn())
    assert woken == sorted(DialRank)


def test_those_who_wait_for_a_target_that_goes_out_are_sent_elsewhere() -> None:
    """But those whose turn it was already, who learn of it themselves."""
    rig = Rig(ONE, TWO, max_dials=EJECT_AFTER)
    sessions = [rig.session() for _ in range(3 * EJECT_AFTER)]
    for session in sessions[:EJECT_AFTER]:
        rig.pool.failed(session.turn(), DialFailure("refused"))
    turns = 2 * EJECT_AFTER - 1
    assert [session.turns for session in sessions] == [1] * turns + [0] * (EJECT_AFTER + 1)
    assert [session.turned_away for session in sessions[turns:]] == [["refused"]] * (EJECT_AFTER + 1)


def test_those_who_have_nowhere_else_to_go_stay() -> None:
    """In their order, until the target is back."""
    rig = Rig(ONE, TWO)
    one, two = rig.pool.targets
    rig.fail(two)
    rig.fail(one)
    waiting = [rig.session(one) for _ in range(5)]
    rig.clock.advance(2 * PROBE_PAUSE)
    rig.pool.failed(waiting[0].turn(), DialFailure("refused"))
    assert [session.turned_away for session in waiting] == [[]] * 5
    assert one.waiting == 4


# How it comes back.


def test_a_target_is_passed_over_for_a_time_that_grows() -> None:
    """1 s, 2 s, 4 s … up to half a minute, while there is another."""
    rig = Rig(ONE, TWO)
    one = rig.one
    rig.fail(one)
    waits = []
    for _ in range(7):
        began = rig.clock.now
        while rig.pool.next_after(rig.pool.targets[1]) is not one:
            rig.clock.advance(0.25)
        waits.append(rig.clock.now - began)
        rig.fail(one, 1)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_EJECTION, LONGEST_EJECTION]


def test_one_dial_tries_it_and_decides() -> None:
    """While that is under way no other session is sent there."""
    rig = Rig(ONE, TWO)
    one, two = rig.pool.targets
    rig.fail(one)
    rig.clock.advance(SHORTEST_EJECTION)
    assert rig.pool.next_after(two) is one
    probe = rig.session(one)
    rig.clock.advance(3.0)
    assert rig.pool.next_after(two) is two
    assert [rig.pool.pick() for _ in range(3)] == [two, two, two]
    rig.pool.connected(probe.turn())
    assert rig.health() == [True, True]
    assert rig.told()[-1] == UpstreamReturned(ONE, "it answers again")


def test_a_request_without_a_place_may_be_the_probe() -> None:
    """Plain HTTP is tried one at a time too, and what it reports brings the target back."""
    rig = Rig(ONE, TWO)
    one, two = rig.pool.targets
    rig.fail(one)
    rig.clock.advance(SHORTEST_EJECTION)
    picked = [rig.pool.pick_for_request() for _ in range(4)]
    assert picked.count(one) == 1
    rig.pool.target_failed(one, "refused")
    rig.clock.advance(SHORTEST_EJECTION)
    assert [rig.pool.pick_for_request() for _ in range(2)] == [two, two]
    rig.clock.advance(SHORTEST_EJECTION)
    assert one in [rig.pool.pick_for_request() for _ in range(2)]
    rig.pool.target_answered(one)
    assert rig.health() == [True, True]


@pytest.mark.parametrize("outcome", ["answered", "failed", "pending"])
def test_requests_do_not_keep_sessions_from_probing(outcome: str) -> None:
    """However many there are, and however they end: the queue has a pace of its own."""
    rig = Rig()
    rig.fail(rig.one)
    waiting = [rig.session() for _ in range(3)]
    for _ in range(20):
        target = rig.pool.pick_for_request()
        rig.clock.advance(0.05)
        if outcome == "answered":
            rig.pool.target_answered(target)
        elif outcome == "failed":
            rig.pool.target_failed(target, "refused")
    assert waiting[0].turns == 1


def test_a_target_that_goes_out_again_soon_stays_out_longer() -> None:
    """One that comes and goes is avoided more and more; one that held for long begins anew."""
    rig = Rig(ONE, TWO)
    one = rig.one
    for wait in (1.0, 2.0, 4.0):
        rig.fail(one)
        assert one.out_for == wait
        rig.clock.advance(wait)
        rig.pool.connected(rig.session(one).turn())
    rig.clock.advance(LONGEST_EJECTION)
    rig.fail(one)
    assert one.out_for == SHORTEST_EJECTION


ANSWERED_500 = DialFailure("it answered 500", 500, taken=True)


def test_an_answer_of_any_status_shows_that_the_server_is_there() -> None:
    """One client whose requests it answers with 500 does not keep the others out."""
    rig = Rig()
    for _ in range(2 * EJECT_AFTER):
        rig.pool.failed(rig.session().turn(), ANSWERED_500)
    assert rig.health() == [True]
    assert rig.one.succeeded_at == rig.clock.now


def test_an_answer_of_any_status_ends_a_series_of_failures() -> None:
    """And brings a target back that was out."""
    rig = Rig()
    rig.fail(rig.one, EJECT_AFTER - 1)
    rig.pool.failed(rig.session().turn(), ANSWERED_500)
    rig.fail(rig.one, EJECT_AFTER - 1)
    assert rig.health() == [True]
    rig.fail(rig.one, 1)
    assert rig.health() == [False]
    probe = rig.session()
    rig.clock.advance(2 * PROBE_PAUSE)
    rig.pool.failed(probe.turn(), ANSWERED_500)
    assert rig.health() == [True]


def test_with_eject_on_5xx_a_server_that_serves_others_is_there_whatever_it_answers() -> None:
    """A target that carries a link which has held is not down; a connection that it refuses counts."""
    rig = Rig(eject_on=EjectOn.STATUS_5XX)
    rig.pool.connected(rig.session().turn())
    rig.clock.advance(PROVEN_AFTER)
    for _ in range(2 * EJECT_AFTER):
        rig.pool.failed(rig.session().turn(), ANSWERED_500)
    assert rig.health() == [True]
    rig.fail(rig.one)
    assert rig.health() == [False]


def test_with_eject_on_5xx_bad_answers_of_a_server_that_serves_nobody_eject_it() -> None:
    """There is nothing that says that it is well."""
    rig = Rig(eject_on=EjectOn.STATUS_5XX)
    for _ in range(EJECT_AFTER):
        rig.pool.failed(rig.session().turn(), ANSWERED_500)
    assert rig.health() == [False]


def test_while_all_are_out_few_probe_and_apart() -> None:
    """Ten thousand sessions that wait dial no more often than ten."""
    rig = Rig(max_dials=64)
    rig.fail(rig.one)
    sessions = [rig.session() for _ in range(10_000)]
    tried = 0
    for _ in range(100):
        rig.clock.advance(PROBE_PAUSE)
        for session in sessions:
            if session.turns and session.slot is not None and session.slot.state is SlotState.DIALLING:
                rig.pool.failed(session.slot, DialFailure("refused"))
                tried += 1
    # 1.5 times the pause is the longest: 10 s allow 66 of them.
    assert 40 <= tried <= 66
    assert [session.turns for session in sessions] == [1] * tried + [0] * (10_000 - tried)


def test_a_probe_that_hangs_does_not_keep_others_from_trying() -> None:
    """The target may be back while an old dial still waits for an answer; but they are few."""
    rig = Rig(max_dials=64)
    rig.fail(rig.one)
    for _ in range(20):
        rig.session()
    dialling = []
    for _ in range(8):
        rig.clock.advance(PROBE_PATIENCE)
        dialling.append(rig.one.dialling)
    assert dialling == [1, 2, 3, 4, 5, 5, 5, 5]
    assert PROBES == 5


def test_all_follow_the_probe_that_gets_through() -> None:
    """At once, as many as may dial at a time, and in their order; and no timer is left."""
    rig = Rig(max_dials=8)
    rig.fail(rig.one)
    sessions = [rig.session() for _ in range(20)]
    rig.clock.advance(2 * PROBE_PAUSE)
    rig.pool.connected(sessions[0].turn())
    assert [session.turns for session in sessions] == [1] * 9 + [0] * 11
    assert rig.clock.live == 0


def test_those_who_wait_at_another_target_that_is_out_are_told_of_the_one_that_is_back() -> None:
    """They need not wait for theirs."""
    rig = Rig(ONE, TWO)
    one, two = rig.pool.targets
    rig.fail(one)
    rig.fail(two)
    probe, waiting = rig.session(one), rig.session(two)
    rig.clock.advance(2 * PROBE_PAUSE)
    other = rig.session(two)
    rig.pool.connected(probe.turn())
    assert (waiting.turns, waiting.turned_away) == (1, [])
    assert (other.turns, other.turned_away) == (0, [f"{ONE} is back"])


def test_sleepers_are_woken_when_a_target_comes_back() -> None:
    """Once, and not those who have got up by themselves."""
    rig = Rig()
    rig.fail(rig.one)
    sleeper, up = Visitor(), Visitor()
    rig.pool.sleep(sleeper)
    rig.pool.sleep(up)
    rig.pool.wake(up)
    rig.pool.wake(up)
    rig.clock.advance(1.0)
    rig.pool.connected(rig.session().turn())
    rig.fail(rig.one)
    rig.clock.advance(1.0)
    rig.pool.connected(rig.session().turn())
    assert (sleeper.woken, up.woken) == (1, 0)


def test_a_probe_that_fails_decides_for_clients_that_wait_for_their_first_dial() -> None:
    """They asked whether the target can be reached, and that was the answer; those who can wait stay in the queue."""
    rig = Rig()
    rig.fail(rig.one)
    patient, probe, client, later = (rig.session(impatient=impatient) for impatient in (False, False, True, False))
    rig.clock.advance(2 * PROBE_PAUSE)
    rig.pool.failed(patient.turn(), DialFailure("no route"))
    assert client.turned_away == ["no route"]
    assert (probe.turned_away, later.turned_away) == ([], [])
    assert rig.one.waiting == 2


# What is known.


def test_a_target_is_known_to_be_there_while_it_carries_a_session_or_has_just_answered() -> None:
    """What is older than that proves nothing."""
    rig = Rig()
    assert not rig.pool.reachable(rig.one, 10.0)
    slot = rig.session().turn()
    rig.pool.connected(slot)
    rig.clock.advance(100.0)
    assert rig.pool.reachable(rig.one, 10.0)
    rig.pool.leave(slot)
    assert not rig.pool.reachable(rig.one, 10.0)
    rig.pool.target_answered(rig.one)
    rig.clock.advance(10.0)
    assert rig.pool.reachable(rig.one, 10.0)
    rig.fail(rig.one)
    assert not rig.pool.reachable(rig.one, 10.0)


def test_what_an_operator_sees() -> None:
    """Each upstream with its weight, health, latest failure, sessions and dials."""
    rig = Rig(UpstreamAddress(ONE, 2), max_dials=1)
    rig.pool.connected(rig.session().turn())
    rig.fail(rig.one, 1, "no route")
    rig.session()
    rig.session()
    [seen] = rig.pool.info()
    assert (seen.url, seen.weight, seen.healthy, seen.reason) == (ONE, 2, True, "no route")
    assert (seen.sessions, seen.dials_running, seen.dials_waiting) == (1, 1, 1)
