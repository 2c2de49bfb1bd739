"""The connections that are accepted and not served yet, and how many there may be.

    TCP accept -> waiting for its head -> waiting for the first dial of its session -> served, or answered and shut
                  |__________________ in the lobby __________________________|

Who opens connections and says nothing, or a byte now and then, must not lock out those who speak. So a full lobby costs
the connection that has waited longest for its head its place, and only where none waits for a head is the newcomer
refused. A burst is no attack: clients that come back all at once are accepted before the first head can have been read,
so nobody loses a place within FRESH seconds, and the lobby may hold BURST times what it should meanwhile.

File descriptors are the other thing that runs out here. The system gives the lowest number that is free, so a high one
says that most are taken; what is left then belongs to sessions that are alive, which need some to dial again.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from typing import Protocol

from ..core.wire import Refusal

#: Seconds that a connection surely keeps its place for its head to arrive.
FRESH = 0.25
#: How far a burst of fresh connections may pass the limit, as a factor.
BURST = 4
#: One in so many file descriptors, and at least so many, are kept for the sessions that are alive.
SPARE_SHARE = 16
SPARE_LEAST = 8


def descriptors_for_clients() -> float:
    """Return the number that a client's file descriptor must be below, after RLIMIT_NOFILE of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else without_spare(soft)


def without_spare(limit: int) -> int:
    """Return how many of `limit` descriptors are for clients, and all else but what is kept for living sessions."""
    return limit - max(SPARE_LEAST, limit // SPARE_SHARE)


def with_spare(count: int) -> int:
    """Return a limit of which `count` descriptors are left: what `without_spare` says of it is no less."""
    return count + max(SPARE_LEAST, count // (SPARE_SHARE - 1) + 1)


class Guest(Protocol):
    """A connection in the lobby."""

    def evict(self, refusal: Refusal) -> None:
        """Answer `refusal` and shut the connection."""

    def abort(self) -> None:
        """Shut the connection at once."""


class Lobby:
    """The guests, by what they wait for. `len` is how many are in the way; those that were answered are not."""

    def __init__(self, room: int, descriptors: float = math.inf) -> None:
        """Make an empty lobby.

        Args:
            room: how many guests there should be at the most.
            descriptors: the number that a guest's file descriptor must be below.
        """
        self._room = room
        self._descriptors = descriptors
        # Those whose head (or TLS handshake) is not complete, in the order in which they came, and when that was.
        self._speaking: dict[Guest, float] = {}
        # Those whose head is complete: the first dial of their session is under way.
        self._dialling: set[Guest] = set()
        # Those that were answered, until their socket is gone.
        self._leaving: set[Guest] = set()

    def __len__(self) -> int:
        """Return how many guests wait."""
        return len(self._speaking) + len(self._dialling)

    def __iter__(self) -> Iterator[Guest]:
        """Go through all that have an open socket here."""
        return chain(self._speaking, self._dialling, self._leaving)

    def __bool__(self) -> bool:
        """Tell whether any guest has an open socket here."""
        return bool(self._speaking or self._dialling or self._leaving)

    def enter(self, guest: Guest, now: float, descriptor: int) -> None:
        """Let `guest` in, to wait for its head; that may cost another its place.

        Args:
            guest: a connection that was just accepted.
            now: the loop's time in seconds.
            descriptor: the number of its file descriptor.

        Raises:
            Refusal: 503, there is no room. The guest is among those that leave.
        """
        self._leaving.add(guest)
        if descriptor >= self._descriptors:
            raise _busy("too-few-descriptors", "the proxy has no file descriptors left for new connections")
        if len(self) >= self._room:
            self._make_room(now)
        self._leaving.discard(guest)
        self._speaking[guest] = now

    def _make_room(self, now: float) -> None:
        longest = next(iter(self._speaking), None)
        if longest is not None and now >= self._speaking[longest] + FRESH:
            self.answered(longest)
            longest.evict(_busy("handshake-evicted", "others came while this connection had sent no whole head"))
        elif longest is None or len(self) >= BURST * self._room:
            raise _busy("too-many-handshakes", f"{len(self)} connections wait to be served, and no more are allowed")

    def spoke(self, guest: Guest) -> None:
        """Take note that the head of `guest` is complete."""
        if self._speaking.pop(guest, None) is not None:
            self._dialling.add(guest)

    def answered(self, guest: Guest) -> None:
        """Take note that `guest` waits for nothing any more but the end of its socket."""
        if guest in self._dialling or guest in self._speaking:
            self.leave(guest)
            self._leaving.add(guest)

    def leave(self, guest: Guest) -> None:
        """Forget `guest`: its socket is gone, or has been handed over."""
        self._speaking.pop(guest, None)
        self._dialling.discard(guest)
        self._leaving.discard(guest)


def _busy(error: str, detail: str) -> Refusal:
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error, detail, retry_after=1)
