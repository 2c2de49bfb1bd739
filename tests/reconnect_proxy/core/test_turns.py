"""Sessions that share their upstreams: they take turns to dial, and what one learns of an upstream helps the others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from reconnect_proxy.core.context import SessionState
from reconnect_proxy.core.policy import Gate, GateKind, Policy
from reconnect_proxy.core.pool import EJECT_AFTER, PROBE_PAUSE
from reconnect_proxy.core.upstream_state import UpstreamState
from reconnect_proxy.events import DialFailed, Redial, SessionEnded

from .fakes import SessionRig, say

ONE, TWO, THREE = "ws://one", "ws://two", "ws://three"
PATIENT = Policy(ping_interval=1000.0, ping_timeout=1000.0, retry_for=60.0, connect_timeout=5.0)


def crowd(
    count: int, policy: Policy = PATIENT, urls: Sequence[str] = (ONE,), max_dials: int = 64, connected: bool = True
) -> list[SessionRig]:
    """Return sessions with one pool: all have been connected for long, or all have only asked for their first dial."""
    first = SessionRig(policy, urls, max_dials=max_dials)
    rigs = [first, *(SessionRig(policy, urls, f"{index:016}", sharing=first) for index in range(1, count))]
    for rig in rigs:
        rig.open()
        if connected:
            rig.connect()
            rig.client()
    if connected:
        first.clock.advance(1.0)
    return rigs


def lose_all(rigs: Sequence[SessionRig]) -> None:
    """Let each session lose its upstream, and wait until all want to dial."""
    for rig in rigs:
        link = rig.context.upstream.link
        assert link is not None
        link.on_lost(1006, "")
    rigs[0].clock.advance(PROBE_PAUSE)


def dialling(rigs: Sequence[SessionRig]) -> list[SessionRig]:
    """Return the sessions whose dial is under way."""
    return [rig for rig in rigs if rig.dialler.under_way is not None]


def knock_out(rigs: Sequence[SessionRig], times: int = EJECT_AFTER) -> None:
    """Let dials fail until the upstream is known to be down."""
    for _ in range(times):
        dialling(rigs)[0].dialler.fail()


# Turns.


def test_a_lost_upstream_is_redialled_by_as_many_as_may_at_a_time() -> None:
    """The others follow as turns come free, and each of them resumes."""
    rigs = crowd(10, max_dials=3)
    lose_all(rigs)
    for _ in range(7):
        assert len(dialling(rigs)) == 3
        dialling(rigs)[0].connect()
    assert len(dialling(rigs)) == 3
    assert rigs[0].pool.info()[0].sessions == 7


def test_waiting_for_a_turn_does_not_count_against_the_connect_timeout() -> None:
    """It begins when the dial does."""
    rigs = crowd(2, max_dials=1)
    lose_all(rigs)
    [first] = dialling(rigs)
    [second] = [rig for rig in rigs if rig is not first]
    first.clock.advance(4.8)
    first.connect()
    first.clock.advance(4.8)
    assert second.seen(DialFailed) == []
    first.clock.advance(0.3)
    assert len(second.seen(DialFailed)) == 1


def test_waiting_for_a_turn_counts_against_the_retry_budget() -> None:
    """A session whose turn does not come in time ends like one whose dials all fail, and is out of the queue."""
    [first] = crowd(1, Policy(retry_for=60.0, connect_timeout=50.0, ping_interval=1000.0), max_dials=1)
    second = SessionRig(Policy(retry_for=3.0, ping_interval=1000.0), session_id="second-second-second", sharing=first)
    second.open()
    second.connect()
    second.client()
    second.clock.advance(1.0)
    lose_all([first])
    lose_all([second])
    assert second.context.upstream.state is UpstreamState.QUEUED
    second.clock.advance(3.0)
    [ended] = second.seen(SessionEnded)
    assert isinstance(ended, SessionEnded)
    assert (ended.code, ended.reason) == (1014, "upstream unavailable")
    assert second.dialler.dials[1:] == []
    assert [(u.dials_running, u.dials_waiting) for u in second.pool.info()] == [(1, 0)]


def test_a_client_that_waits_for_its_first_dial_is_answered_within_the_connect_timeout() -> None:
    """Even if its turn has not come: PROTOCOL.md section 6. Its session then waits like any other."""
    [first] = crowd(1, Policy(connect_timeout=5.0, ping_interval=1000.0), max_dials=1, connected=False)
    first.clock.advance(3.0)
    first.connect()
    hog = SessionRig(session_id="hog-hog-hog-hog-hog", sharing=first, policy=Policy(connect_timeout=50.0))
    hog.open()
    second = SessionRig(session_id="second-second-second", sharing=first)
    second.open()
    second.clock.advance(4.9)
    assert second.openings == []
    second.clock.advance(0.2)
    assert [opening.refusal for opening in second.openings] == [None]
    assert second.context.state is SessionState.OPEN
    assert second.seen(DialFailed) == []
    assert second.dialler.dials == []


def test_a_first_dial_whose_turn_came_late_says_nothing_of_the_upstream() -> None:
    """It had no time to answer; one that had the time and did not has failed."""
    rigs = crowd(5, Policy(connect_timeout=5.0, ping_interval=1000.0), max_dials=1, connected=False)
    target = rigs[0].pool.targets[0]
    rigs[0].clock.advance(5.1)
    assert all(rig.context.state is SessionState.OPEN for rig in rigs)
    assert (target.failures, target.healthy) == (1, True)


@pytest.mark.parametrize("moment", ["queued", "dialling", "gated"])
@pytest.mark.parametrize("end", ["client gone", "stopped"])
def test_a_session_that_ends_gives_its_turn_back(moment: str, end: str) -> None:
    """In every state, and for every reason of its end."""
    policy = Policy(grace=0.0, gate=Gate(GateKind.FIRST_MESSAGE), ping_interval=1000.0)
    rigs = crowd(3, policy, max_dials=1, connected=False)
    first, second, third = rigs
    leaving = second if moment == "queued" else first
    if moment == "gated":
        first.connect()
    if end == "client gone":
        # What the acceptor does when its socket closes.
        leaving.context.client_left(leaving.openings.append)
    else:
        leaving.context.close(1012, "service restart")
    assert leaving.context.state is SessionState.ENDED
    if moment == "queued":
        first.connect()
        link = first.context.upstream.link
        assert link is not None
        say(link, "state")
    following = third if moment == "queued" else second
    assert dialling(rigs) == [following]
    assert leaving.pool.info()[0].dials_running == 1


# What is known to be down.


def test_a_session_whose_upstream_is_down_moves_on_to_the_next_healthy_one() -> None:
    """It does not try the one that others have found to be down."""
    rigs = crowd(6, urls=(ONE, TWO, THREE))
    on_one = [rig for rig in rigs if rig.context.upstream.url == ONE]
    two = rigs[0].pool.targets[1]
    for _ in range(EJECT_AFTER):
        rigs[0].pool.target_failed(two, "refused")
    lose_all(on_one)
    assert [rig.dialler.dials[-1].url for rig in on_one] == [THREE, THREE]


def test_an_upstream_that_is_down_is_probed_gently_by_all_its_sessions_together() -> None:
    """A thousand sessions dial it no more often than one would."""
    rigs = crowd(1000, max_dials=16)
    before = sum(len(rig.dialler.dials) for rig in rigs)
    lose_all(rigs)
    knock_out(rigs)
    for rig in dialling(rigs):
        rig.dialler.fail()
    started = sum(len(rig.dialler.dials) for rig in rigs) - before
    assert started == 16 + EJECT_AFTER - 1
    for _ in range(200):
        rigs[0].clock.advance(0.05)
        for rig in dialling(rigs):
            rig.dialler.fail()
    probes = sum(len(rig.dialler.dials) for rig in rigs) - before - started
    assert 100 <= probes <= 200, "one in 50 to 100 ms"


def test_all_sessions_follow_the_one_that_gets_through() -> None:
    """Those in the queue and those that sleep between two attempts, up to the cap, and no later."""
    rigs = crowd(20, max_dials=4)
    lose_all(rigs)
    while sum(rig.context.upstream.state is UpstreamState.WAITING for rig in rigs) <= 4:
        for rig in dialling(rigs):
            rig.dialler.fail()
        rigs[0].clock.advance(0.05)
    while not dialling(rigs):
        rigs[0].clock.advance(0.01)
    dialling(rigs)[0].connect()
    resumed = 1
    while running := dialling(rigs):
        assert len(running) <= 4
        running[0].connect()
        resumed += 1
    assert resumed == 20
    assert all(rig.context.upstream.state is UpstreamState.UP for rig in rigs)


def test_clients_that_come_while_an_upstream_is_down_learn_it_from_the_next_probe() -> None:
    """They are not kept for the connect timeout each, one after the other."""
    rigs = crowd(8, connected=False)
    knock_out(rigs)
    for rig in dialling(rigs):
        rig.dialler.fail()
    newcomers = [SessionRig(session_id=f"newcomer-{index:08}", sharing=rigs[0]) for index in range(20)]
    for rig in newcomers:
        rig.open()
    rigs[0].clock.advance(2 * PROBE_PAUSE)
    everybody = [*rigs, *newcomers]
    dialling(everybody)[0].dialler.fail()
    assert all(len(rig.openings) == 1 for rig in newcomers)
    assert all(rig.context.state is SessionState.OPEN for rig in newcomers)


def test_a_first_dial_goes_on_to_an_upstream_that_is_there() -> None:
    """When the one that it waits for turns out to be down."""
    rigs = crowd(5, urls=(ONE, TWO), max_dials=3, connected=False)
    two = rigs[0].pool.targets[1]
    waiting = SessionRig(session_id="one-more-session", sharing=rigs[0])
    waiting.open()
    on_two = [rig for rig in dialling(rigs) if rig.dialler.dials[-1].url == TWO]
    assert waiting.dialler.dials[-1].url == TWO
    for rig in on_two:
        rig.dialler.fail()
    waiting.dialler.fail()
    assert not two.healthy
    assert waiting.context.upstream.url == ONE
    for rig in dialling([*rigs, waiting]):
        rig.connect()
    for rig in dialling([*rigs, waiting]):
        rig.connect()
    assert all(rig.context.state is SessionState.OPEN for rig in [*rigs, waiting])
    assert waiting.seen(Redial) == []


def test_an_upstream_that_drops_its_sessions_at_each_connect_is_dialled_ever_more_rarely() -> None:
    """It answers, so it is not ejected; each session backs off on its own, and new clients get their answers."""
    rigs = crowd(100, max_dials=8)
    lose_all(rigs)
    before = sum(len(rig.dialler.dials) for rig in rigs)
    for _ in range(100):
        for rig in dialling(rigs):
            _, link = rig.connect()
            link.on_lost(1006, "")
        rigs[0].clock.advance(PROBE_PAUSE)
    dials = sum(len(rig.dialler.dials) for rig in rigs) - before
    assert dials <= 15 * len(rigs)
    assert rigs[0].pool.targets[0].healthy


def test_a_returning_client_brings_its_session_forward() -> None:
    """Among those that wait for their turn."""
    rigs = crowd(4, max_dials=1)
    for rig in rigs[2:]:
        say(rig.context.clients.links[0], "owed")
        rig.context.clients.links[0].on_lost(1006, "")
    lose_all(rigs[:1])
    lose_all(rigs[1:])
    order = []
    rigs[3].client()
    while running := dialling(rigs):
        order.append(rigs.index(running[0]))
        running[0].connect()
    assert (order[0], sorted(order[1:3]), order[3]) == (0, [1, 3], 2)


def test_a_session_that_has_ended_is_not_turned_away() -> None:
    """Many are turned away in turn; one of the first may have ended another of them, which then waits for nothing."""
    rigs = crowd(3, max_dials=1)
    lose_all(rigs)
    waiting = next(rig for rig in rigs if rig.context.upstream.state is UpstreamState.QUEUED)
    waiting.context.close(1012, "service restart")
    before = waiting.pool.info()[0].dials_waiting
    waiting.context.upstream.on_turned_away("another one is back")
    assert waiting.pool.info()[0].dials_waiting == before
    assert waiting.context.upstream.state is UpstreamState.TERMINATED
