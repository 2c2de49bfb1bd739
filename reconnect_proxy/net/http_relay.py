"""Plain HTTP: requests go to the upstream as they are, and its answers come back.

    client ── HttpSocket ──► Exchange ──► HttpSocket ── upstream
              one for each request, a connection of its own to the upstream for each
    client ── HttpSocket ◄── RefusedHandshake ◄── HttpSocket ── upstream
              if the request was a handshake, and the upstream refuses it

An exchange is one request and its answer. Bodies are passed on piece by piece as they come, in both directions at the
same time, and each side is read only as fast as the other side reads. What is sent is written from what was parsed, and
no connection to an upstream serves two requests. So nothing that one client sends can become part of another's request.

The socket comes from the `Acceptor` that read the head, and goes back to it after the answer, because the next request
may be a handshake.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from http import HTTPStatus
from typing import Protocol

import h11

from ..core.pool import Pool
from ..core.wire import Refusal, stopping
from ..events import DebuggerUrlPassed, Observe
from .connector import Connector
from .head import RequestHead
from .http_answer import ClientGone
from .http_exchange import Exchange, HttpRequest, HttpSettings
from .http_socket import HttpSocket, Lost, keep_alive
from .refused import Receiver, RefusedHandshake
from .tls import Tls

_LOG = logging.getLogger("reconnect_proxy.net")


class PlainConnection(Protocol):
    """A client's connection between two requests: an `Acceptor`."""

    def take_back(self, rest: bytes) -> None:
        """Wait for the next request, of which `rest` was read already."""

    def abort(self) -> None:
        """Close the connection at once."""


class HttpRelay:
    """All plain HTTP of a proxy."""

    def __init__(
        self,
        settings: HttpSettings,
        pool: Callable[[], Pool],
        connector: Connector,
        tls: Tls,
        observe: Observe,
        refused: Callable[[Refusal], None],
    ) -> None:
        """Make a relay.

        Args:
            settings: times and limits.
            pool: returns the upstreams. It is called with the first request, not before.
            connector: opens connections to them.
            tls: the certificates for wss://.
            observe: is told of each exchange.
            refused: is told of each answer of the proxy itself.
        """
        self.settings = settings
        self.pool = pool
        self.connector = connector
        self.tls = tls
        self.observe = observe
        self.refused = refused
        # The proxy stops: no request is taken any more, and each answer ends its connection.
        self.draining = False
        # The connections whose request is being answered or was answered last, and of these the idle ones in the order
        # in which they became so. One that sends its next request is counted again when the head is whole.
        self.connections: set[PlainConnection] = set()
        self.idle: dict[PlainConnection, None] = {}
        # The upstreams whose answers were found to lead clients past the proxy.
        self._leading_past: set[str] = set()
        self._exchanges: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        return len(self._exchanges)

    def admit(self, connection: PlainConnection) -> None:
        """Count a connection as one of plain HTTP. Raises Refusal if there are too many, or if the proxy stops."""
        if self.draining:
            # Otherwise further requests would delay the stop, and one that comes at its end would outlive it.
            raise stopping()
        self._count(connection)

    def _count(self, connection: PlainConnection) -> None:
        """Count a connection as one of plain HTTP; the longest idle one gives way. Raises Refusal if all are busy."""
        limit = self.settings.limit
        if len(self.connections) >= limit and self.idle:
            longest_idle = next(iter(self.idle))
            self.forget(longest_idle)
            longest_idle.abort()
        if len(self.connections) >= limit:
            detail = f"there are {limit} plain HTTP connections, and no more are allowed"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too-many-http", detail, retry_after=1)
        self.connections.add(connection)

    def forget(self, connection: PlainConnection) -> None:
        """Forget a connection that is gone, or is a WebSocket now."""
        self.connections.discard(connection)
        self.idle.pop(connection, None)

    def begin(
        self, connection: PlainConnection, transport: asyncio.Transport, request: HttpRequest, rest: bytes
    ) -> None:
        """Take over the socket of an admitted connection for one exchange. `rest` came behind the request's head."""
        client = self._client_of(transport, request.head, rest)

        def drop() -> None:
            self.forget(connection)
            client.cut()

        self._start(self._serve(connection, client, request), drop)

    def pass_on(
        self,
        connection: PlainConnection,
        transport: asyncio.Transport,
        head: RequestHead,
        rest: bytes,
        answer: RefusedHandshake,
    ) -> None:
        """Take over the socket of a client whose handshake an upstream has refused, and pass its answer on.

        Args:
            connection: the client.
            transport: its socket.
            head: its handshake.
            rest: what came behind that.
            answer: may be one for several clients, which all come before it begins.

        Raises:
            Refusal: there are too many plain HTTP connections.
        """
        self._count(connection)
        client = self._client_of(transport, head, rest)
        answer.receivers.append(Receiver(client, partial(self.forget, connection)))
        if len(answer.receivers) == 1:
            self._start(answer.run(self.settings.timeout, self.observe), answer.drop)

    def _client_of(self, transport: asyncio.Transport, head: RequestHead, rest: bytes) -> HttpSocket:
        """Return the socket of a client whose head was read, and `rest` behind it."""
        keep_alive(transport, self.settings.timeout)
        client = HttpSocket(h11.SERVER)
        client.connection_made(transport)
        client.begin_request(head, rest)
        # After all that can fail: until here, the connection's own protocol hears that it is lost.
        transport.set_protocol(client)
        if not transport.is_closing():
            transport.resume_reading()
        return client

    def _start(self, work: Coroutine[None, None, None], drop: Callable[[], None]) -> None:
        """Run one exchange. `drop` closes its sockets if it is cancelled before it has begun."""
        task = asyncio.get_running_loop().create_task(_logged(work))
        self._exchanges.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._exchanges.discard(task)
            if task.cancelled():
                work.close()
                drop()

        task.add_done_callback(ended)

    def leads_past(self, upstream: str, address: str) -> None:
        """Report, once for each upstream, that an answer has told a client to connect to `address` of the upstream."""
        if upstream not in self._leading_past:
            self._leading_past.add(upstream)
            self.observe(DebuggerUrlPassed(upstream, address))

    def drain(self) -> None:
        """End idle connections now, and the others after their answers."""
        self.draining = True
        for connection in list(self.idle):
            connection.abort()

    async def stop(self) -> None:
        """Cut the exchanges that are still under way."""
        self.drain()
        for task in self._exchanges:
            task.cancel()
        if self._exchanges:
            await asyncio.wait(self._exchanges)

    async def _serve(self, connection: PlainConnection, client: HttpSocket, request: HttpRequest) -> None:
        """Run one exchange. In all cases the socket is given back or closed."""
        given_back = False
        try:
            await Exchange(self, client, request).run()
            if client.reusable and not self.draining:
                given_back = True
                connection.take_back(client.detach())
            else:
                await client.finish(self.settings.timeout)
        finally:
            # A cut shows an answer that cannot be completed.
            if not given_back:
                self.forget(connection)
                client.cut()


async def _logged(exchange: Coroutine[None, None, None]) -> None:
    """Run one exchange, which closes its sockets by itself, and log an unexpected error."""
    try:
        await exchange
    except (ClientGone, Lost, TimeoutError):
        # The client has left.
        pass
    except Exception:  # noqa: BLE001 - this task is not awaited
        _LOG.exception("an HTTP exchange died of a fault of this program; its client is cut off")
