"""The proxy of one worker: a `Proxy` whose ids, counts, router and listener are shared with the other workers."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from ..config.model import Config
from ..core.policy import GateKind, Mode
from ..core.wire import Claim, stopping
from ..draining import Stopped, wait_until
from ..events import HandedOn, Observe
from ..net.accept import Acceptor
from ..net.handshake import SessionRequest
from ..net.tls_transport import TlsTransport
from ..proxy import GOODBYE, Proxy, ProxyParts
from .addresses import AddressTable
from .directory import Directory
from .handover import MOST_HOPS, AdoptedAcceptor, Handover, unavailable
from .placement import Placement
from .shared_counters import SharedCounters, WorkerCounts

#: The worker in which the session lives that `receiver` clients share.
SHARED = 0


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """What the supervisor gives to a worker."""

    placement: Placement
    counters: SharedCounters
    # Where clients connect to this worker. The supervisor has them open as well.
    listeners: list[socket.socket]
    # The end at which it reads its mailbox, and the ends at which it writes to the mailbox of each worker, in order.
    reading: socket.socket
    writing: list[socket.socket]
    # If there is a limit for each address: how many sessions each has in every worker.
    addresses: AddressTable | None = None
    # It replaces a worker that has died.
    is_replacement: bool = False


class WorkerProxy:
    """The proxy of one worker, and the `Router` of that proxy."""

    def __init__(self, config: Config, observe: Observe, resources: WorkerResources) -> None:
        """Make a proxy that does not listen yet."""
        self._config = config
        self._observe = observe
        self._resources = resources
        self._number = resources.placement.number
        self.handover = Handover(resources.reading, resources.writing)
        self.directory = Directory(resources.placement, self.handover.send, self._lives_here)
        counts = WorkerCounts(self._number, resources.counters, resources.addresses)
        self.proxy = Proxy(config, observe, ProxyParts(self.directory, counts, self, resources.listeners))

    async def start(self) -> None:
        """Start listening."""
        learns = self._config.gate.kind is GateKind.FIRST_MESSAGE and self._resources.is_replacement
        if learns:
            # Clients in the mailbox wait until this worker knows which ids are placed on it.
            self.handover.start(self.proxy, self.directory.take, hold=True)
            await self.directory.learn()
        await self.proxy.start()
        if learns:
            self.handover.release()
        else:
            self.handover.start(self.proxy, self.directory.take)
        self._resources.counters.set_gone(self._number, False)

    async def stop(self) -> Stopped:
        """Stop the proxy, and hand no clients over any more. Clients that are relayed go on: see `relays_ended`."""
        # The supervisor has the listeners open too, so closing them would not stop connections from being accepted.
        for listener in self._resources.listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        stopped = await self.proxy.stop()
        self._resources.counters.set_gone(self._number, True)
        self.handover.close()
        return stopped

    async def relays_ended(self, seconds: float) -> None:
        """Wait until no client is relayed to another worker; after so many seconds, abort those that are."""
        await wait_until(lambda: not self.handover.relays, seconds)
        for relay in list(self.handover.relays):
            relay.abort()
        await wait_until(lambda: not self.handover.relays, GOODBYE)

    # Which worker (net.accept.Router).

    def route(self, acceptor: Acceptor, request: SessionRequest, data: bytes) -> bool:
        """Hand a client over to the worker that its session lives in; return False if that is this one."""
        worker = self._worker_of(request.claim)
        if worker == self._number or (isinstance(acceptor, AdoptedAcceptor) and acceptor.hops >= MOST_HOPS):
            return False
        if self._resources.counters.gone(worker):
            raise stopping() if self.proxy.draining else unavailable(worker)
        transport = acceptor.transport
        self._observe(HandedOn(request.claim.session_id or "", worker, isinstance(transport, TlsTransport)))
        self.handover.hand_over(acceptor, transport, request.peer, data, worker)
        return True

    def _worker_of(self, claim: Claim) -> int:
        """Return the number of the worker in which the session that is claimed lives, or is to be opened."""
        mode, session_id = self._config.mode, claim.session_id
        if mode is Mode.SENDER:
            return self._number
        if session_id is None:
            return SHARED if mode is Mode.RECEIVER else self._number
        return self._number if self._lives_here(session_id) else self.directory.worker_of(session_id)

    def _lives_here(self, session_id: str) -> bool:
        return session_id in self.proxy.registry
