"""How a client gets from the worker that it came to, to the one that its session lives in.

    Acceptor: head read, reading paused            AdoptedClient: the same head, and it goes on from there
         │ hand_on                                       ▲
         ▼                                               │ take
    a letter with the socket (or with one end of a relay, under TLS), what was read of it, and the client's address

What the first worker has counted and timed for the client ends there when the letter has left; the second begins anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, cast

from ..core.wire import Refusal
from ..net.accept import Acceptor, AcceptorHost
from ..net.tls_transport import TlsTransport
from .mailbox import Inbox, Letter, Outbound
from .relay import Relay, RelayedTransport

__all__ = ["MOST_HOPS", "AdoptedClient", "Handover"]

#: Seconds for which a client waits until there is room in the inbox of the worker that it is to go to.
PATIENCE = 5.0
#: How often a client is handed on: to the home of its id, and from there to where that session really is.
MOST_HOPS = 2

logger = logging.getLogger("reconnect_proxy.workers")


class AdoptedClient(Acceptor):
    """A client that another worker has read the head of."""

    def __init__(self, host: AcceptorHost, peer: str, hops: int, data: bytes, far: socket.socket | None) -> None:
        """Make the protocol object of one connection.

        Args:
            host: the proxy of this worker.
            peer: the client's IP address.
            hops: how often the client has been handed on.
            data: what was read of it.
            far: a copy of the client's socket, where another worker goes on relaying it.
        """
        super().__init__(host)
        self._peer = peer
        self.hops = hops
        self._read: bytes | None = data
        self._far = far

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket, of which the next is read when this turn of the loop is over."""
        transport = cast(asyncio.Transport, transport)
        self._transport = transport if self._far is None else RelayedTransport(transport, self, self._far)
        # Reading can be paused from then on.
        asyncio.get_running_loop().call_soon(self._begin)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._read is not None:
            self._read += data
        else:
            super().data_received(data)

    def _begin(self) -> None:
        data, self._read = self._read, None
        if not self._over:
            self._await_head()
            self.data_received(data or b"")


class Handover:
    """The clients that a worker hands on, and those that it is given."""

    def __init__(
        self,
        host: AcceptorHost,
        reading: socket.socket,
        writing: list[socket.socket],
        hear: Callable[[dict[str, Any], bytes], None],
    ) -> None:
        """Prepare to use the inboxes.

        Args:
            host: the proxy of this worker.
            reading: where it reads its own inbox.
            writing: where it writes to those of all workers, in order.
            hear: takes the facts and data of letters that bring no client.
        """
        self._host = host
        self._hear = hear
        # Clients that have to wait until this worker knows whose they are.
        self._held: list[Letter] | None = None
        self._inbox = Inbox(reading, self._take)
        self._outbound = [Outbound(each) for each in writing]
        self._loop = asyncio.get_running_loop()
        # Being given, until they have a transport.
        self._adopting: set[asyncio.Task[None]] = set()
        # Clients of ours with TLS, whose sessions live elsewhere.
        self.relays: set[Relay] = set()
        self._closed = False

    def start(self, hold: bool = False) -> None:
        """Read the inbox from now on; with `hold`, clients in it have to wait for `release`."""
        self._held = [] if hold else None
        self._inbox.start()

    def release(self) -> None:
        """Take the clients that had to wait, and all others from now on."""
        held, self._held = self._held or [], None
        for letter in held:
            self._take(letter)

    def close(self) -> None:
        """Take and hand on no more. What is relayed goes on."""
        if not self._closed:
            self._closed = True
            self.release()
            self._inbox.close()
            for each in self._outbound:
                each.close()

    def hand_on(self, acceptor: Acceptor, transport: asyncio.Transport, peer: str, data: bytes, to: int) -> None:
        """Hand `acceptor` on to worker number `to`. Where that cannot be, it is refused: 503.

        Args:
            acceptor: the client, and
            transport: its connection, of which nothing is read from now on.
            peer: its IP address.
            data: what was read of it so far.
            to: the worker that it is handed to.
        """
        if self._closed:
            acceptor.evict(unavailable(to))
            return
        transport.pause_reading()
        hops = acceptor.hops + 1 if isinstance(acceptor, AdoptedClient) else 1
        facts = {"kind": "client", "peer": peer, "hops": hops}
        if isinstance(transport, TlsTransport):
            self._relay(acceptor, transport, facts, data, to)
            return
        letter = Letter(facts, data, [os.dup(number) for number in descriptors_of(transport)])

        def on_sent(sent: bool) -> None:
            letter.close()
            if sent:
                # Of our copy of the socket. The connection is open for as long as there is another.
                acceptor.let_go().abort()
            else:
                acceptor.evict(unavailable(to))

        self._outbound[to].send(letter, on_sent, PATIENCE)

    def _relay(
        self, acceptor: Acceptor, transport: TlsTransport, facts: dict[str, object], data: bytes, to: int
    ) -> None:
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        far = os.dup(transport.get_extra_info("socket").fileno())
        letter = Letter(facts, data, [there.detach(), far])

        def on_sent(sent: bool) -> None:
            letter.close()
            if sent:
                relay = Relay(acceptor.let_go(), self.relays.discard)
                self.relays.add(relay)
                self._run(relay.start(here))
            else:
                here.close()
                acceptor.evict(unavailable(to))

        self._outbound[to].send(letter, on_sent, PATIENCE)

    def send(self, to: int, facts: dict[str, Any], data: bytes, then: Callable[[bool], None]) -> None:
        """Send worker `to` a letter that brings no client, and tell `then` whether it has left."""
        if self._closed:
            then(False)
        else:
            self._outbound[to].send(Letter(facts, data), then, PATIENCE)

    def _take(self, letter: Letter) -> None:
        """Take a client that another worker hands on, or what else it has to say."""
        if self._closed:
            letter.close()
            return
        if letter.facts["kind"] != "client":
            self._hear(letter.facts, letter.data)
            return
        if self._held is not None:
            self._held.append(letter)
            return
        connection, *far = (socket.socket(fileno=number) for number in letter.descriptors)
        letter.descriptors.clear()
        facts = letter.facts
        client = AdoptedClient(self._host, facts["peer"], facts["hops"], letter.data, far[0] if far else None)
        self._run(self._adopt(client, connection, far))

    async def _adopt(self, client: AdoptedClient, connection: socket.socket, far: list[socket.socket]) -> None:
        connection.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(lambda: client, connection)
        except OSError:
            # It has left on the way.
            for end in (connection, *far):
                end.close()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)


def descriptors_of(transport: asyncio.Transport) -> list[int]:
    """Return the file descriptors that a client is handed on with."""
    if isinstance(transport, RelayedTransport):
        return transport.descriptors
    return [transport.get_extra_info("socket").fileno()]


def unavailable(worker: int) -> Refusal:
    """Make the refusal of a client whose session lives in a worker that cannot be reached."""
    detail = f"the session lives in worker {worker}, which does not take it just now"
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "worker-unavailable", detail, retry_after=1)
