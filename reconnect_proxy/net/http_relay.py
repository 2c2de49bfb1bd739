"""Requests that are no WebSocket: they go to the upstream as they are, and its answers come back.

    client ── HttpSocket ──► Exchange ──► HttpSocket ── upstream
              one for each request, a connection of its own to the upstream for each

An exchange is one request and its answer. Bodies are passed on piece by piece as they come, in both directions at once,
and each side is read only as fast as the other side reads. What is sent is made anew from what was parsed, and no
connection to an upstream serves two requests: so nothing that one client sends can become part of another's.

The socket comes from the `Acceptor` that read the head and goes back to it behind the answer, since the next request on
it may be a handshake.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

import h11

from ..core.pool import Pool
from ..core.wire import Refusal, stopping
from ..events import Observe
from .http_exchange import ClientGone, Exchange, HttpRequest, HttpSettings
from .http_socket import HttpSocket, Lost, keep_alive
from .tls import Tls

_LOG = logging.getLogger("reconnect_proxy.net")


class Connection(Protocol):
    """A client's connection between two requests: an `Acceptor`."""

    def take_back(self, rest: bytes) -> None:
        """Read the next request, of which `rest` was read already."""

    def abort(self) -> None:
        """Shut the connection at once."""


class HttpRelay:
    """All plain HTTP of a proxy."""

    def __init__(
        self,
        settings: HttpSettings,
        pool: Callable[[], Pool],
        tls: Tls,
        observe: Observe,
        refused: Callable[[Refusal], None],
    ) -> None:
        """Make a relay.

        Args:
            settings: times and limits.
            pool: returns the upstreams; they are there from the first request on.
            tls: knows how wss:// is dialled.
            observe: hears of each exchange.
            refused: takes note of an answer that the proxy gives itself.
        """
        self.settings = settings
        self.pool = pool
        self.tls = tls
        self.observe = observe
        self.refused = refused
        # No request is taken any more, and answers are the last of their connections.
        self.draining = False
        # The connections that have sent a plain request, and those of them that wait for another.
        self.connections: set[Connection] = set()
        self.idle: set[Connection] = set()
        self._exchanges: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        """How many exchanges are under way."""
        return len(self._exchanges)

    def admit(self, connection: Connection) -> None:
        """Count a connection among those of plain HTTP. Raises Refusal: there are too many, or the proxy stops."""
        if self.draining:
            # Else requests that keep coming would hold the stop up, and one that comes at its end would outlive it.
            raise stopping()
        limit = self.settings.limit
        if connection not in self.connections and len(self.connections) >= limit:
            detail = f"there are {limit} plain HTTP connections, and no more are allowed"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too-many-http", detail, retry_after=1)
        self.connections.add(connection)

    def forget(self, connection: Connection) -> None:
        """Take note that a connection is gone, or is a WebSocket now."""
        self.connections.discard(connection)
        self.idle.discard(connection)

    def begin(self, connection: Connection, transport: asyncio.Transport, request: HttpRequest, rest: bytes) -> None:
        """Take the socket of an admitted connection over for one exchange; `rest` came behind the request's head."""
        keep_alive(transport, self.settings.timeout)
        client = HttpSocket(h11.SERVER)
        client.connection_made(transport)
        transport.set_protocol(client)
        client.begin_request(request.head, rest)
        if not transport.is_closing():
            transport.resume_reading()
        task = asyncio.get_running_loop().create_task(self._serve(connection, client, request))
        self._exchanges.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._exchanges.discard(task)
            if task.cancelled():
                # Maybe before its first step, so that nothing in it has seen to the socket.
                self.forget(connection)
                client.cut()

        task.add_done_callback(ended)

    def drain(self) -> None:
        """End idle connections now, and the others behind their answers."""
        self.draining = True
        for connection in list(self.idle):
            connection.abort()

    async def stop(self) -> None:
        """Cut what is still under way."""
        self.drain()
        for task in self._exchanges:
            task.cancel()
        if self._exchanges:
            await asyncio.wait(self._exchanges)

    async def _serve(self, connection: Connection, client: HttpSocket, request: HttpRequest) -> None:
        """Run one exchange; whatever happens to it, the socket is given back or shut."""
        given_back = False
        try:
            await Exchange(self, client, request).run()
            if client.reusable and not self.draining:
                given_back = True
                connection.take_back(client.detach())
            else:
                await client.finish(self.settings.timeout)
        except (ClientGone, Lost, TimeoutError):
            # Nobody is there to be told, or the answer cannot be completed: the cut below shows it.
            pass
        except Exception:  # noqa: BLE001 - nobody awaits this task
            _LOG.exception("an HTTP exchange died of a fault of this program; its client is cut off")
        finally:
            if not given_back:
                self.forget(connection)
                client.cut()
