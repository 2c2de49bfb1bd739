"""How a silent peer is told from a mute one, and both from one that the proxy itself does not read (section 4)."""

from __future__ import annotations

import pytest

from reconnect_proxy.core import silence
from reconnect_proxy.core.outbox import Outbox
from reconnect_proxy.core.silence import Silence

from .fakes import pong, say
from .link_rig import Rig

# How silence is judged.


def test_an_idle_link_is_pinged_after_the_interval() -> None:
    """And again after each further one, as long as the peer answers."""
    rig = Rig()
    for _ in range(5):
        rig.clock.advance(4.9)
        assert rig.leg.pings == []
        rig.clock.advance(0.2)
        assert rig.leg.pings, "no idle Ping"
        pong(rig.link, rig.leg.pings.pop())
    assert rig.owner.lost == []


def test_a_silent_link_is_lost_after_interval_and_timeout() -> None:
    """Not before, and its socket is dropped."""
    rig = Rig()
    rig.clock.advance(6.9)
    assert rig.owner.lost == []
    rig.clock.advance(0.2)
    assert [code for code, _ in rig.owner.lost] == [1006]
    assert rig.leg.aborted
    assert rig.clock.live == 0


@pytest.mark.parametrize("heard_after", [0.0, 0.5, 3.0, 4.9, 5.1, 6.9])
def test_a_silent_link_is_lost_exactly_then_however_late_it_was_heard(heard_after: float) -> None:
    """The last frame counts, and not the look at which it is noticed."""
    rig = Rig()
    rig.clock.advance(heard_after)
    rig.leg.bytes_read += 1
    say(rig.link, b"the last word")
    rig.clock.advance(6.9)
    assert rig.owner.lost == []
    rig.clock.advance(0.2)
    assert len(rig.owner.lost) == 1


def test_a_link_that_died_among_messages_and_pings_is_lost_exactly_then() -> None:
    """Pings for confirmation are in flight already, and no other one is sent."""
    rig = Rig()
    for _ in range(20):
        rig.send()
        rig.leg.bytes_read += 1
        say(rig.link, b"x")
        rig.clock.advance(0.3)
        pong(rig.link, rig.leg.pings[-1])
    for _ in range(22):
        rig.send()
        rig.clock.advance(0.3)
    assert rig.owner.lost == []
    rig.clock.advance(0.6)
    assert len(rig.owner.lost) == 1


@pytest.mark.parametrize("in_flight", [False, True])
def test_a_link_is_not_lost_for_what_was_not_heard_while_the_process_was_frozen(in_flight: bool) -> None:
    """It is pinged, and has the timeout to answer."""
    rig = Rig()
    say(rig.link, b"x")
    if in_flight:
        rig.send()
        rig.clock.advance(0.1)
    rig.clock.freeze(100.0)
    rig.clock.advance(1.9)
    assert rig.leg.pings == ([1] if in_flight else [0])
    assert rig.owner.lost == []
    rig.clock.advance(0.3)
    assert len(rig.owner.lost) == 1


def test_without_that_rule_a_frozen_process_loses_its_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test before."""
    monkeypatch.setattr(silence, "LATE", 1000.0)
    with pytest.raises(AssertionError):
        test_a_link_is_not_lost_for_what_was_not_heard_while_the_process_was_frozen(in_flight=False)


def test_a_pong_that_came_while_the_process_was_frozen_is_read_before_its_peer_is_judged() -> None:
    """The peer is neither mute nor lost."""
    rig = full_rig()
    rig.link.resume(0)
    rig.clock.advance(0.1)
    rig.clock.freeze(100.0)
    say(rig.link, b"sent before the Pong")
    rig.clock.advance(1.0)
    pong(rig.link, rig.leg.pings[-1])
    rig.keep_hearing(10.0)
    assert (rig.owner.lost, rig.outbox.confirmed) == ([], 10)


@pytest.mark.parametrize("sign", ["message", "ping", "pong", "stale pong", "part of a message"])
def test_any_sign_of_life_keeps_a_link(sign: str) -> None:
    """Data, a Ping, a Pong, even bytes of a message that is not complete."""
    rig = Rig()
    for _ in range(20):
        rig.clock.advance(3.0)
        if sign == "message":
            say(rig.link, b"x")
        elif sign == "ping":
            rig.link.on_heard()
        elif sign == "pong" and rig.leg.pings:
            pong(rig.link, rig.leg.pings[-1])
        elif sign == "stale pong":
            rig.link.on_pong(b"unsolicited")
        else:
            rig.leg.bytes_read += 1
    assert rig.owner.lost == []


def test_a_link_that_is_not_read_is_not_judged() -> None:
    """Its silence is the proxy's own; judging starts anew when it is read again."""
    rig = Rig()
    rig.send(10)
    rig.clock.advance(1.0)
    rig.link.regulate(True)
    rig.clock.advance(100.0)
    assert (rig.owner.lost, rig.owner.mute, rig.outbox.confirmed) == ([], 0, 0)
    rig.link.regulate(False)
    rig.clock.advance(6.8)
    assert rig.owner.lost == []
    rig.clock.advance(6.0)
    assert [code for code, _ in rig.owner.lost] == [1006]


def test_a_pong_that_was_not_read_does_not_make_a_peer_mute() -> None:
    """The peer answered; the proxy was not listening, and now the Pong is behind the data."""
    rig = Rig()
    rig.send(10)
    rig.clock.advance(0.2)
    rig.link.regulate(True)
    rig.clock.advance(50.0)
    rig.link.regulate(False)
    say(rig.link, b"data")
    rig.clock.advance(1.9)
    assert (rig.owner.mute, rig.outbox.confirmed) == (0, 0)
    pong(rig.link, 10)
    rig.keep_hearing(20.0)
    assert (rig.owner.mute, rig.outbox.confirmed) == (0, 10)


def test_a_mute_peer_is_found_out_although_reading_it_stops_now_and_then() -> None:
    """What does not count is the time it was not read, not all that came before."""
    rig = full_rig()
    for _ in range(10):
        rig.keep_hearing(0.5)
        rig.link.regulate(True)
        rig.clock.advance(1.0)
        rig.link.regulate(False)
    assert rig.owner.mute == 1


def test_reading_is_stopped_and_resumed_once_each() -> None:
    """`regulate` states what is wanted; the socket hears only changes."""
    rig = Rig()
    for pause in (False, True, True, False, False):
        rig.link.regulate(pause)
        assert rig.leg.paused is pause


# Mute or slow.


def full_rig() -> Rig:
    """Return a link with ten messages written and not confirmed, and a full outbox."""
    rig = Rig(outbox=Outbox(1000))
    rig.send(10)
    assert rig.outbox.full
    return rig


def test_a_peer_that_sends_data_answers_no_ping_and_has_a_full_outbox_is_mute() -> None:
    """After the timeout: reported once, and all that is written to it is let go, and counts as uncertain."""
    rig = full_rig()
    rig.keep_hearing(1.75)
    assert (rig.owner.mute, rig.outbox.confirmed) == (0, 0)
    rig.keep_hearing(2.0)
    assert (rig.owner.mute, rig.outbox.confirmed, rig.outbox.unproven) == (1, 10, 10)
    rig.send(100)
    assert (len(rig.outbox), rig.outbox.unproven) == (0, 110)
    rig.keep_hearing(60.0)
    assert (rig.owner.mute, rig.owner.lost, rig.owner.uncertain) == (1, [], [])
    rig.link.on_lost(1006, "")
    assert rig.owner.uncertain == [110]
    assert (rig.outbox.pending, rig.outbox.unproven) == (0, 0), "it is served at most once"


def test_a_slow_peer_keeps_its_messages_in_the_outbox() -> None:
    """It sends data and answers no Ping for a long time, and there is room: all is sent again if its link is lost."""
    rig = Rig()
    rig.send(10)
    rig.keep_hearing(60.0)
    assert (rig.owner.mute, rig.owner.lost, rig.outbox.confirmed) == (0, [], 0)
    rig.link.on_lost(1006, "")
    assert (rig.owner.uncertain, rig.outbox.pending) == ([], 10)


def test_a_mute_peer_is_still_pinged_and_the_oldest_ping_stays() -> None:
    """About every interval; with four in flight one in the middle is given up, so that a late Pong still counts."""
    rig = full_rig()
    rig.keep_hearing(4.0)
    assert (rig.owner.mute, rig.leg.pings) == (1, [10])
    for _ in range(6):
        rig.send()
        rig.keep_hearing(5.25)
    assert rig.leg.pings == [10, *range(11, 17)]
    assert rig.outbox.unproven == 16
    pong(rig.link, 10)
    assert rig.outbox.unproven == 6


def test_one_pong_ends_muteness_and_proves_what_lies_before_its_ping() -> None:
    """What came behind it is asked about at once; what is sent from now on is kept until it is confirmed."""
    rig = full_rig()
    rig.keep_hearing(4.0)
    rig.send(5)
    assert (rig.owner.mute, rig.outbox.unproven) == (1, 15)
    pong(rig.link, rig.leg.pings[-1])
    assert (rig.owner.answers, rig.link.mute, rig.outbox.unproven) == (1, False, 5)
    assert rig.leg.pings[-1] == 15
    rig.send(3)
    assert len(rig.outbox) == 3
    pong(rig.link, 15)
    assert (rig.outbox.unproven, len(rig.outbox)) == (0, 3)
    rig.link.on_lost(1006, "")
    assert (rig.owner.uncertain, rig.outbox.pending) == ([], 3)


def test_a_peer_that_has_answered_before_may_become_mute_again() -> None:
    """It answers nothing for the timeout, and its sender waits for it."""
    rig = full_rig()
    pong(rig.link, rig.leg.pings[-1])
    rig.send(10)
    rig.keep_hearing(4.0)
    assert (rig.owner.mute, rig.link.mute) == (1, True)


def test_an_aware_peer_that_answers_no_ping_loses_its_link_and_nothing_else() -> None:
    """At most once would break what it is promised, so it must come back and state its count."""
    rig = Rig()
    rig.link.resume(0)
    rig.send(3)
    rig.keep_hearing(4.0)
    assert (rig.owner.mute, len(rig.owner.lost), rig.leg.aborted) == (0, 1, True)
    assert (rig.outbox.confirmed, rig.outbox.pending) == (0, 3)


def test_a_peer_is_not_mute_while_the_ping_has_not_left_the_process() -> None:
    """It cannot answer what it was not sent."""
    rig = full_rig()
    rig.leg.waiting = True
    rig.keep_hearing(10.0)
    assert rig.owner.mute == 0
    rig.leg.waiting = False
    rig.keep_hearing(1.0)
    assert rig.owner.mute == 1


def test_a_peer_that_says_nothing_at_all_is_lost_not_mute() -> None:
    """Its messages are sent again on the next link."""
    rig = full_rig()
    rig.clock.advance(20.0)
    assert (rig.owner.mute, len(rig.owner.lost), rig.outbox.confirmed) == (0, 1, 0)


def test_a_peer_that_falls_silent_is_not_mute_because_it_spoke_before_or_around_the_ping() -> None:
    """What was sent to it is uncertain, not confirmed: the next link sends it again."""
    rig = Rig(outbox=Outbox(1000))
    rig.leg.bytes_read += 1
    say(rig.link, b"greeting")
    rig.send(10)
    rig.leg.bytes_read += 1
    say(rig.link, b"sent before it read the Ping")
    rig.clock.advance(20.0)
    assert (rig.owner.mute, len(rig.owner.lost), rig.outbox.confirmed) == (0, 1, 0)


def test_forged_pongs_do_not_keep_a_peer_from_being_mute() -> None:
    """They answer nothing."""
    rig = full_rig()
    for _ in range(16):
        rig.clock.advance(0.25)
        rig.link.on_pong(b"unsolicited")
    assert rig.owner.mute == 1


def test_a_link_that_is_not_read_is_pinged_all_the_same_and_not_judged() -> None:
    """A socket that is not read shows that it has died only when it is written to."""
    rig = Rig()
    rig.link.regulate(pause=True)
    rig.clock.advance(100.0)
    assert rig.leg.pings == [0, 0, 0, 0]
    assert rig.owner.lost == []


def test_a_judgement_that_takes_slow_peers_for_mute_ones_fails_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with every outbox taken for a full one, a slow peer loses what it was sent."""
    judge, full = Silence._judge_pongs, full_rig().outbox
    monkeypatch.setattr(
        Silence,
        "_judge_pongs",
        lambda self, now, heard_at, aware, leg, _, pings: judge(self, now, heard_at, aware, leg, full, pings),
    )
    with pytest.raises(AssertionError):
        test_a_slow_peer_keeps_its_messages_in_the_outbox()
