"""One plain HTTP request and its answer: from a client's connection to one of an upstream, and back.

    client ── HttpSocket ── _pass_request ──► HttpSocket ── upstream
                        ◄── _pass_answer ────

Both directions run at the same time, and either may end first. What ends an exchange:

| who | what | the client gets |
| --- | --- | --- |
| upstream | cannot be reached, or sends something that is not an answer | 502, or a cut if its answer had begun |
| upstream | takes too long to connect, to read, to begin its answer | 504, or a cut |
| client | stops in the middle of its request; sends a malformed one | 408; 400 |
| client | leaves, or does not read | nothing; the upstream's connection is ended |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Protocol

import h11

from ..core.pool import Pool
from ..core.target import Target
from ..core.wire import Refusal, bad_request
from ..events import HttpFailed, HttpRelayed, Observe
from .client_address import Network, is_trusted
from .connector import Connector
from .debugger_urls import Addresses, may_have_urls, read_rewritten, watched
from .endpoint import endpoint_of, join_target
from .forwarding import encode_fields, end_to_end_answer, forwarded, service_address
from .head import INTERIM_LIMIT, MalformedHead, RequestHead, ResponseHead
from .http_answer import (
    BROKEN,
    ClientGone,
    Send,
    bad_gateway,
    broken_answer,
    clients_gone,
    end_of_body,
    first_end,
    framing_of,
    in_full,
    pass_body,
    response_of,
)
from .http_socket import HttpSocket, Lost
from .tls import Tls


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How plain HTTP is relayed. Times in seconds.

    `timeout` limits every wait for one side: for the answer's head, for more of a request, for a peer to read on.
    `idle` is how long a connection without a request is kept, `limit` the number of connections. X-Forwarded-Proto and
    -Host of peers in `trusted` networks are passed on. `rewrite_debugger_url`: see `debugger_urls`. `underscores`:
    whether trailers of requests with an underscore in their names are passed on.
    """

    connect_timeout: float
    timeout: float
    idle: float
    limit: int
    keep_host: bool
    trusted: Sequence[Network]
    rewrite_debugger_url: bool
    underscores: bool


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request's head, the IP address of its client, and `http` or `https`."""

    head: RequestHead
    peer: str
    scheme: str


class ExchangeOwner(Protocol):
    """What an exchange asks of the `HttpRelay` that it belongs to."""

    settings: HttpSettings
    connector: Connector
    tls: Tls
    observe: Observe
    #: The proxy stops: each answer ends its connection.
    draining: bool

    def pool(self) -> Pool:
        """Return the upstreams."""

    def refused(self, refusal: Refusal) -> None:
        """Report an answer of the proxy itself."""

    def leads_past(self, upstream: str, address: str) -> None:
        """Report, once for each upstream, that an answer has told a client to connect to `address` of the upstream."""


class Exchange:
    """One request and its answer."""

    def __init__(self, relay: ExchangeOwner, client: HttpSocket, request: HttpRequest) -> None:
        """Make an exchange of a `client` whose request's head was read."""
        self._relay = relay
        self._client = client
        self._request = request
        self._patience = relay.settings.timeout
        self._upstream = HttpSocket(h11.CLIENT)
        # The upstream of the connection.
        self._target: Target | None = None
        # The answer's status, once its head was passed on. From then on only a cut can show a failure.
        self._status = 0
        # Ends the wait for the answer's head; set when the request was sent.
        self._deadline: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Relay. Returns when the client has its whole answer, which may be an error of the proxy itself.

        Raises:
            ClientGone: the client has left, or the answer cannot be completed; the connection must be cut.
        """
        began = time.monotonic()
        try:
            await self._connect()
            await self._relay_both_ways()
            # The upstream was asked to close behind its answer.
            self._upstream.transport.abort()
        except Refusal as refusal:
            await self._fail(refusal)
        finally:
            self._upstream.cut()
            if self._status:
                head = self._request.head
                path = head.target.partition("?")[0]
                took = time.monotonic() - began
                self._relay.observe(HttpRelayed(self._url, head.method, path, self._status, took))

    @property
    def _url(self) -> str:
        return self._target.url if self._target is not None else ""

    async def _connect(self) -> None:
        """Open a connection to the upstream whose turn it is, or to the next one that accepts it."""
        settings, pool = self._relay.settings, self._relay.pool()
        tried: list[Target] = []
        target: Target | None = pool.pick_for_request()
        while target is not None:
            url = target.url
            upstream = self._upstream = HttpSocket(h11.CLIENT)
            try:
                async with asyncio.timeout(settings.connect_timeout):
                    await self._open(url, upstream)
            except TimeoutError:
                failure = _late(f"the upstream did not take the connection within {settings.connect_timeout:g} s")
            except (OSError, ValueError) as error:
                # ValueError: the host cannot be the name of a certificate.
                failure = bad_gateway("the upstream cannot be reached", error)
            else:
                self._target = target
                return
            upstream.cut()
            self._relay.observe(HttpFailed(url, int(failure.status), in_full(failure)))
            pool.target_failed(target, in_full(failure))
            tried.append(target)
            target = pool.next_untried(tried)
        raise failure

    async def _open(self, url: str, upstream: HttpSocket) -> None:
        transport = await self._relay.connector.connect(url, upstream)
        endpoint, context = endpoint_of(url), self._relay.tls.upstream
        if endpoint.secure and context is not None:
            await upstream.start_tls(transport, context, endpoint.host)

    async def _relay_both_ways(self) -> None:
        """Pass request and answer on until the answer has ended, which may be before the request has."""
        await first_end(self._pass_answer(), self._pass_request(), clients_gone([self._client]))

    # The request.

    async def _pass_request(self) -> None:
        upstream, patience = self._upstream, self._patience
        try:
            await upstream.send(self._request_head(), patience)
            ended = False
            while not ended:
                event = await self._next_of_request()
                await upstream.send(event, patience)
                ended = isinstance(event, h11.EndOfMessage)
        except Lost:
            # The other direction finds out what the upstream has answered before, if anything.
            return
        except TimeoutError:
            raise _late(f"the upstream read nothing of the request for {patience:g} s") from None
        self._start_deadline()

    def _request_head(self) -> h11.Request:
        request, url = self._request, self._url
        head = request.head
        target = "*" if head.target == "*" else join_target(url, head.target)
        passed = forwarded(head, request.peer, request.scheme, self._is_trusted)
        headers = [("Host", self._host), *passed, *framing_of(head), ("Connection", "close")]
        return h11.Request(method=head.method, target=target, headers=encode_fields(headers))

    @property
    def _host(self) -> str:
        """The Host that the upstream is asked for."""
        host = endpoint_of(self._url).authority
        return self._request.head.headers.get("Host", host) if self._relay.settings.keep_host else host

    @property
    def _is_trusted(self) -> bool:
        return is_trusted(self._request.peer, self._relay.settings.trusted)

    async def _next_of_request(self) -> h11.Data | h11.EndOfMessage:
        try:
            async with asyncio.timeout(self._patience):
                event = await self._client.next_event()
            if isinstance(event, h11.EndOfMessage):
                return end_of_body(event, self._relay.settings.underscores)
            return h11.Data(data=event.data)
        except (h11.RemoteProtocolError, MalformedHead) as error:
            raise bad_request(f"the body of the request is malformed: {error}") from None
        except Lost as error:
            raise ClientGone from error
        except TimeoutError:
            detail = f"nothing of the request came for {self._patience:g} s"
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "timeout", detail) from None

    # The answer.

    def _start_deadline(self) -> None:
        """Give the upstream its time to answer, now that it has the whole request."""
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._patience)

    async def _pass_answer(self) -> None:
        try:
            head = await self._read_head()
        except BROKEN as error:
            raise broken_answer(error) from None
        if self._target is not None:
            # A failure is not reported: a request may fail for its own reasons, and must not eject an upstream.
            self._relay.pool().target_answered(self._target)
        trailers = self._request.head.version == "1.1"
        addresses = self._addresses() if may_have_urls(head, self._request.head.method) else None
        send: Send = self._to_client
        body, end = b"", None
        if addresses is not None and self._relay.settings.rewrite_debugger_url:
            body, end = await read_rewritten(self._upstream, head, addresses)
        elif addresses is not None:
            send = watched(send, addresses, partial(self._relay.leads_past, self._url))
        self._status = head.status
        await send(response_of(head, self._is_last))
        if body:
            await send(h11.Data(data=body))
        if end is None:
            await pass_body(self._upstream, send, trailers)
        else:
            await send(end if trailers else h11.EndOfMessage())

    def _addresses(self) -> Addresses | None:
        """Return what the client calls the service, and the upstream itself; None: HTTP/1.0 does not have to say it."""
        head = self._request.head
        scheme, host = service_address(head, self._request.scheme, self._is_trusted)
        peer: tuple[str, int] = self._upstream.transport.get_extra_info("peername")[:2]
        return Addresses.of(scheme, host, endpoint_of(self._url), self._host, peer) if host is not None else None

    @property
    def _is_last(self) -> bool:
        """Whether the connection ends behind this answer.

        It does if the request was not read to its end, because the next one cannot be found behind it.
        """
        return self._relay.draining or self._client.http.their_state is not h11.DONE

    async def _read_head(self) -> ResponseHead:
        """Read the head of the answer, and pass on what comes before it (RFC 9110 section 15.2)."""
        try:
            async with asyncio.timeout(None) as deadline:
                self._deadline = deadline
                interim = 0
                while (head := await self._upstream.read_response()).status < 200:
                    interim += 1
                    if interim > INTERIM_LIMIT:
                        raise MalformedHead(f"there are more than {INTERIM_LIMIT} interim answers")
                    if self._request.head.version == "1.1":
                        fields = encode_fields(end_to_end_answer(head))
                        await self._to_client(
                            h11.InformationalResponse(status_code=head.status, headers=fields, reason=head.reason)
                        )
                return head
        except TimeoutError:
            raise _late(f"the upstream did not answer within {self._patience:g} s") from None
        finally:
            self._deadline = None

    async def _to_client(self, event: h11.Event) -> None:
        try:
            await self._client.send(event, self._patience)
        except (Lost, TimeoutError) as error:
            raise ClientGone from error

    async def _fail(self, refusal: Refusal) -> None:
        """Answer with an error of the proxy itself, or cut the answer if it has begun."""
        gateway = refusal.status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)
        if gateway and self._target is not None:
            self._relay.observe(HttpFailed(self._url, 0 if self._status else int(refusal.status), in_full(refusal)))
        if self._status:
            raise ClientGone
        self._relay.refused(refusal)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(refusal.body)))]
        if refusal.retry_after is not None:
            headers.append(("Retry-After", str(refusal.retry_after)))
        if self._is_last:
            headers.append(("Connection", "close"))
        status = refusal.status
        response = h11.Response(status_code=status, reason=status.phrase, headers=encode_fields(headers))
        await self._to_client(response)
        if self._request.head.method != "HEAD":
            await self._to_client(h11.Data(data=refusal.body))
        await self._to_client(h11.EndOfMessage())


def _late(detail: str) -> Refusal:
    return Refusal(HTTPStatus.GATEWAY_TIMEOUT, "gateway-timeout", detail)
