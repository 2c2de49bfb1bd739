"""A client that comes back, PROTOCOL.md sections 3, 4 and 6: takeover, counts, what is uncertain, refusals."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import pytest

from reconnect_proxy.core.context import SessionState
from reconnect_proxy.core.policy import Uncertain
from reconnect_proxy.core.wire import Claim, Refusal
from reconnect_proxy.events import LegLost, LegName, Resumed, TakenOver, UncertainDropped

from .fakes import CALM, SESSION_ID, FakeLeg, confirm, over, say, started, the_end

# Section 6, row: client returns.


def test_client_returns_and_takes_over_a_link_that_still_looks_open() -> None:
    """The old one is closed with 4000 "taken over", and what it still says is ignored."""
    rig, old, old_link, upstream, upstream_link = started()
    say(old_link, "1")
    new, new_link = rig.client()
    assert old.closed == (4000, "taken over")
    assert old_link.dead
    say(old_link, "late")
    say(new_link, "2")
    say(upstream_link, "x")
    assert upstream.payloads == [b"1", b"2"]
    assert (old.payloads, new.payloads) == ([], [b"x"])
    old_link.on_lost(1006, "")
    assert rig.context.clients.links == (new_link,)
    assert rig.seen(TakenOver) == [TakenOver(SESSION_ID)]
    assert rig.seen(LegLost) == []


def test_client_returns_aware_and_gets_what_follows_its_count() -> None:
    """And is told how many of its own messages have come: those of its old link up to the takeover."""
    rig, _, old_link, _, upstream_link = started(client_aware=True)
    say(upstream_link, "1", "2", "3")
    say(old_link, "a", "b")
    assert rig.context.admit(Claim(received=2)) == 2
    assert old_link.dead, "what it says after the count was stated must not be counted"
    say(old_link, "c")
    new = FakeLeg()
    rig.context.attach(new, Claim(received=2))
    assert new.payloads == [b"3"]
    assert rig.context.c2u.outbox.pushed == 2


def test_client_returns_unaware_and_is_sent_again_what_is_uncertain() -> None:
    """At least once; what was confirmed is not sent again."""
    rig, client, client_link, _, upstream_link = started(CALM)
    say(upstream_link, "1", "2")
    rig.clock.advance(0.2)
    confirm(client, client_link)
    say(upstream_link, "3", "4")
    client_link.on_lost(1006, "")
    say(upstream_link, "5")
    rig.clock.advance(1.0)
    back, _ = rig.client()
    assert back.payloads == [b"3", b"4", b"5"]
    assert rig.seen(Resumed) == [Resumed(SESSION_ID, LegName.CLIENT, resent=2, waiting=3, away=1.0, aware=False)]


def test_client_returns_unaware_and_is_spared_what_is_uncertain_if_so_configured() -> None:
    """At most once, and the dropped messages are reported."""
    rig, _, client_link, _, upstream_link = started(replace(CALM, uncertain=Uncertain.DROP))
    say(upstream_link, "1", "2")
    client_link.on_lost(1006, "")
    say(upstream_link, "3")
    back, _ = rig.client()
    assert back.payloads == [b"3"]
    assert rig.seen(UncertainDropped) == [UncertainDropped(SESSION_ID, LegName.CLIENT, 2)]


def test_client_returns_unaware_and_the_session_ends_on_doubt_if_so_configured() -> None:
    """Both legs get the code and the reason; what the client had said is delivered first."""
    rig, _, client_link, upstream, upstream_link = started(replace(CALM, uncertain=Uncertain.CLOSE))
    say(client_link, "question")
    say(upstream_link, "1", "2")
    client_link.on_lost(1006, "")
    back, back_link = rig.client()
    assert back.closed == (1011, "uncertain messages are not sent again; 1 message uncertain")
    assert back.sent == []
    assert back_link.dead
    assert upstream.closed is None
    confirm(upstream, upstream_link)
    assert upstream.closed == (1011, "uncertain messages are not sent again; 2 messages uncertain")
    ended = the_end(rig)
    assert (ended.code, ended.uncertain_c2u, ended.uncertain_u2c) == (1011, 0, 2)


@pytest.mark.parametrize("uncertain", Uncertain)
def test_client_returns_aware_and_nothing_is_uncertain(uncertain: Uncertain) -> None:
    """The policy is for peers that do not count."""
    rig, _, client_link, _, upstream_link = started(replace(CALM, uncertain=uncertain), client_aware=True)
    say(upstream_link, "1", "2")
    client_link.on_lost(1006, "")
    back, _ = rig.client(received=1)
    assert back.payloads == [b"2"]


def test_client_returns_within_its_grace_and_is_awaited_anew_the_next_time() -> None:
    """Each loss has a grace of its own."""
    rig, _, client_link, _, _ = started(replace(CALM, grace=15.0))
    for _ in range(4):
        client_link.on_lost(1006, "")
        rig.clock.advance(10.0)
        _, client_link = rig.client()
    rig.clock.advance(100.0)
    assert rig.context.state is SessionState.OPEN
    client_link.on_lost(1006, "")
    rig.clock.advance(15.1)
    assert over(rig)


# Section 3: refusals of a count.


@pytest.mark.parametrize("received", [0, 1, 4, 100])
def test_a_count_outside_of_confirmed_to_sent_is_answered_409_and_changes_nothing(received: int) -> None:
    """More than was ever sent, or less than was confirmed: the link that the session has stays."""
    rig, client, client_link, _, upstream_link = started(CALM, client_aware=True)
    say(upstream_link, "1", "2")
    rig.clock.advance(0.2)
    confirm(client, client_link)
    say(upstream_link, "3")
    with pytest.raises(Refusal) as caught:
        rig.context.admit(Claim(received=received))
    assert caught.value.status is HTTPStatus.CONFLICT
    assert "from 2 to 3" in caught.value.detail
    assert client.closed is None
    say(upstream_link, "4")
    assert client.payloads == [b"1", b"2", b"3", b"4"]


def test_a_message_that_was_never_sent_cannot_have_been_received() -> None:
    """What waits in the outbox is beyond any truthful count."""
    rig, _, client_link, _, upstream_link = started(CALM, client_aware=True)
    client_link.on_lost(1006, "")
    say(upstream_link, "1")
    with pytest.raises(Refusal):
        rig.context.admit(Claim(received=1))


def test_a_count_that_an_earlier_link_brought_about_stays_true() -> None:
    """Sent on a link that died, rewound, and confirmed by the count two links later."""
    rig, _, client_link, _, upstream_link = started(CALM, client_aware=True)
    say(upstream_link, "1", "2", "3")
    client_link.on_lost(1006, "")
    _, client_link = rig.client(received=0, leg=FakeLeg(writable=False))
    client_link.on_lost(1006, "")
    back, _ = rig.client(received=3)
    assert back.sent == []
    assert len(rig.context.u2c.outbox) == 0


def test_a_thousand_takeovers_leave_two_sockets() -> None:
    """The one that carries the leg, and the last that was taken over, which may still say goodbye."""
    rig, client, _, _, _ = started()
    legs = [client, *(rig.client()[0] for _ in range(1000))]
    assert [leg.closed for leg in legs] == [*[(4000, "taken over")] * 1000, None]
    assert [leg.aborted for leg in legs] == [True] * 999 + [False] * 2
    assert len(rig.context.clients.links) == 1
