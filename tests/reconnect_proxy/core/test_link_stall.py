"""Peers that refuse bytes, and clients that do not read while their system acknowledges them (section 4)."""

from __future__ import annotations

import pytest

from reconnect_proxy.core.policy import Policy

from .fakes import pong
from .link_rig import Rig

#: A silent peer is lost after 7 s, a stalled one after 60 s, a client that does not read after 105 s.
POLICY = Policy(ping_interval=5.0, ping_timeout=2.0, stall_timeout=60.0, unread_timeout=100.0)


def stalled_rig() -> Rig:
    """Return a link whose peer refuses what is written to it."""
    rig = Rig(POLICY)
    rig.send(10)
    rig.leg.waiting = True
    return rig


# Stalled peers.


def test_a_peer_that_accepts_nothing_is_lost_after_the_stall_timeout_although_it_talks() -> None:
    """Not before, and at most one look later."""
    rig = stalled_rig()
    rig.keep_hearing(59.0)
    assert rig.owner.lost == []
    rig.keep_hearing(12.0)
    assert rig.owner.lost == [(1006, "no byte was accepted for 60 s")]
    assert rig.leg.aborted
    assert rig.outbox.pending == 10


@pytest.mark.parametrize("sign", ["accepts", "confirms", "nothing waits"])
def test_a_peer_that_takes_something_now_and_then_is_not_stalled(sign: str) -> None:
    """However little: a slow network is not a peer that does not read."""
    rig = stalled_rig()
    for _ in range(10):
        rig.keep_hearing(45.0)
        if sign == "accepts":
            rig.leg.accepted += 1
        elif sign == "confirms":
            pong(rig.link, rig.leg.pings[-1])
            rig.send(10)
        else:
            rig.leg.waiting = False
            rig.keep_hearing(11.0)
            rig.leg.waiting = True
    assert rig.owner.lost == []


def test_a_slow_peer_is_not_stalled() -> None:
    """Its system takes everything, and it confirms nothing for a long time."""
    rig = Rig(POLICY)
    rig.send(10)
    rig.keep_hearing(600.0)
    assert rig.owner.lost == []


def test_a_peer_that_is_owed_nothing_is_not_stalled() -> None:
    """Whatever the system says of control frames."""
    rig = Rig(POLICY)
    rig.leg.waiting = True
    rig.keep_hearing(600.0)
    assert rig.owner.lost == []


def test_a_peer_that_is_not_read_is_not_lost_for_what_it_refuses() -> None:
    """It may wait until it is read; the time counts when it is read again."""
    rig = stalled_rig()
    rig.link.regulate(True)
    rig.clock.advance(300.0)
    assert rig.owner.lost == []
    assert rig.link.stalled >= 290.0


# Clients that do not read.


def unread_rig(client: bool = True) -> Rig:
    """Return a link whose peer is silent, while its system acknowledges."""
    rig = Rig(POLICY, client=client)
    rig.leg.acknowledges = True
    return rig


@pytest.mark.parametrize("owed", [0, 10])
def test_a_client_that_does_not_read_keeps_its_link(owed: int) -> None:
    """It is pinged on, and what it is owed stays unconfirmed until it answers."""
    rig = unread_rig()
    rig.send(owed)
    rig.clock.advance(55.0)
    assert rig.owner.lost == []
    assert len(rig.leg.pings) > 4
    assert rig.outbox.confirmed == 0
    for payload in list(rig.leg.pings):
        pong(rig.link, payload)
    assert rig.outbox.confirmed == owed
    rig.clock.advance(55.0)
    assert rig.owner.lost == []


def test_its_patience_ends() -> None:
    """After the interval and the unread timeout."""
    rig = unread_rig()
    rig.clock.advance(104.9)
    assert rig.owner.lost == []
    rig.clock.advance(0.2)
    assert rig.owner.lost == [(1006, "nothing was heard for 105 s")]


def test_it_is_lost_when_its_system_acknowledges_no_more() -> None:
    """At the next look: the Pings show it."""
    rig = unread_rig()
    rig.clock.advance(30.0)
    rig.leg.acknowledges = False
    rig.clock.advance(5.1)
    assert len(rig.owner.lost) == 1


@pytest.mark.parametrize("who", ["upstream", "aware client", "client whose system is gone"])
def test_others_are_lost_as_always(who: str) -> None:
    """Only a plain client may leave a Ping unanswered."""
    rig = unread_rig(client=who != "upstream")
    if who == "aware client":
        rig.link.resume(0)
    rig.leg.acknowledges = who != "client whose system is gone"
    rig.clock.advance(7.1)
    assert rig.owner.lost == [(1006, "nothing was heard for 7 s")]
