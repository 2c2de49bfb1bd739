"""How a session ends: the side that is owed something gets it first, what cannot be delivered is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconnect_proxy.core.confirmation import AFTER
from reconnect_proxy.core.context import SessionState
from reconnect_proxy.core.dial import DialAnswer
from reconnect_proxy.core.policy import DUPLEX, SENDER, Policy
from reconnect_proxy.events import LegMute, LegName, MessagesUncertain

from .fakes import CALM, SESSION_ID, SMALL, confirm, over, pong, say, started, the_end

# Endings.


def test_a_message_above_the_limit_ends_the_session_after_what_was_said_before_it() -> None:
    """1009 to both, from whichever leg it came."""
    rig, client, client_link, upstream, upstream_link = started()
    say(client_link, "1")
    client_link.on_too_big("17 MiB")
    assert upstream.closed is None
    confirm(upstream, upstream_link)
    assert upstream.closed == (1009, "17 MiB")
    assert the_end(rig).code == 1009
    rig, client, client_link, upstream, upstream_link = started()
    say(upstream_link, "1")
    upstream_link.on_too_big("17 MiB")
    assert client.closed is None
    confirm(client, client_link)
    assert client.closed == (1009, "17 MiB")
    assert over(rig)


def test_a_session_that_ends_while_the_upstream_is_away_still_delivers_what_the_client_said() -> None:
    """Within the retry budget; then the upstream is closed with the client's code."""
    rig, _, client_link, _, upstream_link = started(replace(SENDER, retry_for=60.0))
    upstream_link.on_lost(1006, "")
    say(client_link, "1", "2")
    client_link.on_lost(1000, "bye")
    rig.clock.advance(10.0)
    if not rig.dialler.under_way:
        rig.clock.advance(3.0)
    upstream, upstream_link = rig.connect()
    assert upstream.payloads == [b"1", b"2"]
    assert upstream.pings == [2]
    pong(upstream_link, 2)
    assert upstream.closed == (1000, "bye")
    assert the_end(rig).undelivered_c2u == 0


def test_a_session_that_ends_while_the_upstream_stays_away_is_over_with_the_retry_budget() -> None:
    """With the client's code, and its messages counted."""
    rig, _, client_link, _, upstream_link = started(replace(SENDER, retry_for=60.0))
    rig.clock.advance(2.0)
    upstream_link.on_lost(1006, "")
    say(client_link, "1", "2")
    client_link.on_lost(1000, "bye")
    rig.clock.advance(60.1)
    ended = the_end(rig)
    assert (ended.code, ended.reason, ended.undelivered_c2u) == (1000, "bye", 2)


def test_a_peer_that_is_owed_the_end_and_confirms_nothing_is_given_up() -> None:
    """After as long as a silent one is given, even if it keeps talking."""
    rig, client, client_link, _, upstream_link = started(Policy(ping_interval=20.0, ping_timeout=20.0))
    say(upstream_link, "0")
    rig.clock.advance(0.2)
    confirm(client, client_link)
    say(upstream_link, "1")
    upstream_link.on_lost(1000, "bye")
    for _ in range(39):
        rig.clock.advance(1.0)
        client_link.on_heard()
    assert client.closed is None
    rig.clock.advance(2.0)
    assert client.closed == (1000, "bye")
    assert (the_end(rig).undelivered_u2c, the_end(rig).uncertain_u2c) == (0, 1)


def test_a_peer_that_is_owed_the_end_and_goes_on_confirming_is_not_given_up() -> None:
    """However long it takes."""
    rig, client, client_link, _, upstream_link = started()
    client.room = 1
    say(upstream_link, *[b"%d" % n for n in range(20)])
    upstream_link.on_lost(1000, "bye")
    for _ in range(19):
        rig.clock.advance(30.0)
        confirm(client, client_link)
        assert client.closed is None
        client.room, client.writable = 1, True
        client_link.on_writable()
    confirm(client, client_link)
    assert client.closed == (1000, "bye")
    assert the_end(rig).undelivered_u2c == 0


def test_a_peer_that_is_owed_the_end_and_has_just_come_back_is_given_its_time() -> None:
    """Those who wait are not judged by how long the peer before them was away."""
    policy = replace(SENDER, retry_for=600.0, connect_timeout=100.0, ping_interval=20.0, ping_timeout=20.0)
    rig, _, client_link, _, upstream_link = started(policy)
    say(client_link, "1")
    upstream_link.on_lost(1006, "")
    client_link.on_lost(1000, "bye")
    rig.clock.advance(39.5)
    upstream, upstream_link = rig.connect()
    rig.clock.advance(5.0)
    assert upstream.closed is None
    confirm(upstream, upstream_link)
    assert the_end(rig).undelivered_c2u == 0


def test_an_upstream_that_is_owed_the_end_and_only_comes_and_goes_is_given_up() -> None:
    """One that accepts every dial and confirms nothing does not keep a session that has lost its client."""
    policy = replace(SENDER, retry_for=30.0, ping_interval=3.0, ping_timeout=4.0)
    rig, _, client_link, _, upstream_link = started(policy)
    say(client_link, "1")
    client_link.on_lost(1000, "bye")
    rig.clock.advance(6.0)
    upstream_link.on_lost(1006, "")
    lost = rig.clock.now
    while rig.clock.now < lost + 29.0:
        assert not over(rig)
        rig.clock.advance(0.5)
        if rig.dialler.under_way is not None:
            _, upstream_link = rig.connect()
            upstream_link.on_lost(1006, "")
    rig.clock.advance(1.1)
    assert over(rig)


def test_at_the_end_a_full_u2c_does_not_keep_the_upstreams_pongs_from_being_read() -> None:
    """There is no receiver for those messages; they are counted."""
    rig, _, client_link, upstream, upstream_link = started(replace(CALM, max_queue=SMALL, grace=5.0))
    say(client_link, "1")
    client_link.on_lost(1000, "bye")
    say(upstream_link, bytes(2 * SMALL))
    assert upstream.paused
    rig.clock.advance(5.1)
    assert rig.context.state is SessionState.ENDING
    assert not upstream.paused
    confirm(upstream, upstream_link)
    ended = the_end(rig)
    assert (ended.undelivered_c2u, ended.undelivered_u2c) == (0, 1)


def test_at_the_end_what_the_upstream_says_is_counted_but_not_kept() -> None:
    """A redial still states all of it, for it had its Pong: an aware upstream must not see its count shrink."""
    rig, _, client_link, _, upstream_link = started(SENDER, upstream_aware=True)
    say(upstream_link, "1")
    say(client_link, "a")
    client_link.on_lost(1000, "bye")
    say(upstream_link, "2", "3")
    upstream_link.on_lost(1006, "")
    rig.clock.advance(3.0)
    assert rig.dialler.dials[-1].received == 3
    upstream, upstream_link = rig.connect(DialAnswer(received=0))
    assert upstream.payloads == [b"a"]
    confirm(upstream, upstream_link)
    ended = the_end(rig)
    assert (ended.undelivered_c2u, ended.undelivered_u2c, ended.uncertain_u2c) == (0, 2, 1)


def test_both_sides_leaving_ends_the_session_at_once() -> None:
    """The upstream, while the rest of the client's stream was being delivered to it, or the other way round."""
    rig, _, client_link, _, upstream_link = started(SENDER)
    say(client_link, "1")
    client_link.on_lost(4001, "client")
    upstream_link.on_lost(4002, "upstream")
    ended = the_end(rig)
    assert (ended.code, ended.reason, ended.uncertain_c2u) == (4001, "client", 1)
    rig, _, client_link, _, upstream_link = started(SENDER)
    say(upstream_link, "1")
    upstream_link.on_lost(4002, "upstream")
    client_link.on_lost(4001, "client")
    ended = the_end(rig)
    assert (ended.code, ended.reason, ended.uncertain_u2c) == (4002, "upstream", 1)


def test_nothing_that_happens_after_the_end_has_any_effect() -> None:
    """Late events of both sockets, and of time."""
    rig, client, client_link, upstream, upstream_link = started()
    rig.context.close(1000, "")
    events = list(rig.events)
    for link in (client_link, upstream_link):
        say(link, "late")
        pong(link, 1)
        link.on_heard()
        link.on_writable()
        link.on_too_big("late")
        link.on_lost(1006, "")
    rig.clock.advance(1000.0)
    assert over(rig)
    assert rig.events == events
    assert client.sent == upstream.sent == []


# Mute peers.


@pytest.mark.parametrize("leg", LegName)
def test_a_mute_peer_is_served_and_never_fills_an_outbox(leg: LegName) -> None:
    """It sends data and answers no Ping: reported, and what is written is let go."""
    rig, client, client_link, upstream, upstream_link = started(replace(DUPLEX, max_queue=SMALL))
    mute, other = (client_link, upstream_link) if leg is LegName.CLIENT else (upstream_link, client_link)
    say(other, bytes(SMALL))
    for _ in range(42):
        rig.clock.advance(0.5)
        say(mute, b"")
        for live, live_leg in ((other, upstream if leg is LegName.CLIENT else client),):
            if live_leg.pings:
                confirm(live_leg, live)
    assert rig.seen(LegMute) == [LegMute(SESSION_ID, leg)]
    for _ in range(10):
        say(other, bytes(SMALL))
    assert not other.paused
    assert len(mute.outbox) == 0


def test_a_peer_found_mute_at_the_end_is_closed_and_leaves_no_timer() -> None:
    """What it was owed is let go, and that was all that the session waited for; it counts as uncertain."""
    rig, client, client_link, _, upstream_link = started(Policy(ping_interval=60.0, ping_timeout=5.0, max_queue=SMALL))
    say(upstream_link, bytes(SMALL))
    upstream_link.on_lost(1000, "bye")
    for _ in range(60):
        rig.clock.advance(0.1)
        if client.closed is None:
            say(client_link, b"x")
    assert client.closed == (1000, "bye")
    ended = the_end(rig)
    assert (ended.undelivered_u2c, ended.uncertain_u2c) == (0, 1)
    assert rig.seen(MessagesUncertain) == [MessagesUncertain(SESSION_ID, LegName.CLIENT, 1)]


# The account.


def test_the_end_says_what_was_received_in_all_with_what_came_too_late() -> None:
    """Messages and bytes of both directions, whether they were confirmed, are still owed, or came too late."""
    rig, client, client_link, upstream, upstream_link = started()
    say(client_link, "1", "22")
    rig.clock.advance(AFTER)
    confirm(upstream, upstream_link)
    say(upstream_link, "333")
    upstream_link.on_lost(1000, "enough")
    say(client_link, "4444")
    assert rig.context.c2u.volume == (3, 7)
    confirm(client, client_link)
    ended = the_end(rig)
    assert (ended.c2u_messages, ended.c2u_bytes, ended.undelivered_c2u) == (3, 7, 1)
    assert (ended.u2c_messages, ended.u2c_bytes, ended.undelivered_u2c) == (1, 3, 0)


@pytest.mark.parametrize(("code", "left"), [(1000, True), (1001, True), (1005, True), (1006, False)])
def test_the_end_says_whether_a_client_has_closed_it(code: int, left: bool) -> None:
    """What such a one had not confirmed yet it does not want; one that is lost would have wanted it."""
    rig, _, client_link, _, upstream_link = started()
    say(upstream_link, "not confirmed")
    client_link.on_lost(code, "")
    rig.clock.advance(DUPLEX.grace or 0.0)
    ended = the_end(rig)
    assert (ended.uncertain_u2c, ended.left) == (1, left)


def test_a_client_that_closed_and_came_back_has_not_left() -> None:
    """How an earlier link of it ended says nothing of what it wants now."""
    rig, _, client_link, _, upstream_link = started()
    client_link.on_lost(1000, "")
    _, client_link = rig.client()
    say(upstream_link, "not confirmed")
    client_link.on_too_big("too big")
    ended = the_end(rig)
    assert (ended.uncertain_u2c, ended.left) == (1, False)


def test_an_upstream_that_closes_has_not_left_as_a_client_does() -> None:
    """What the client had not confirmed is then a loss."""
    rig, _, client_link, _, upstream_link = started()
    say(upstream_link, "not confirmed")
    upstream_link.on_lost(1000, "bye")
    client_link.on_lost(1006, "")
    rig.clock.advance(DUPLEX.grace or 0.0)
    ended = the_end(rig)
    assert (ended.uncertain_u2c, ended.left) == (1, False)
