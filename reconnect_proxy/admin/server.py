"""A small HTTP/1.1 server for the admin listener; `routes` decides what it answers.

It runs in the event loop that carries the messages, so everything that a peer can influence has a limit: the size of
heads and bodies, the time of a request and its answer, the number of connections. A connection stays open for the next
request (Prometheus asks every few seconds). When there are too many, the one that has waited longest for a request is
closed, so idle connections cannot shut out a health probe.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from types import TracebackType
from typing import Self

import h11

from ..config.values import Address
from ..net.listeners import listen

#: The largest head of a request, and the largest body. In bytes.
MAX_HEAD = 16 * 1024
MAX_BODY = 64 * 1024
#: Seconds for a request to arrive, from its first byte on, or for the first one from the beginning of its connection.
PATIENCE = 5.0
#: Seconds for an answer to leave.
SENDING = 15.0
#: Seconds that a connection may wait for its next request.
IDLE = 75.0
#: Connections at a time.
MAX_CONNECTIONS = 64

#: The beginning of a target that is a whole URL (RFC 9112 section 3.2.2).
_ABSOLUTE = re.compile(r"https?://([^/?]*)", re.IGNORECASE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """A request. `target` is path and query as they came, `headers` have lower-case names, `peer` is an IP address."""

    method: str
    target: str
    headers: dict[str, str]
    peer: str
    body: bytes


@dataclass(frozen=True, slots=True)
class AdminResponse:
    """An answer. `headers` are those except type and length. An answer without a body has no type."""

    status: HTTPStatus
    body: bytes
    content_type: str | None = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


#: Answers a request. It must not raise.
Answer = Callable[[AdminRequest], Awaitable[AdminResponse]]
#: Answers a request that cannot be read: with this status, and this reason in words.
Refuse = Callable[[HTTPStatus, str], AdminResponse]


class AdminServer:
    """Listens on `address` while its `async with` block runs.

    Raises:
        OSError: on entering, if the address cannot be bound.

    """

    def __init__(self, address: Address, answer: Answer, refuse: Refuse) -> None:
        self.address = address
        # Whether only this machine can reach it; known when it listens.
        self.loopback = False
        self._answer = answer
        self._refuse = refuse
        # One for each address.
        self._servers: list[asyncio.Server] = []
        # One task for each connection.
        self.connections: set[asyncio.Task[None]] = set()
        # Those that wait for a request, the longest waiting first.
        self._waiting: dict[asyncio.Task[None], None] = {}
        # Held for a turn of the event loop before the next request of a connection.
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        (listeners,) = listen(*self.address)
        bound = [each.getsockname() for each in listeners]
        self.address = Address(self.address.host, bound[0][1])
        self.loopback = all(ip_address(name[0].partition("%")[0]).is_loopback for name in bound)
        for listener in listeners:
            self._servers.append(await asyncio.start_server(self._serve, sock=listener))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, and drop the requests that are not answered yet."""
        for server in self._servers:
            server.close()
        for connection in self.connections:
            connection.cancel()
        if self.connections:
            await asyncio.wait(self.connections)
        await asyncio.gather(*(server.wait_closed() for server in self._servers))

    @property
    def url(self) -> str:
        """Where it listens: `http://127.0.0.1:9125`."""
        return f"http://{self.address}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        task = asyncio.current_task()
        assert task is not None
        if len(self.connections) >= MAX_CONNECTIONS and not self._make_room():
            writer.transport.abort()
            return
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)
        connection = _Connection(reader, writer)
        done = False
        try:
            while not done:
                self._waiting[task] = None
                try:
                    request = await connection.read()
                    self._waiting.pop(task, None)
                    if request is None:
                        break
                    answer = await self._answer(request)
                except _Unreadable as error:
                    answer = self._refuse(error.status, str(error))
                done = not await connection.write(answer)
                # Requests may be there already, thousands of them. One is answered between two turns, of all together.
                async with self._turn:
                    await asyncio.sleep(0)
            writer.close()
        except (OSError, TimeoutError) as error:
            reason = str(error) or "the peer does not read"
            logger.debug("admin connection lost", extra={"fields": {"reason": reason}})
            writer.transport.abort()
        except asyncio.CancelledError:
            # This server cancels it and waits for it. Of a cancelled task asyncio.streams would log an error.
            writer.transport.abort()
        finally:
            self._waiting.pop(task, None)

    def _make_room(self) -> bool:
        """Drop the connection that has waited longest for a request. Returns False if there is none."""
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        del self._waiting[longest]
        longest.cancel()
        return True


class _Unreadable(Exception):
    """A request that cannot be read. It is answered with `status`."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _Connection:
    """The requests and answers of one socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._first = True
        # The answer to the request under way has no body.
        self._head_only = False
        # So that everything that was written has left when `drain` returns.
        writer.transport.set_write_buffer_limits(high=0)

    async def read(self) -> AdminRequest | None:
        """Return the next request, or None if the peer leaves or asks nothing more.

        Raises:
            _Unreadable: it does not arrive in time, is too large, or is not HTTP.

        """
        if not self._first:
            self._http.start_next_cycle()
            if not self._http.trailing_data[0] and not await self._next_one_begins():
                return None
        self._first = False
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._event()
                if not isinstance(head, h11.Request):
                    return None
                self._head_only = head.method == b"HEAD"
                body = bytearray()
                while isinstance(event := await self._event(), h11.Data):
                    body += event.data
                    if len(body) > MAX_BODY:
                        detail = f"the body is longer than {MAX_BODY} bytes"
                        raise _Unreadable(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        except TimeoutError:
            detail = f"the request did not arrive within {PATIENCE:g} s"
            raise _Unreadable(HTTPStatus.REQUEST_TIMEOUT, detail) from None
        except h11.RemoteProtocolError as error:
            detail = f"not a request that can be read: {error}"
            raise _Unreadable(HTTPStatus(error.error_status_hint), detail) from None
        headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        peer = self._writer.get_extra_info("peername")
        address = peer[0] if peer else ""
        target = head.target.decode()
        if (url := _ABSOLUTE.match(target)) is not None:
            # The Host header is ignored then.
            headers["host"], target = url[1], "/" + target[url.end() :].removeprefix("/")
        return AdminRequest(head.method.decode(), target, headers, address, bytes(body))

    async def _next_one_begins(self) -> bool:
        try:
            async with asyncio.timeout(IDLE):
                data = await self._reader.read(MAX_HEAD)
        except TimeoutError:
            return False
        self._http.receive_data(data)
        return True

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                going_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                self._writer.write(self._http.send(going_on) or b"")
            self._http.receive_data(await self._reader.read(MAX_HEAD))
        return event

    async def write(self, answer: AdminResponse) -> bool:
        """Send `answer`, and return whether the connection can carry another request.

        Raises:
            TimeoutError: the peer does not read.

        """
        http = self._http
        headers = [("Cache-Control", "no-store"), *answer.headers]
        if answer.content_type is not None:
            headers.append(("Content-Type", answer.content_type))
        if answer.status != HTTPStatus.NO_CONTENT:
            headers.append(("Content-Length", str(len(answer.body))))
        if http.their_state is not h11.DONE:
            # The beginning of the next request cannot be found.
            headers.append(("Connection", "close"))
        head = http.send(h11.Response(status_code=answer.status, headers=headers, reason=answer.status.phrase))
        body = http.send(h11.Data(data=b"" if self._head_only else answer.body))
        self._writer.write((head or b"") + (body or b"") + (http.send(h11.EndOfMessage()) or b""))
        async with asyncio.timeout(SENDING):
            await self._writer.drain()
        return http.our_state is h11.DONE and http.their_state is h11.DONE
