"""The last thing a session does: one side is still owed the rest of a stream, gets it, and is closed behind that.

It is asked at once what it has, and is waited for as long as it shows that it takes what it is owed, be it slowly. A
peer that is connected and confirms nothing is given the time that a silent one is given; a client that is gone has its
grace (`Clients`), and an upstream that is lost its retry budget (`Upstream`).
"""

from __future__ import annotations

import math
from typing import Protocol

from .clients import Clients
from .clock import Clock, Timer
from .link import Link
from .outbox import Outbox
from .policy import Policy
from .upstream import Upstream


class DeliveryOwner(Protocol):
    """What is to be known of the session that ends."""

    #: What its two sides are owed.
    c2u: Outbox
    u2c: Outbox
    clients: Clients
    upstream: Upstream
    #: The code and reason with which it ends.
    ending: tuple[int, str]

    def delivery_over(self) -> None:
        """All is delivered, or there is no hope that it will be."""


class Delivery:
    """The wait for one side of a session to have what it is owed."""

    __slots__ = ("_clock", "_confirmed", "_confirmed_at", "_limit", "_patience", "_session", "_timer", "_to_upstream")

    def __init__(self, session: DeliveryOwner, to_upstream: bool, clock: Clock, policy: Policy) -> None:
        """Begin to wait for one side, the upstream's or the client's; the other one is closed already."""
        self._session = session
        self._to_upstream = to_upstream
        self._clock = clock
        # Seconds for which a peer that is connected may confirm nothing …
        self._patience = policy.ping_interval + policy.ping_timeout
        # … and one that is lost and reached again, over and over: it has that time and the retry budget in all.
        self._limit = self._patience + policy.retry_for if to_upstream else math.inf
        # How much had been confirmed when it was looked at last, and since when it is not more.
        self._confirmed = self._owed()[0].confirmed
        self._confirmed_at = clock.time()
        self._timer: Timer | None = clock.call_later(self._patience, self._look)

    def check(self) -> None:
        """See whether that was all. If not, ask what has arrived; each of several clients is closed when it has all."""
        session = self._session
        if self._to_upstream:
            if not session.c2u:
                session.delivery_over()
            elif session.upstream.link is not None:
                session.upstream.link.ask()
            return
        clients = session.clients
        for client in [client for client in clients.links if not client.outbox]:
            clients.detach(client).close(*session.ending)
            if not clients.links:
                session.delivery_over()
                return
        for client in clients.links:
            client.ask()

    def stop(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _owed(self) -> tuple[Outbox, Link | None]:
        """Return what is owed, and the link of whoever is owed it, if there is one."""
        session = self._session
        if self._to_upstream:
            return session.c2u, session.upstream.link
        return session.u2c, next(iter(session.clients.links), None)

    def _look(self) -> None:
        """Give a peer up that confirms nothing."""
        self._timer = None
        outbox, link = self._owed()
        now = self._clock.time()
        if outbox.confirmed != self._confirmed:
            self._confirmed, self._confirmed_at = outbox.confirmed, now
        stuck = now - self._confirmed_at
        # A peer that has just come back has had no time yet.
        given_up = link is not None and stuck >= self._patience and now >= link.opened_at + self._patience
        if given_up or stuck >= self._limit:
            self._session.delivery_over()
        else:
            self._timer = self._clock.call_later(self._patience, self._look)
