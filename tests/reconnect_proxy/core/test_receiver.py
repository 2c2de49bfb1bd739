"""The shared session of `receiver` mode: many clients, one upstream, each client at its own place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconnect_proxy.core.context import SessionState
from reconnect_proxy.core.link import Link
from reconnect_proxy.core.policy import GraceOn, Policy
from reconnect_proxy.core.slow_client import SLOW_AFTER
from reconnect_proxy.core.wire import Claim
from reconnect_proxy.events import SlowClientClosed, TakenOver

from .fakes import SESSION_ID, SHARED, SMALL, FakeLeg, SessionRig, confirm, confirm_all, over, say, the_end

# Receiver mode: fan-out.


def shared(clients: int = 3, policy: Policy = SHARED) -> tuple[SessionRig, list[tuple[FakeLeg, Link]], FakeLeg, Link]:
    """Return a shared session with so many clients attached."""
    rig = SessionRig(policy)
    rig.open()
    upstream, upstream_link = rig.connect()
    return rig, [rig.client() for _ in range(clients)], upstream, upstream_link


def test_receiver_each_client_gets_every_message_and_any_may_send() -> None:
    """From the moment it attaches, and no client is taken over."""
    rig, [(a, a_link), (b, b_link)], upstream, upstream_link = shared(2)
    say(upstream_link, "1")
    c, c_link = rig.client()
    say(upstream_link, "2")
    say(c_link, "from c")
    say(a_link, "from a")
    say(b_link, "from b")
    assert (a.payloads, b.payloads, c.payloads) == ([b"1", b"2"], [b"1", b"2"], [b"2"])
    assert upstream.payloads == [b"from c", b"from a", b"from b"]
    assert a.closed is b.closed is None
    assert rig.seen(TakenOver) == []


def test_receiver_a_message_to_several_clients_was_received_once() -> None:
    """With any clients there, and any of them leaving: the count is that of the upstream's stream."""
    rig, [(_, a_link), (b, b_link)], _, upstream_link = shared(2)
    say(upstream_link, "1", "22")
    rig.client()
    say(upstream_link, "333")
    rig.clock.advance(0.2)
    confirm(b, b_link)
    a_link.on_lost(1000, "")
    b_link.on_lost(1006, "")
    say(upstream_link, "4444")
    assert rig.context.u2c.volume == (4, 10)


def test_receiver_messages_with_no_client_wait_for_the_first_to_come() -> None:
    """One upstream connection throughout, and no end of the waiting."""
    rig, clients, upstream, upstream_link = shared(3)
    say(upstream_link, "1")
    rig.clock.advance(0.2)
    for leg, link in clients:
        confirm(leg, link)
    for _, link in clients:
        link.on_lost(1001, "")
    say(upstream_link, "2", "3")
    rig.clock.advance(500.0)
    a, _ = rig.client()
    b, _ = rig.client()
    say(upstream_link, "4")
    assert a.payloads == [b"2", b"3", b"4"]
    assert b.payloads == [b"4"]
    assert len(rig.dialler.dials) == 1
    assert upstream.closed is None


def test_receiver_clients_confirm_each_for_itself() -> None:
    """A client that has everything does not free what another one is owed."""
    rig, [(a, a_link), (b, b_link)], _, upstream_link = shared(2)
    say(upstream_link, "1", "2")
    rig.clock.advance(0.2)
    confirm(a, a_link)
    assert (len(a_link.outbox), len(b_link.outbox)) == (0, 2)
    say(upstream_link, "3")
    a_link.on_lost(1006, "")
    assert b.payloads == [b"1", b"2", b"3"]
    assert rig.context.u2c.received == 3
    confirm(b, b_link)
    assert len(rig.context.u2c.outbox) == 1


def test_receiver_one_slow_client_is_closed_with_1013_for_the_sake_of_the_others() -> None:
    """Past the high-water mark, not before; the others wait for it no longer than a moment."""
    rig, [(a, a_link), (b, b_link)], upstream, upstream_link = shared(2, replace(SHARED, max_queue=SMALL))
    a.writable = False
    for n in range(9):
        say(upstream_link, bytes(10))
        rig.clock.advance(0.2)
        confirm(b, b_link)
        assert not upstream.paused, n
    say(upstream_link, bytes(10))
    assert (a.closed, upstream.paused) == (None, True)
    rig.clock.advance(0.2)
    confirm(b, b_link)
    rig.clock.advance(SLOW_AFTER)
    assert a.closed == (1013, "too slow")
    assert b.closed is None
    assert not upstream.paused
    assert rig.seen(SlowClientClosed) == [SlowClientClosed(SESSION_ID, 10)]
    say(upstream_link, "on")
    assert b.payloads[-1] == b"on"
    assert a_link.dead


def test_receiver_a_client_that_moves_at_half_the_speed_of_another_is_slow() -> None:
    """Also while the other has not everything yet."""
    rig, [(a, a_link), (b, b_link)], _, upstream_link = shared(2, replace(SHARED, max_queue=SMALL))
    for _ in range(30):
        say(upstream_link, bytes(10))
    for leg in (a, b):
        leg.writable = False
    say(upstream_link, bytes(10))
    a_link.outbox.confirm(4)
    b_link.outbox.confirm(20)
    rig.clock.advance(SLOW_AFTER)
    assert a.closed == (1013, "too slow")
    assert b.closed is None


def test_receiver_a_burst_makes_no_client_slow() -> None:
    """Every outbox is full at once; the upstream is held back until they have emptied, and no client is closed."""
    rig, [(a, a_link), (b, b_link)], upstream, upstream_link = shared(2, replace(SHARED, max_queue=SMALL))
    for _ in range(40):
        say(upstream_link, bytes(10))
    assert upstream.paused
    confirm_all(rig, a, a_link)
    confirm_all(rig, b, b_link)
    assert not upstream.paused
    rig.clock.advance(10 * SLOW_AFTER)
    assert (a.closed, b.closed) == (None, None)


def test_receiver_clients_that_are_all_stuck_hold_the_upstream_back() -> None:
    """There is no other client for whose sake one could be closed."""
    rig, [(a, _), (b, _)], upstream, upstream_link = shared(2, replace(SHARED, max_queue=SMALL))
    a.writable = b.writable = False
    say(upstream_link, bytes(2 * SMALL))
    rig.clock.advance(3 * SLOW_AFTER)
    assert (a.closed, b.closed) == (None, None)
    assert upstream.paused


def test_receiver_a_client_that_has_just_come_makes_no_other_one_slow() -> None:
    """Neither by having all, which is nothing yet, nor by where in a long stream it began."""
    rig, [(a, _), (b, _)], upstream, upstream_link = shared(2, replace(SHARED, max_queue=SMALL))
    a.writable = b.writable = False
    say(upstream_link, *[bytes(10)] * 40)
    assert upstream.paused
    c, _ = rig.client()
    rig.clock.advance(SLOW_AFTER)
    assert (a.closed, b.closed, c.closed) == (None, None, None)
    assert rig.seen(SlowClientClosed) == []


@pytest.mark.parametrize("code", [1000, 1001, 4000])
def test_receiver_no_client_can_end_a_shared_session_by_leaving(code: int) -> None:
    """Not even the last one, cleanly."""
    rig, clients, upstream, _ = shared(2, replace(SHARED, grace_on=GraceOn.ABNORMAL))
    for _, link in clients:
        link.on_lost(code, "")
    rig.clock.advance(300.0)
    assert rig.context.state is SessionState.OPEN
    assert upstream.closed is None


def test_receiver_a_grace_that_is_set_ends_a_shared_session_without_clients() -> None:
    """From the moment the last client has left."""
    rig, [(_, a), (_, b)], upstream, _ = shared(2, replace(SHARED, grace=15.0))
    a.on_lost(1001, "")
    rig.clock.advance(100.0)
    assert rig.context.state is SessionState.OPEN
    b.on_lost(1001, "gone")
    rig.clock.advance(15.1)
    assert upstream.closed == (1001, "gone")
    assert over(rig)


def test_receiver_the_end_is_delivered_to_each_client() -> None:
    """Each is closed when it has everything."""
    rig, [(a, a_link), (b, b_link)], _, upstream_link = shared(2)
    say(upstream_link, "1")
    upstream_link.on_lost(4001, "enough")
    assert a.closed is b.closed is None
    confirm(b, b_link)
    assert a.closed is None
    assert b.closed == (4001, "enough")
    confirm(a, a_link)
    assert a.closed == (4001, "enough")
    assert the_end(rig).undelivered_u2c == 0


def test_receiver_clients_are_unaware_even_if_they_state_a_count() -> None:
    """A count means nothing in a stream that several share."""
    rig, _, _, _ = shared(0)
    assert rig.context.admit(Claim(received=17)) is None
    leg, link = rig.client(received=17)
    assert not link.aware
    assert leg.closed is None


def test_receiver_a_full_c2u_stops_all_clients() -> None:
    """Any of them may have filled it, and any of them may go on."""
    rig, clients, upstream, upstream_link = shared(3, replace(SHARED, max_queue=SMALL))
    say(clients[1][1], bytes(2 * SMALL))
    assert [leg.paused for leg, _ in clients] == [True, True, True]
    confirm_all(rig, upstream, upstream_link)
    assert [leg.paused for leg, _ in clients] == [False, False, False]


def test_receiver_a_message_above_the_limit_costs_its_sender_the_link_and_others_nothing() -> None:
    """No single client can end a shared session."""
    rig, [(_, a_link), (b, b_link)], upstream, upstream_link = shared(2)
    a_link.on_too_big("a message above the limit")
    say(upstream_link, "1")
    say(b_link, "still here")
    assert (b.payloads, upstream.payloads) == ([b"1"], [b"still here"])
    b_link.on_too_big("a message above the limit")
    assert rig.context.state is SessionState.OPEN
    say(upstream_link, "2")
    c, _ = rig.client()
    assert c.payloads[-1] == b"2"


def test_receiver_an_upstream_held_back_for_a_client_is_read_on_when_that_one_goes_for_its_message() -> None:
    """At once: the others have all they are owed, and nothing of theirs would set it going again."""
    rig, [(a, a_link), (b, b_link)], upstream, upstream_link = shared(2, replace(SHARED, max_queue=SMALL))
    a.writable = False
    say(upstream_link, *[bytes(10)] * 40)
    confirm_all(rig, b, b_link)
    assert upstream.paused
    a_link.on_too_big("a message above the limit")
    assert not upstream.paused
