"""A proxy that is one of several: it knows which sessions are its own, and who has the others."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..config.model import Config
from ..core.context import Context, SessionState
from ..core.opening import Opening
from ..core.policy import GateKind, Mode
from ..core.wire import Claim, stopping
from ..draining import Stopped, wait_until
from ..events import HandedOn, Observe
from ..introspection import Usage
from ..net.accept import Acceptor
from ..net.handshake import SessionRequest
from ..net.tls_transport import TlsTransport
from ..proxy import GOODBYE, Proxy
from .addresses import AddressTable, SharedAddresses
from .directory import Directory
from .handover import MOST_HOPS, AdoptedClient, Handover, unavailable
from .placement import Homes, part
from .shared_counters import Tallies

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
    # Where there is a limit for each address: how many sessions each has anywhere.
    addresses: AddressTable | None = None
    # It takes the place of one that has died.
    anew: bool = False

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
        self._number = place.number
        self._tallies = place.tallies
        self.directory = Directory(place.homes, place.tallies.count, self._send, self._contexts.__contains__)
        self.handover = Handover(self, place.reading, place.writing, self.directory.take)
        # Sessions whose id is being claimed, and what is to be done when that is decided.
        self._naming: dict[Context, list[Callable[[], None]]] = {}
        if place.addresses is not None and config.max_sessions_per_address is not None:
            self._by_address = SharedAddresses(config.max_sessions_per_address, place.addresses)

    def _make_listener(self) -> socket.socket:
        return self.place.listener

    async def start(self) -> None:
        """Start listening."""
        if self.config.gate.kind is GateKind.FIRST_MESSAGE and self.place.anew:
            self.handover.start(hold=True)
            await self.directory.learn()
            await super().start()
            self.handover.release()
        else:
            await super().start()
            self.handover.start()
        self._tallies.set_gone(self._number, False)

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

    def hand_on(self, acceptor: Acceptor, request: SessionRequest, data: bytes) -> bool:
        """Let the worker have the client where its session lives, and tell whether it has."""
        home = self._home_of(request.claim)
        if home == self._number or (isinstance(acceptor, AdoptedClient) and acceptor.hops >= MOST_HOPS):
            return False
        if self._tallies.gone(home):
            raise stopping() if self.draining else unavailable(home)
        transport = acceptor.transport
        self._observe(HandedOn(request.claim.session_id or "", home, isinstance(transport, TlsTransport)))
        self.handover.hand_on(acceptor, transport, request.peer, data, home)
        return True

    def _home_of(self, claim: Claim) -> int:
        """Return the number of the worker in which the session that is claimed lives, or is to live."""
        if not self._policy.resumable:
            return self._number
        if claim.session_id is None:
            return SHARED if self._policy.mode is Mode.RECEIVER else self._number
        shared = self._shared is not None and self._shared.session_id == claim.session_id
        if shared or claim.session_id in self._contexts:
            return self._number
        home = self.place.homes.of(claim.session_id)
        return self.directory.elsewhere.get(claim.session_id, home) if home == self._number else home

    def _new_id(self) -> str:
        return self.place.homes.new_id()

    # Ids that an upstream gives: see `directory`.

    def _send(self, to: int, facts: dict[str, Any], data: bytes, then: Callable[[bool], None]) -> None:
        self.handover.send(to, facts, data, then)

    def _register(self, context: Context, opening: Opening) -> None:
        """Enter a session whose id came with its upstream's first message, as soon as its home agrees."""
        session_id = context.session_id
        if opening.refusal is not None or opening.failure is not None or not self._policy.resumable:
            return
        assert session_id is not None, "a session that has opened has an id"
        if self.place.homes.of(session_id) != self._number:
            self._naming[context] = []
            self.directory.claim(session_id, lambda granted: self._named(context, session_id, granted))
        else:
            self._enter(context, session_id not in self.directory.elsewhere)

    def _named(self, context: Context, session_id: str, granted: bool) -> None:
        waiting = self._naming.pop(context)
        if context.state is not SessionState.ENDED:
            self._enter(context, granted)
        elif granted:
            self.directory.give_up(session_id)
        for then in waiting:
            then()

    def _enter(self, context: Context, granted: bool) -> None:
        """Enter a session under its id, or under a new one where that belongs to another."""
        assert context.session_id is not None, "it has opened"
        if not granted or context.session_id in self._contexts:
            context.session_id = self._new_id()
        if context is not self._shared:
            self._contexts[context.session_id] = context

    def when_named(self, context: Context, then: Callable[[], None]) -> None:
        """Call `then` when it is settled under which id a session that has opened can be come back to."""
        waiting = self._naming.get(context)
        if waiting is None:
            then()
        else:
            waiting.append(then)

    # What all workers share.

    def _new_context(self, request: SessionRequest, named: str | None, shared: bool, asked: bool) -> Context:
        context = super()._new_context(request, named, shared, asked)
        if shared and context.session_id is None:
            context.when_opened(lambda opening: self._register(context, opening))
        return context

    def _room_for_another(self, limit: int) -> bool:
        # Written first, looked at then: see `tallies`.
        self._tallies.set_sessions(self._number, len(self._alive) + 1)
        return self._tallies.all_sessions() <= limit

    def _open_new(self, request: SessionRequest, shared: bool) -> Context:
        try:
            return super()._open_new(request, shared)
        finally:
            self._tallies.set_sessions(self._number, len(self._alive))
            if isinstance(self._by_address, SharedAddresses):
                self._by_address.settle()

    def _forget(self, context: Context) -> None:
        super()._forget(context)
        self._tallies.set_sessions(self._number, len(self._alive))
        if context.session_id is not None and context not in self._naming:
            self.directory.give_up(context.session_id)

    def usage(self) -> list[Usage]:
        """Return how much of each limit is used here. That of the sessions is for all workers: this is a part of it."""
        sessions, *others = super().usage()
        if sessions.most is not None:
            sessions = sessions._replace(most=part(sessions.most, self._number, self._tallies.count))
        return [sessions, *others]
