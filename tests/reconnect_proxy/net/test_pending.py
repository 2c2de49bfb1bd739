"""Who may wait to be served: silence costs a place, a burst does not, and some descriptors are kept back."""

from __future__ import annotations

import resource

import pytest

from reconnect_proxy.core.wire import Refusal
from reconnect_proxy.net.pending import BURST, FRESH, Lobby, descriptors_for_clients

ROOM = 3


class Guest:
    """A connection that writes down how it was sent away."""

    def __init__(self) -> None:
        self.evicted: str | None = None

    def evict(self, refusal: Refusal) -> None:
        """Write down why."""
        self.evicted = refusal.error

    def abort(self) -> None:
        """Be shut."""


def enter(lobby: Lobby, now: float, count: int = 1, descriptor: int = 0) -> list[Guest]:
    """Let guests in, all at one time."""
    guests = [Guest() for _ in range(count)]
    for guest in guests:
        lobby.enter(guest, now, descriptor)
    return guests


def refused(lobby: Lobby, now: float, descriptor: int = 0) -> str:
    """Return why a guest is not let in."""
    with pytest.raises(Refusal) as caught:
        lobby.enter(Guest(), now, descriptor)
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    return caught.value.error


def test_the_one_that_has_waited_longest_for_its_head_makes_room() -> None:
    """So those who say nothing cannot lock out those who speak."""
    lobby = Lobby(ROOM)
    (a,) = enter(lobby, 0.0)
    b, c = enter(lobby, 0.1, 2)
    (d,) = enter(lobby, 1.0)
    assert [guest.evicted for guest in (a, b, c, d)] == ["handshake-evicted", None, None, None]
    lobby.leave(c)
    e, f = enter(lobby, 1.0, 2)
    assert [guest.evicted for guest in (b, d, e, f)] == ["handshake-evicted", None, None, None]
    assert len(lobby) == ROOM


def test_those_whose_head_has_come_keep_their_place() -> None:
    """Where all wait for an upstream, the new one is refused."""
    lobby = Lobby(ROOM)
    guests = enter(lobby, 0.0, ROOM)
    for guest in guests[:2]:
        lobby.spoke(guest)
    enter(lobby, 1.0)
    assert [guest.evicted for guest in guests] == [None, None, "handshake-evicted"]
    lobby = Lobby(ROOM)
    for guest in enter(lobby, 0.0, ROOM):
        lobby.spoke(guest)
    assert refused(lobby, 1.0) == "too-many-handshakes"


def test_a_burst_is_let_in_and_evicts_nobody() -> None:
    """All that come within a moment may stay until their heads have had time; but there is an end of it."""
    lobby = Lobby(ROOM)
    guests = enter(lobby, 0.0, BURST * ROOM)
    assert refused(lobby, 0.0) == "too-many-handshakes"
    for guest in guests:
        lobby.spoke(guest)
    assert not any(guest.evicted for guest in guests)
    for guest in guests:
        lobby.leave(guest)
    enter(lobby, FRESH)
    assert len(lobby) == 1


def test_one_that_was_answered_takes_no_room_until_its_socket_is_gone_but_is_known() -> None:
    """A stop has to shut it all the same."""
    lobby = Lobby(1)
    (a,) = enter(lobby, 0.0)
    lobby.spoke(a)
    lobby.answered(a)
    (b,) = enter(lobby, 0.0)
    assert len(lobby) == 1
    assert set(lobby) == {a, b}
    lobby.leave(a)
    lobby.answered(a)
    lobby.leave(b)
    assert not lobby


def test_a_refused_guest_is_known_until_its_socket_is_gone() -> None:
    """It was never in the way."""
    lobby = Lobby(1, descriptors=10)
    assert refused(lobby, 0.0, descriptor=10) == "too-few-descriptors"
    assert len(lobby) == 0
    (guest,) = lobby
    lobby.leave(guest)
    assert not lobby


def test_some_descriptors_are_kept_for_sessions_that_are_alive() -> None:
    """One in sixteen, and eight at least."""
    lobby = Lobby(ROOM, descriptors=100)
    enter(lobby, 0.0, descriptor=99)
    assert refused(lobby, 0.0, descriptor=100) == "too-few-descriptors"
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft - descriptors_for_clients() == max(8, soft // 16)
