"""One generation of a leg, PROTOCOL.md section 4: when it pings, what a Pong confirms, how it begins and ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconnect_proxy.core import link
from reconnect_proxy.core.link import DeliveryUncertain, LinkState, Resumption
from reconnect_proxy.core.message import Opcode
from reconnect_proxy.core.outbox import Outbox, OutOfRange
from reconnect_proxy.core.policy import Uncertain
from reconnect_proxy.core.timers import Timers

from .fakes import FakeClock, pong, say
from .link_rig import POLICY, Rig

# What goes out.


def test_messages_go_out_at_once_in_order_and_once() -> None:
    """Pumping twice sends nothing twice."""
    rig = Rig()
    for payload in (b"a", b"b", b"c"):
        rig.outbox.push((Opcode.TEXT, payload))
    rig.link.pump()
    rig.link.pump()
    assert rig.leg.sent == [(Opcode.TEXT, b"a"), (Opcode.TEXT, b"b"), (Opcode.TEXT, b"c")]


def test_a_socket_that_takes_no_more_is_sent_nothing_until_it_does() -> None:
    """What waits goes out when the socket says so, and the session hears of it."""
    rig = Rig()
    rig.leg.room = 2
    rig.send(5)
    assert len(rig.leg.sent) == 2
    rig.leg.room, rig.leg.writable = None, True
    rig.link.on_writable()
    assert len(rig.leg.sent) == 5
    assert rig.owner.relieved == 1


def test_a_closed_gate_keeps_data_back() -> None:
    """Nothing passes until it opens, not even when the socket becomes writable."""
    rig = Rig(state=LinkState.GATED)
    rig.send(3)
    rig.link.on_writable()
    assert rig.leg.sent == []
    rig.link.open_gate()
    rig.link.pump()
    assert len(rig.leg.sent) == 3


# When a Ping goes out.


def test_a_ping_follows_64_messages_and_names_the_last_of_them() -> None:
    """Behind the 64th, not behind the 63rd, and again behind the 128th."""
    rig = Rig()
    rig.send(63)
    assert rig.leg.pings == []
    rig.send(1)
    assert rig.leg.pings == [64]
    assert rig.leg.wire[-1] == ("ping", 64)
    rig.send(64)
    assert rig.leg.pings == [64, 128]


def test_a_burst_in_one_pump_is_pinged_every_64_messages_too() -> None:
    """The Pings lie between the messages, each behind the one that it names."""
    rig = Rig()
    for _ in range(130):
        rig.outbox.push((Opcode.BINARY, b""))
    rig.link.pump()
    assert rig.leg.pings == [64, 128]
    assert rig.leg.wire.index(("ping", 64)) == 64
    assert rig.leg.wire.index(("ping", 128)) == 129


def test_a_ping_follows_256_kib() -> None:
    """Few large messages are as much to hold as many small ones."""
    rig = Rig()
    rig.send(3, size=64 * 1024)
    assert rig.leg.pings == []
    rig.send(1, size=64 * 1024)
    assert rig.leg.pings == [4]


@pytest.mark.parametrize("early", [0.0, 0.0004, 0.003, 0.0099])
def test_a_ping_follows_a_message_within_100_ms(early: float) -> None:
    """Also by a shared timer, which may be up to 10 ms late, wherever in its grain the message falls."""
    clock = FakeClock()
    rig = Rig(clock=clock, shared=Timers(clock))
    clock.advance(early)
    rig.send()
    clock.advance(0.08)
    assert rig.leg.pings == []
    clock.advance(0.0201)
    assert rig.leg.pings == [1]


def test_a_ping_rides_behind_a_message_that_comes_50_ms_after_the_first_uncovered_one() -> None:
    """A trickle is asked about in the writes that it needs anyway."""
    rig = Rig()
    for moment in range(5):
        rig.send()
        assert rig.leg.pings == ([] if moment < 3 else [4])
        rig.clock.advance(0.02)
    assert rig.leg.wire[-2:] == [("ping", 4), ("data", bytes(1))]
    rig.clock.advance(0.1)
    assert rig.leg.pings == [4, 5]


def longest_unasked(gap: int) -> float:
    """Send a message every `gap` ms to a peer that answers at once. Returns the longest time without a Ping behind one.

    In seconds. It is looked at every 5 ms.
    """
    rig = Rig()
    sent: list[float] = []
    answered, longest = 0, 0.0
    for moment in range(0, 2000, 5):
        if moment % gap == 0:
            rig.send()
            sent.append(rig.clock.now)
        rig.clock.advance(0.005)
        if rig.leg.pings[answered:]:
            answered = len(rig.leg.pings)
            pong(rig.link, rig.leg.pings[-1])
        unasked = sent[rig.leg.pings[-1] if rig.leg.pings else 0 :]
        longest = max(longest, rig.clock.now - unasked[0] if unasked else 0.0)
    return longest


@pytest.mark.parametrize("gap", [5, 10, 30, 45, 50, 70, 100, 150])
def test_every_message_of_a_trickle_is_asked_about_within_100_ms(gap: int) -> None:
    """Version 1 counted from the last message, so a steady trickle was asked about only every 64 messages."""
    assert longest_unasked(gap) <= 0.1


def test_a_link_that_waits_for_64_messages_fails_that_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without the two times, only the count leads to a Ping."""
    monkeypatch.setattr(link, "AFTER", 1000.0)
    monkeypatch.setattr(link, "RIDES_AFTER", 1000.0)
    assert longest_unasked(30) > 1.5


def test_a_full_outbox_is_asked_about_at_once_and_again_with_each_pong() -> None:
    """Its sender is not read meanwhile, and would be held up by 100 ms each time."""
    rig = Rig(outbox=Outbox(1000))
    rig.send(size=600)
    assert rig.leg.pings == []
    rig.send(size=600)
    assert rig.outbox.full
    assert rig.leg.pings == [2]
    rig.send(2, size=600)
    assert rig.leg.pings == [2], "one is in flight"
    pong(rig.link, 2)
    assert rig.leg.pings == [2, 4]
    pong(rig.link, 4)
    assert not rig.outbox.full
    rig.send(size=100)
    assert rig.leg.pings == [2, 4]


def test_no_ping_follows_when_nothing_is_unconfirmed() -> None:
    """A quiet link whose messages are all confirmed stays quiet until the idle Ping."""
    rig = Rig()
    rig.send()
    rig.clock.advance(0.2)
    pong(rig.link, 1)
    rig.clock.advance(4.5)
    assert rig.leg.pings == [1]


def test_a_ping_follows_although_others_are_in_flight() -> None:
    """Up to four: the peer may be far away."""
    rig = Rig()
    for number in range(1, 7):
        rig.send()
        rig.clock.advance(0.1)
        assert rig.leg.pings == list(range(1, min(number, 4) + 1))


def test_what_became_due_while_four_pings_were_in_flight_is_asked_about_with_the_next_pong() -> None:
    """At once, and no timer is needed for it."""
    rig = Rig()
    for _ in range(7):
        rig.send()
        rig.clock.advance(0.1)
    assert rig.leg.pings == [1, 2, 3, 4]
    pong(rig.link, 1)
    assert rig.leg.pings == [1, 2, 3, 4, 7]


def test_a_pong_in_the_middle_of_a_burst_does_not_ask_about_it_early() -> None:
    """The Ping follows when it is due."""
    rig = Rig()
    rig.send(64)
    rig.send()
    pong(rig.link, 64)
    rig.clock.advance(0.04)
    rig.send()
    assert rig.leg.pings == [64]
    rig.clock.advance(0.06)
    assert rig.leg.pings == [64, 66]


def test_at_most_four_pings_are_in_flight() -> None:
    """The fifth waits for a Pong, and then names the last message sent by that time."""
    rig = Rig()
    rig.send(64 * 6)
    assert rig.leg.pings == [64, 128, 192, 256]
    pong(rig.link, 64)
    assert rig.leg.pings == [64, 128, 192, 256, 384]
    rig.send(64)
    assert len(rig.leg.pings) == 5


def test_what_a_session_waits_for_is_asked_about_at_once_and_once() -> None:
    """No 100 ms at the end of a session; asking again before anything else is sent adds no Ping."""
    rig = Rig()
    rig.send(3)
    rig.link.ask()
    rig.link.ask()
    assert rig.leg.pings == [3]
    rig.send()
    rig.link.ask()
    assert rig.leg.pings == [3, 4]


def test_nothing_is_asked_when_nothing_is_open() -> None:
    """All confirmed, or nothing sent."""
    rig = Rig()
    rig.link.ask()
    assert rig.leg.pings == []


# What a Pong confirms.


def test_a_pong_confirms_what_lies_before_its_ping_and_no_more() -> None:
    """The Pong for n is confirm(n)."""
    rig = Rig()
    rig.send(70)
    pong(rig.link, 64)
    assert (rig.outbox.confirmed, rig.outbox.unconfirmed) == (64, 6)
    assert rig.owner.relieved == 1


def test_a_pong_answers_for_the_earlier_pings_too() -> None:
    """RFC 6455 section 5.5.3: a peer may answer only the latest."""
    rig = Rig()
    rig.send(192)
    pong(rig.link, 128)
    assert rig.outbox.confirmed == 128
    pong(rig.link, 64)
    assert rig.outbox.confirmed == 128
    pong(rig.link, 192)
    assert rig.outbox.confirmed == 192


@pytest.mark.parametrize("payload", [b"", b"hello", (63).to_bytes(8, "big"), (65).to_bytes(8, "big"), b"\xff" * 8])
def test_a_pong_that_answers_no_ping_of_this_link_is_ignored(payload: bytes) -> None:
    """Unsolicited, forged, of another size: none of them confirms anything."""
    rig = Rig()
    rig.send(70)
    rig.link.on_pong(payload)
    assert rig.outbox.confirmed == 0


def test_a_pong_counts_once() -> None:
    """The same Pong again is a stale one."""
    rig = Rig()
    rig.send(64)
    pong(rig.link, 64)
    rig.send(1)
    pong(rig.link, 64)
    assert (rig.outbox.confirmed, rig.owner.relieved) == (64, 1)


def test_a_pong_for_a_ping_of_an_earlier_link_is_ignored() -> None:
    """A token belongs to its generation, even where the number would fit."""
    old = Rig()
    old.send(64)
    old.link.on_lost(1006, "")
    new = Rig(outbox=old.outbox, clock=old.clock)
    new.link.resume(None)
    new.link.pump()
    new.send(10)
    assert new.leg.pings == [64]
    pong(old.link, 64)
    assert new.outbox.confirmed == 0
    pong(new.link, 64)
    assert new.outbox.confirmed == 64


def test_a_pong_that_a_stated_count_has_overtaken_is_no_error() -> None:
    """A link may be pinged before its gate opens, and the count it then brings be ahead of that Ping."""
    rig = Rig()
    rig.send(10)
    rig.link.on_lost(1006, "")
    new = Rig(outbox=rig.outbox, clock=rig.clock, state=LinkState.GATED)
    rig.clock.advance(5.5)
    assert new.leg.pings == [0], "an idle link is pinged, gated or not"
    new.link.resume(8)
    pong(new.link, 0)
    assert new.outbox.confirmed == 8


# How a new link begins.


def resumed(received: int | None, uncertain: Uncertain = Uncertain.RESEND) -> tuple[Rig, Resumption]:
    """Return a link that follows one on which 5 of 6 messages were sent and 2 confirmed."""
    outbox = Outbox(10_000_000)
    for n in range(1, 7):
        outbox.push((Opcode.BINARY, b"%d" % n))
    for _ in range(5):
        outbox.mark_sent()
    outbox.confirm(2)
    outbox.rewind(2)
    rig = Rig(replace(POLICY, uncertain=uncertain), outbox)
    resumption = rig.link.resume(received)
    rig.link.pump()
    return rig, resumption


@pytest.mark.parametrize("received", [2, 3, 4, 5])
@pytest.mark.parametrize("uncertain", Uncertain)
def test_an_aware_peer_is_sent_what_follows_its_count(received: int, uncertain: Uncertain) -> None:
    """confirm(N), then N+1 onwards, with any policy for uncertain messages: none is uncertain."""
    rig, resumption = resumed(received, uncertain)
    assert rig.leg.payloads == [b"%d" % n for n in range(received + 1, 7)]
    assert resumption == Resumption(waiting=6 - received, resent=5 - received, dropped=0)
    assert rig.link.aware


@pytest.mark.parametrize("received", [0, 1, 6, 7, 1000])
def test_a_count_outside_of_confirmed_to_sent_is_refused(received: int) -> None:
    """The histories disagree."""
    with pytest.raises(OutOfRange):
        resumed(received)


def test_uncertain_messages_are_resent_to_an_unaware_peer_by_default() -> None:
    """At least once."""
    rig, resumption = resumed(None)
    assert rig.leg.payloads == [b"3", b"4", b"5", b"6"]
    assert resumption == Resumption(waiting=4, resent=3, dropped=0)
    assert not rig.link.aware


def test_what_is_sent_again_is_asked_about_at_once() -> None:
    """Links that live for less than the 100 ms of a Ping confirm it, too; a first link has time."""
    rig = Rig()
    for _ in range(3):
        rig.outbox.push((Opcode.BINARY, b"1"))
    rig.link.start()
    assert rig.leg.pings == []
    rig.link.die()
    again = Rig(outbox=rig.outbox)
    again.link.resume(None)
    again.link.start()
    assert again.leg.pings == [3]
    pong(again.link, 3)
    assert again.outbox.unconfirmed == 0


def test_uncertain_messages_are_dropped_if_so_configured_and_counted() -> None:
    """At most once: what was never sent still goes out."""
    rig, resumption = resumed(None, Uncertain.DROP)
    assert rig.leg.payloads == [b"6"]
    assert resumption == Resumption(waiting=1, resent=0, dropped=3)


def test_uncertain_messages_end_the_session_if_so_configured() -> None:
    """Rather than guess."""
    with pytest.raises(DeliveryUncertain, match="not sent again"):
        resumed(None, Uncertain.CLOSE)


@pytest.mark.parametrize("uncertain", Uncertain)
def test_nothing_is_uncertain_where_nothing_was_sent(uncertain: Uncertain) -> None:
    """What only waited is sent, with any policy."""
    outbox = Outbox(1000)
    outbox.push((Opcode.BINARY, b"1"))
    rig = Rig(replace(POLICY, uncertain=uncertain), outbox)
    assert rig.link.resume(None) == Resumption(1, 0, 0)
    rig.link.pump()
    assert rig.leg.payloads == [b"1"]


# What comes in.


def test_messages_are_delivered_with_their_kind() -> None:
    """Text stays text."""
    rig = Rig()
    say(rig.link, "text", b"binary")
    assert rig.delivered == [(Opcode.TEXT, b"text"), (Opcode.BINARY, b"binary")]


@pytest.mark.parametrize("end", ["lost", "too big", "closed"])
def test_everything_that_a_dead_link_says_is_ignored(end: str) -> None:
    """Messages, Pongs, a second loss: none of them reaches the session, and no timer is left."""
    rig = Rig()
    rig.send(64)
    if end == "lost":
        rig.link.on_lost(1006, "reset")
    elif end == "too big":
        rig.link.on_too_big("17 MiB")
    else:
        rig.link.close(4000, "taken over")
    before = replace(rig.owner, lost=list(rig.owner.lost), too_big=list(rig.owner.too_big))
    say(rig.link, b"late")
    pong(rig.link, 64)
    rig.link.on_heard()
    rig.link.on_writable()
    rig.link.on_lost(1000, "late")
    rig.link.on_too_big("late")
    rig.link.pump()
    assert rig.delivered == []
    assert rig.owner == before
    assert (rig.outbox.confirmed, rig.outbox.sent, rig.outbox.pending) == (0, 0, 64)
    assert len(rig.leg.sent) == 64
    assert rig.clock.live == 0


def test_a_loss_is_reported_once_with_its_code_and_leaves_all_unconfirmed_pending() -> None:
    """The next link sends it again."""
    rig = Rig()
    rig.send(70)
    pong(rig.link, 64)
    rig.link.on_lost(1011, "oops")
    rig.link.on_lost(1006, "")
    assert rig.owner.lost == [(1011, "oops")]
    assert (rig.outbox.confirmed, rig.outbox.pending) == (64, 6)
