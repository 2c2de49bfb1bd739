"""A message rate: who is faster is read more slowly, loses nothing, and cannot shed it by coming back."""

from __future__ import annotations

from dataclasses import replace

from reconnect_proxy.core.link import Link
from reconnect_proxy.events import Limit, LimitReached

from .fakes import CALM, SESSION_ID, SHARED, FakeLeg, SessionRig, say, started, the_end

RATED = replace(CALM, max_rate=10)


def hurry(link: Link, leg: FakeLeg, rig: SessionRig, seconds: float) -> int:
    """Say as much as is read within so many seconds, a hundredth at a time, and return how much that was."""
    said = 0
    for _ in range(round(seconds * 100)):
        while not leg.paused:
            say(link, b"%d" % said)
            said += 1
        rig.clock.advance(0.01)
    return said


def test_a_second_of_messages_may_come_at_once_and_more_wait() -> None:
    """The client is not read until the next is due; all that was read goes on at once."""
    rig, client, client_link, upstream, _ = started(RATED)
    for n in range(10):
        say(client_link, b"%d" % n)
    assert not client.paused
    say(client_link, "one more")
    assert client.paused
    assert len(upstream.sent) == 11
    rig.clock.advance(0.15)
    assert not client.paused


def test_in_the_long_run_the_rate_is_kept() -> None:
    """Ten seconds bring a hundred messages and the burst at the beginning."""
    rig, client, client_link, upstream, _ = started(RATED)
    said = hurry(client_link, client, rig, 10.0)
    assert 105 <= said <= 112
    assert upstream.payloads == [b"%d" % n for n in range(said)]


def test_what_one_read_brings_beyond_the_rate_is_taken_and_paid_for() -> None:
    """Nothing that was read is dropped."""
    rig, client, client_link, upstream, _ = started(RATED)
    for _ in range(60):
        say(client_link, "x")
    assert len(upstream.sent) == 60
    rig.clock.advance(4.8)
    assert client.paused
    rig.clock.advance(0.3)
    assert not client.paused


def test_a_slow_client_does_not_notice() -> None:
    """One that stays below the rate is never held back, and its silence saves up no more than one burst."""
    rig, client, client_link, _, _ = started(RATED)
    for _ in range(50):
        rig.clock.advance(0.11)
        say(client_link, "x")
        assert not client.paused
    rig.clock.advance(1000.0)
    assert hurry(client_link, client, rig, 0.01) == 11
    assert rig.seen(LimitReached) == [
        LimitReached(SESSION_ID, Limit.RATE, "more than 10 messages a second: the client is read more slowly")
    ]


def test_a_client_that_comes_back_has_no_new_burst() -> None:
    """Its count goes on where it was, whether it was lost or taken over."""
    rig, client, client_link, _, _ = started(RATED)
    for _ in range(30):
        say(client_link, "x")
    client_link.on_lost(1006, "")
    client, client_link = rig.client()
    assert not client.paused
    say(client_link, "x")
    assert client.paused
    client, client_link = rig.client()
    say(client_link, "x")
    assert client.paused
    rig.clock.advance(2.5)
    assert not client.paused


def test_the_rate_is_that_of_each_client_of_a_shared_session() -> None:
    """One that hurries does not slow the others down, and takes nothing along when it leaves."""
    rig = SessionRig(replace(SHARED, max_rate=10))
    rig.open()
    rig.connect()
    (a, a_link), (b, b_link) = rig.client(), rig.client()
    for _ in range(30):
        say(a_link, "x")
    say(b_link, "x")
    assert (a.paused, b.paused) == (True, False)
    a_link.on_lost(1006, "")
    c, c_link = rig.client()
    say(c_link, "x")
    assert not c.paused


def test_a_client_that_is_too_fast_is_held_back_by_a_full_outbox_as_well() -> None:
    """It is read again when neither holds it back any more."""
    rig, client, client_link, _, upstream_link = started(replace(RATED, max_queue=1000))
    upstream_link.on_lost(1006, "")
    for _ in range(20):
        say(client_link, "x")
    rig.clock.advance(3.0)
    assert client.paused, "`c2u` is full"
    upstream, upstream_link = rig.reconnect()
    rig.clock.advance(0.2)
    upstream_link.on_pong(upstream.pings[-1].to_bytes(8, "big"))
    assert not client.paused


def test_the_end_of_a_session_ends_its_waiting() -> None:
    """No timer is left."""
    rig, _, client_link, _, _ = started(RATED)
    for _ in range(30):
        say(client_link, "x")
    rig.context.close(1012, "service restart")
    assert the_end(rig).code == 1012
