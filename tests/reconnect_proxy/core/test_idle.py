"""Idle sessions: ended where nothing moves over two connected legs, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconnect_proxy.core.idle import IdleWatch
from reconnect_proxy.events import Limit, LimitReached

from .fakes import CALM, SESSION_ID, FakeClock, confirm, confirm_all, over, pong, say, started, the_end

IDLE = replace(CALM, idle_timeout=40.0)


def test_a_session_over_which_nothing_moves_ends_with_1000() -> None:
    """Not before the time is over, and within a quarter more; both legs are told."""
    rig, client, _, upstream, _ = started(IDLE)
    rig.clock.advance(39.9)
    assert not over(rig)
    rig.clock.advance(10.1)
    assert client.closed == upstream.closed == (1000, "idle")
    assert the_end(rig).reason == "idle"
    assert rig.seen(LimitReached) == [LimitReached(SESSION_ID, Limit.IDLE, "no message moved for 40 s")]


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_a_message_of_either_side_begins_the_time_anew(who: str) -> None:
    """And so does its confirmation."""
    rig, client, client_link, upstream, upstream_link = started(IDLE)
    speaker, leg, link = (
        (client_link, upstream, upstream_link) if who == "client" else (upstream_link, client, client_link)
    )
    rig.clock.advance(35.0)
    say(speaker, "x")
    rig.clock.advance(35.0)
    confirm(leg, link)
    rig.clock.advance(35.0)
    assert not over(rig)
    rig.clock.advance(20.0)
    assert over(rig)


def test_pings_and_pongs_of_a_peer_keep_nothing_alive() -> None:
    """They are no part of the conversation."""
    rig, _, client_link, _, upstream_link = started(IDLE)
    for _ in range(60):
        rig.clock.advance(1.0)
        client_link.on_heard()
        pong(upstream_link, 0)
    assert over(rig)


def test_a_client_that_confirms_nothing_for_so_long_is_idle_and_what_it_is_owed_is_counted() -> None:
    """So that no client can have messages held for ever."""
    rig, client, _, _, upstream_link = started(IDLE)
    client.writable = False
    say(upstream_link, "1", "2")
    rig.clock.advance(60.0)
    assert client.closed == (1000, "idle")
    assert the_end(rig).undelivered_u2c == 2


def test_while_a_leg_is_lost_the_grace_and_the_retry_budget_decide() -> None:
    """The time begins when both are there again."""
    rig, _, client_link, _, upstream_link = started(replace(IDLE, grace=500.0, retry_for=500.0))
    client_link.on_lost(1006, "")
    rig.clock.advance(300.0)
    client, client_link = rig.client()
    upstream_link.on_lost(1006, "")
    rig.clock.advance(3.0)
    upstream, upstream_link = rig.connect()
    rig.clock.advance(35.0)
    assert not over(rig)
    say(client_link, "x")
    confirm_all(rig, upstream, upstream_link)
    rig.clock.advance(55.0)
    assert client.closed == (1000, "idle")


def test_it_costs_four_looks_in_that_time_however_much_moves() -> None:
    """No message sets a timer."""
    clock, looks = FakeClock(), 0

    def count() -> int:
        nonlocal looks
        looks += 1
        return looks

    watch = IdleWatch(40.0, clock, count, lambda: pytest.fail("it moves all the time"))
    clock.advance(400.0)
    assert looks == 41
    watch.stop()
    watch.stop()
    assert clock.live == 0
