"""The last thing that a session does: deliver the rest of one stream, then close its receivers.

The receiver is asked at once what it has, and is awaited for as long as it shows that it takes what it is owed, even
slowly. A peer that is connected and confirms nothing is given the time that a silent one is given. A client that is
gone has its grace (`Clients`), and an upstream that is lost its retry budget (`Upstream`).
"""

from __future__ import annotations

import math

from .clients import Clients
from .interfaces import Clock, DeliveryOwner, Timer
from .message import Direction
from .policy import Policy
from .stream import Stream


class Delivery:
    """The wait for the receivers of one stream to have everything they are owed. The other stream is closed already."""

    __slots__ = (
        "_clients",
        "_clock",
        "_confirmed",
        "_confirmed_at",
        "_limit",
        "_patience",
        "_session",
        "_stream",
        "_timer",
        "_to_upstream",
    )

    def __init__(self, session: DeliveryOwner, stream: Stream, clients: Clients, clock: Clock, policy: Policy) -> None:
        """Begin to wait; `check` follows."""
        self._session = session
        self._stream = stream
        self._to_upstream = stream.direction is Direction.C2U
        self._clients = clients
        self._clock = clock
        # Seconds for which a peer that is connected may confirm nothing …
        self._patience = policy.ping_interval + policy.ping_timeout
        # … and an upstream that is lost and reached again, over and over: it has that time and the retry budget in all.
        self._limit = self._patience + policy.retry_for if self._to_upstream else math.inf
        # How much had been confirmed at the last look, and since when it is not more.
        self._confirmed = stream.outbox.confirmed
        self._confirmed_at = clock.time()
        self._timer: Timer | None = clock.call_later(self._patience, self._look)

    def check(self) -> None:
        """Finish if everything is delivered; else ask the receivers what they have."""
        if self._delivered():
            self._session.delivery_over()
        else:
            for link in self._stream.receivers:
                link.ask()

    def _delivered(self) -> bool:
        """Tell whether the receivers have everything. Of several clients each is closed as soon as it has."""
        if self._to_upstream:
            return not self._stream.outbox
        attached = bool(self._clients.links)
        self._clients.close_delivered(*self._session.told_clients())
        return attached and not self._clients.links

    def stop(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Give up a peer that confirms nothing."""
        self._timer = None
        confirmed, now = self._stream.outbox.confirmed, self._clock.time()
        if confirmed != self._confirmed:
            self._confirmed, self._confirmed_at = confirmed, now
        stuck = now - self._confirmed_at
        # A peer that has just come back has had no time yet.
        here = [link.opened_at for link in self._stream.receivers]
        given_up = bool(here) and stuck >= self._patience and now >= here[0] + self._patience
        if given_up or stuck >= self._limit:
            self._session.delivery_over()
        else:
            self._timer = self._clock.call_later(self._patience, self._look)
