"""How a client gets from the worker that it connected to, to the worker that its session lives in.

    Acceptor: head read, reading paused            AdoptedAcceptor: reads the same head, and goes on from there
         │ hand_over                                     ▲
         ▼                                               │ _take
    a message with the socket (under TLS: with one end of a relay), what was read, and the client's address

What the first worker has counted and timed for the client ends there when the message is sent. The second worker counts
and times it from the start.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, cast

from ..core.wire import Refusal
from ..net.accept import Acceptor, AcceptorHost, AcceptorState
from ..net.tls_transport import TlsTransport
from .mailbox import MailboxReader, MailboxWriter, WorkerMessage
from .relay import Relay, RelayedTransport

#: Seconds for which a client waits until there is room in the mailbox of the worker that it goes to.
PATIENCE = 5.0
#: How often a client is handed over at most: to the worker that its id is placed on, and from there to the one that has
#: its session.
MOST_HOPS = 2

#: Takes the facts and the data of a message that brings no client.
TakeMessage = Callable[[dict[str, Any], bytes], None]


class AdoptedAcceptor(Acceptor):
    """The acceptor of a client whose head another worker has read."""

    def __init__(self, host: AcceptorHost, peer: str, hops: int, data: bytes, client: socket.socket | None) -> None:
        """Make the protocol object of one connection.

        Args:
            host: the proxy of this worker.
            peer: the client's IP address.
            hops: how often the client has been handed over.
            data: what was read of it.
            client: a copy of the client's TCP socket, if another worker relays it.
        """
        super().__init__(host, peer)
        self.hops = hops
        self._read: bytes | None = data
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket. More is read from it when this turn of the loop is over."""
        transport = cast(asyncio.Transport, transport)
        self.transport = transport if self._client is None else RelayedTransport(transport, self, self._client)
        # From then on reading can be paused.
        asyncio.get_running_loop().call_soon(self._begin)

    def data_received(self, data: bytes) -> None:
        if self._read is not None:
            self._read += data
        else:
            super().data_received(data)

    def _begin(self) -> None:
        data, self._read = self._read, None
        if self.state is AcceptorState.READING:
            self.await_head()
            self.data_received(data or b"")


class Handover:
    """The clients that a worker hands over to others, and those that it is given."""

    def __init__(self, reading: socket.socket, writing: list[socket.socket]) -> None:
        """Prepare to use the mailboxes.

        Args:
            reading: where this worker reads its own mailbox.
            writing: where it writes to those of all workers, in order.
        """
        # From the start on: the proxy of this worker, and what takes messages that bring no client.
        self._host: AcceptorHost
        self._take_message: TakeMessage
        # While clients have to wait: the messages that bring them.
        self._held: list[WorkerMessage] | None = None
        self._reader = MailboxReader(reading, self._take)
        self._writers = [MailboxWriter(each) for each in writing]
        self._loop = asyncio.get_running_loop()
        # Until a client that was given, or one end of a relay, has its transport.
        self._connecting: set[asyncio.Task[None]] = set()
        # Clients of this worker with TLS, whose sessions live in others.
        self.relays: set[Relay] = set()
        self._closed = False

    def start(self, host: AcceptorHost, take_message: TakeMessage, hold: bool = False) -> None:
        """Begin to read the mailbox.

        Args:
            host: the proxy of this worker.
            take_message: takes messages that bring no client.
            hold: clients have to wait for `release`.
        """
        self._host = host
        self._take_message = take_message
        self._held = [] if hold else None
        self._reader.start()

    def release(self) -> None:
        """Serve the clients that had to wait, and all others from now on."""
        held, self._held = self._held or [], None
        for message in held:
            self._take(message)

    def close(self) -> None:
        """Give and take no more clients. Relays go on."""
        if not self._closed:
            self._closed = True
            self.release()
            self._reader.close()
            for writer in self._writers:
                writer.close()

    def hand_over(self, acceptor: Acceptor, transport: asyncio.Transport, peer: str, data: bytes, to: int) -> None:
        """Hand a client over to worker `to`. If that is not possible, the client is refused with 503.

        Args:
            acceptor: the client.
            transport: its connection; nothing is read from it any more.
            peer: its IP address.
            data: what was read of it so far.
            to: the number of a worker.
        """
        if self._closed:
            acceptor.evict(unavailable(to))
            return
        transport.pause_reading()
        hops = acceptor.hops + 1 if isinstance(acceptor, AdoptedAcceptor) else 1
        facts = {"kind": "client", "peer": peer, "hops": hops}
        if isinstance(transport, TlsTransport):
            self._relay(acceptor, transport, facts, data, to)
            return
        message = WorkerMessage(facts, data, [os.dup(number) for number in descriptors_of(transport)])

        def on_sent(sent: bool) -> None:
            message.close()
            if sent:
                # This closes our copy of the socket. The connection stays open as long as there is another copy.
                acceptor.let_go().abort()
            else:
                acceptor.evict(unavailable(to))

        self._writers[to].send(message, on_sent, PATIENCE)

    def _relay(
        self, acceptor: Acceptor, transport: TlsTransport, facts: dict[str, object], data: bytes, to: int
    ) -> None:
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        client = os.dup(transport.get_extra_info("socket").fileno())
        message = WorkerMessage(facts, data, [there.detach(), client])

        def on_sent(sent: bool) -> None:
            message.close()
            if sent:
                relay = Relay(acceptor.let_go(), self.relays.discard)
                self.relays.add(relay)
                self._run(relay.start(here))
            else:
                here.close()
                acceptor.evict(unavailable(to))

        self._writers[to].send(message, on_sent, PATIENCE)

    def send(self, to: int, facts: dict[str, Any], data: bytes, then: Callable[[bool], None]) -> None:
        """Send worker `to` a message that brings no client, and tell `then` whether it was sent."""
        if self._closed:
            then(False)
        else:
            self._writers[to].send(WorkerMessage(facts, data), then, PATIENCE)

    def _take(self, message: WorkerMessage) -> None:
        """Take a client from another worker, or another message."""
        if self._closed:
            message.close()
            return
        if message.facts["kind"] != "client":
            self._take_message(message.facts, message.data)
            return
        if self._held is not None:
            self._held.append(message)
            return
        connection, *client = (socket.socket(fileno=number) for number in message.descriptors)
        message.descriptors.clear()
        facts = message.facts
        acceptor = AdoptedAcceptor(
            self._host, facts["peer"], facts["hops"], message.data, client[0] if client else None
        )
        self._run(self._adopt(acceptor, connection, client))

    async def _adopt(self, acceptor: AdoptedAcceptor, connection: socket.socket, client: list[socket.socket]) -> None:
        connection.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(lambda: acceptor, connection)
        except OSError:
            # The client has disconnected meanwhile.
            for end in (connection, *client):
                end.close()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)


def descriptors_of(transport: asyncio.Transport) -> list[int]:
    """Return the file descriptors that a client is handed over with."""
    if isinstance(transport, RelayedTransport):
        return transport.descriptors
    return [transport.get_extra_info("socket").fileno()]


def unavailable(worker: int) -> Refusal:
    """Make the refusal of a client whose session lives in a worker that cannot be reached."""
    detail = f"the session lives in worker {worker}, which does not take it just now"
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "worker-unavailable", detail, retry_after=1)
