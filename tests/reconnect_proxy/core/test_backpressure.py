"""Full outboxes, PROTOCOL.md section 6: which leg is not read, and that no two full ones hold each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconnect_proxy.core.backpressure import HARD_LIMIT
from reconnect_proxy.core.link import Link

from .fakes import CALM, SMALL, FakeLeg, SessionRig, confirm, confirm_all, say, started, the_end

# Section 6, row: outbox above its high-water mark.


def test_full_outbox_stops_the_leg_that_feeds_it_until_it_is_below_half() -> None:
    """c2u stops the client, u2c the upstream."""
    rig, client, client_link, upstream, upstream_link = started(replace(CALM, max_queue=SMALL))
    for _ in range(9):
        say(client_link, bytes(10))
    assert not client.paused
    say(client_link, bytes(10))
    assert client.paused
    assert not upstream.paused
    upstream_link.outbox.confirm(5)
    rig.context.relieved()
    assert client.paused, "550 of 1000 bytes are not below half"
    upstream_link.outbox.confirm(6)
    rig.context.relieved()
    assert not client.paused
    for _ in range(10):
        say(upstream_link, bytes(10))
    assert upstream.paused
    confirm_all(rig, client, client_link)
    assert not upstream.paused


def test_full_outbox_without_its_peer_holds_the_other_side_back_and_loses_nothing() -> None:
    """While the upstream is down, and while the client is."""
    rig, client, client_link, _, upstream_link = started(replace(CALM, max_queue=SMALL))
    upstream_link.on_lost(1006, "")
    sent = [b"%d" % n for n in range(20)]
    for payload in sent:
        if client.paused:
            break
        say(client_link, payload)
    assert client.paused
    upstream, upstream_link = rig.reconnect()
    confirm_all(rig, upstream, upstream_link)
    assert not client.paused
    assert upstream.payloads == sent[: len(upstream.payloads)]


def test_full_outbox_stops_a_new_link_too() -> None:
    """A client that comes back to a full `c2u` is not read, nor is an upstream that comes back to a full `u2c`."""
    rig, _, client_link, _, upstream_link = started(replace(CALM, max_queue=SMALL))
    upstream_link.on_lost(1006, "")
    say(client_link, bytes(2 * SMALL))
    client_link.on_lost(1006, "")
    client, client_link = rig.client()
    assert client.paused
    other = started(replace(CALM, max_queue=SMALL))
    rig, _, client_link, _, upstream_link = other
    say(upstream_link, bytes(2 * SMALL))
    say(client_link, "for which the upstream is dialled without a client")
    client_link.on_lost(1006, "")
    upstream_link.on_lost(1006, "")
    upstream, _ = rig.reconnect()
    assert upstream.paused


def both_full(slack: int = 0) -> tuple[SessionRig, FakeLeg, Link, FakeLeg, Link]:
    """Return a session both outboxes of which are full, with all sent and nothing confirmed."""
    rig, client, client_link, upstream, upstream_link = started(replace(CALM, max_queue=SMALL, slack=slack))
    say(client_link, bytes(SMALL))
    say(upstream_link, bytes(SMALL))
    assert rig.context.c2u.outbox.full
    assert rig.context.u2c.outbox.full
    return rig, client, client_link, upstream, upstream_link


def test_both_outboxes_full_the_client_is_read_for_its_pongs() -> None:
    """Else neither Pong would ever be read. First `u2c` empties, then the upstream is read, then `c2u` empties."""
    rig, client, client_link, upstream, upstream_link = both_full()
    assert (client.paused, upstream.paused) == (False, True)
    confirm_all(rig, client, client_link)
    assert (client.paused, upstream.paused) == (True, False)
    confirm(upstream, upstream_link)
    assert (client.paused, upstream.paused) == (False, False)


@pytest.mark.parametrize("takeover", [False, True])
def test_both_outboxes_full_a_client_that_comes_back_is_read_for_its_pongs(takeover: bool) -> None:
    """After it was sent what it is owed, not as things stood before."""
    rig, _, client_link, upstream, upstream_link = both_full()
    if not takeover:
        client_link.on_lost(1006, "")
    back, back_link = rig.client()
    assert len(back.sent) == 1
    assert (back.paused, upstream.paused) == (False, True)
    confirm_all(rig, back, back_link)
    confirm(upstream, upstream_link)
    assert (back.paused, upstream.paused) == (False, False)


def test_both_outboxes_full_a_client_whose_socket_is_full_is_not_read_until_it_takes_the_rest() -> None:
    """Its Pongs cannot empty `u2c` before everything has been sent."""
    _, client, client_link, _, upstream_link = started(replace(CALM, max_queue=SMALL))
    client.writable = False
    say(client_link, bytes(SMALL))
    say(upstream_link, bytes(SMALL))
    assert client.paused
    client.writable = True
    client_link.on_writable()
    assert len(client.sent) == 1
    assert not client.paused


def test_one_message_larger_than_the_whole_queue_only_stops_the_client_that_sent_it() -> None:
    """Nothing was read beyond it, so the hard limit has nothing to say."""
    rig, client, client_link, upstream, upstream_link = started(replace(CALM, max_queue=SMALL))
    upstream_link.on_lost(1006, "")
    say(client_link, bytes(10 * SMALL))
    assert client.paused
    assert client.closed is None
    upstream, upstream_link = rig.reconnect()
    confirm_all(rig, upstream, upstream_link)
    assert not client.paused


def test_both_outboxes_full_a_small_queue_has_room_for_what_sockets_hold_in_front_of_a_pong() -> None:
    """However small the queue is set, a healthy session is not ended for what lay in the sockets already."""
    rig, client, client_link, _, _ = both_full(slack=100 * SMALL)
    for _ in range(90):
        say(client_link, bytes(SMALL // 2))
    assert client.closed is None
    confirm_all(rig, client, client_link)
    assert not rig.context.u2c.outbox.full


def test_both_outboxes_full_a_client_that_uses_it_to_flood_is_ended_at_the_hard_limit() -> None:
    """1013 "queue limit": what was accepted is still delivered."""
    rig, client, client_link, upstream, upstream_link = both_full()
    count = 1
    while client.closed is None:
        say(client_link, bytes(100))
        count += 1
        assert rig.context.c2u.outbox.bytes_held <= HARD_LIMIT * SMALL + 200
    assert client.closed == (1013, "queue limit; 6 messages uncertain")
    assert len(upstream.sent) == count
    assert not upstream.paused, "`u2c` is given up, and the upstream's Pongs must be read"
    confirm(upstream, upstream_link)
    assert upstream.closed == (1001, "queue limit; 1 message uncertain")
    assert the_end(rig).undelivered_c2u == 0
