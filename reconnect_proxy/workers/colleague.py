"""A proxy that is one of several: it knows which sessions are its own, and who has the others."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from ..config import Config
from ..core.context import Context
from ..core.events import HandedOn, Observe
from ..core.policy import Mode
from ..core.wire import Claim
from ..net.accept import Acceptor, Request
from ..net.tls_transport import TlsTransport
from ..proxy import GOODBYE, Proxy
from ..stopping import Stopped, wait_until
from ..usage import Usage
from .handover import MOST_HOPS, AdoptedClient, Handover
from .homes import Homes, part
from .tallies import Tallies

__all__ = ["Colleague", "Place"]

#: The worker that has the session which `receiver` clients share.
SHARED = 0


@dataclass(frozen=True, slots=True)
class Place:
    """What makes a worker one of several: who it is, what it has been given, and what it shares."""

    homes: Homes
    tallies: Tallies
    # Where clients connect to this worker; the supervisor has it as well.
    listener: socket.socket
    # The end at which it reads its inbox, and those at which it writes to the inbox of each, in order.
    reading: socket.socket
    writing: list[socket.socket]

    @property
    def number(self) -> int:
        """Which of the workers it is, from 0 on."""
        return self.homes.number


class Colleague(Proxy):
    """The proxy of one worker."""

    def __init__(self, config: Config, observe: Observe, place: Place) -> None:
        """Make a proxy that does not listen yet."""
        super().__init__(config, observe)
        self.place = place
        self.handover = Handover(self, place.reading, place.writing)
        self._number = place.number
        self._tallies = place.tallies

    def _make_listener(self) -> socket.socket:
        return self.place.listener

    async def start(self) -> None:
        """Start listening."""
        self._tallies.set_gone(self._number, False)
        await super().start()
        self.handover.start()

    async def stop(self) -> Stopped:
        """Stop, and wait until clients are closed that have come here, and whose sessions are elsewhere."""
        # The supervisor has the listener too: closing it would not end it.
        with contextlib.suppress(OSError):
            self.place.listener.shutdown(socket.SHUT_RDWR)
        stopped = await super().stop()
        self._tallies.set_gone(self._number, True)
        self.handover.close()
        return stopped

    async def see_off(self, seconds: float) -> None:
        """Wait until the clients are gone that are relayed to other workers, for so many seconds at the most."""
        await wait_until(lambda: not self.handover.relays, seconds)
        for relay in list(self.handover.relays):
            relay.abort()
        await wait_until(lambda: not self.handover.relays, GOODBYE)

    # Whose session it is.

    def hand_on(self, guest: Acceptor, request: Request, data: bytes) -> bool:
        """Let the worker have the client where its session lives, and tell whether it has."""
        home = self._home_of(request.claim)
        if home == self._number or (isinstance(guest, AdoptedClient) and guest.hops >= MOST_HOPS):
            return False
        transport = guest.transport
        self._observe(HandedOn(request.claim.session_id or "", home, isinstance(transport, TlsTransport)))
        self.handover.hand_on(guest, transport, request.peer, data, home)
        return True

    def _home_of(self, claim: Claim) -> int:
        """Return the number of the worker in which the session that is claimed lives, or is to live."""
        if not self._policy.resumable:
            return self._number
        if claim.session_id is None:
            return SHARED if self._policy.mode is Mode.RECEIVER else self._number
        if claim.session_id in self._contexts:
            return self._number
        return self.place.homes.of(claim.session_id)

    def _new_id(self) -> str:
        return self.place.homes.new_id()

    # What all workers share.

    def _room_for_another(self, limit: int) -> bool:
        # Written first, looked at then: see `tallies`.
        self._tallies.set_sessions(self._number, len(self._alive) + 1)
        return self._tallies.all_sessions() <= limit

    def _open_new(self, request: Request, shared: bool) -> Context:
        try:
            return super()._open_new(request, shared)
        finally:
            self._tallies.set_sessions(self._number, len(self._alive))

    def _forget(self, context: Context) -> None:
        super()._forget(context)
        self._tallies.set_sessions(self._number, len(self._alive))

    def usage(self) -> list[Usage]:
        """Return how much of each limit is used here. That of the sessions is for all workers: this is a part of it."""
        sessions, *others = super().usage()
        if sessions.most is not None:
            sessions = sessions._replace(most=part(sessions.most, self._number, self._tallies.count))
        return [sessions, *others]
