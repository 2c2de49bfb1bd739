"""The upstream's leg: `OutgoingWebSocket` of the original design, and how it is dialled.

    Upstream.dial -> TCP connect -> Handshake: TLS for wss://, request out, head in
                                    -> 101: OutgoingWebSocket takes the socket
                                    -> else: Failure, with the answer's body

picows writes the request, but would read the answer too strictly for us: it knows one spelling of the Connection header
and forgets the body of a refusal. So a small protocol of our own reads the head, and hands the socket over at once.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import weakref
from collections.abc import MutableSet
from typing import cast
from urllib.parse import urlsplit

import h11
from multidict import CIMultiDict
from picows import WSTransport, WSUpgradeRequest, WSUpgradeResponse

from ..core.upstream import Answer, Dial, Failure, Upstream
from ..core.wire import CONNECTION_ID, RECEIVED, RECONNECT, RECONNECT_ID, Refusal
from .burst import BurstTransport
from .deflate import EXTENSIONS, OFFER, agreed
from .head import (
    HEAD_LIMIT,
    INTERIM_LIMIT,
    HeadReader,
    MalformedHead,
    ResponseHead,
    accept_key,
    end_to_end,
    first_not_utf8,
    has_token,
    parse_response,
    received_count,
    tokens,
)
from .leg import HandshakeRequest, WebSocketLeg, feed, hand_over, make_protocol
from .tls import Tls
from .tls_transport import TlsFailed, TlsTransport

_LOG = logging.getLogger("reconnect_proxy.net")

#: Bytes of a refusal's body that are passed on; what is beyond is cut.
BODY_LIMIT = 64 * 1024


async def connect(url: str, protocol: asyncio.Protocol) -> asyncio.Transport:
    """Open a TCP connection to an upstream, for `protocol`; TLS is that one's business.

    Raises:
        OSError: it cannot be had.
        UnicodeError: the host cannot be a host's name.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, parts.hostname or "", port)
    return transport


def join_target(url: str, target: str) -> str:
    """Return the request target at an upstream: the path of its URL, then the client's path and query."""
    base = urlsplit(url).path
    path, mark, query = target.partition("?")
    if base and path == "/":
        path = ""
    elif base.endswith("/"):
        path = path[1:]
    return (f"{base}{path}" or "/") + mark + query


class OutgoingWebSocket(WebSocketLeg):
    """A socket to an upstream. It is handed to the dial that opened it as soon as the 101 is read."""

    masked = True

    __slots__ = ("_answer", "_dial", "_upstream")

    def __init__(
        self,
        dial: Dial,
        upstream: Upstream,
        answer: Answer,
        deflate: bool,
        max_message: int,
        legs: MutableSet[WebSocketLeg],
    ) -> None:
        """Make the leg for a dial that was answered with `answer`."""
        super().__init__(deflate, max_message, legs)
        self._dial = dial
        self._upstream = upstream
        self._answer = answer

    def on_connected(self) -> None:
        """Report to the upstream that its dial has succeeded; drop the socket if that dial is over."""
        self.link = self._upstream.on_connected(self._dial, self, self._answer)
        if self.link is None:
            self.abort()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Take the end of the socket."""
        super().on_ws_disconnected(transport)
        # picows reports a peer's bad frame here as well, to whoever awaits it; nobody does, and asyncio would complain.
        ended = asyncio.ensure_future(transport.wait_disconnected())
        ended.add_done_callback(lambda future: future.cancelled() or future.exception())


class UpstreamDialler:
    """Opens the sockets of one session to its upstream (core.upstream.Dialler)."""

    __slots__ = (
        "_deflate",
        "_handshake",
        "_headers",
        "_host",
        "_legs",
        "_max_message",
        "_offers",
        "_target",
        "_task",
        "_tls",
    )

    def __init__(
        self,
        target: str,
        headers: list[tuple[str, str]],
        offers: list[str],
        deflate: bool,
        max_message: int,
        legs: MutableSet[WebSocketLeg],
        tls: Tls,
        host: str | None = None,
    ) -> None:
        """Make a dialler.

        Args:
            target: path and query of the client's request.
            headers: what of the client's request is passed on.
            offers: the subprotocols that the client offers.
            deflate: whether to offer permessage-deflate.
            max_message: bytes that a message may have.
            legs: the open legs of the proxy.
            tls: knows how wss:// is dialled.
            host: the Host header; without it that of the upstream's URL.
        """
        self._host = host
        self._target = target
        self._headers = headers
        self._offers = offers
        self._deflate = deflate
        self._max_message = max_message
        self._legs = legs
        self._tls = tls
        # The dial under way: connecting, then shaking hands, for which its socket keeps the object alive.
        self._task: asyncio.Task[None] | None = None
        self._handshake: weakref.ref[Handshake] | None = None

    def dial(self, dial: Dial, upstream: Upstream) -> None:
        """Start a dial."""
        self.cancel()
        self._task = asyncio.get_running_loop().create_task(self._connect(dial, upstream))
        self._task.add_done_callback(self._on_task_done)

    def cancel(self) -> None:
        """Give the dial under way up."""
        task, self._task = self._task, None
        handshake = self._handshake() if self._handshake is not None else None
        self._handshake = None
        if task is not None:
            task.cancel()
        if handshake is not None:
            handshake.give_up()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task is self._task:
            self._task = None
        # Failed dials are reported; only a fault of this program ends here.
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a dial died of a fault of this program", exc_info=error)

    async def _connect(self, dial: Dial, upstream: Upstream) -> None:
        parts = urlsplit(dial.url)
        authority = self._host or parts.netloc
        request = HandshakeRequest(authority, join_target(dial.url, self._target), self._request_headers(dial))
        context = self._tls.upstream if parts.scheme == "wss" else None
        handshake = Handshake(dial, upstream, request, self._max_message, self._legs, context)
        self._handshake = weakref.ref(handshake)
        try:
            await connect(dial.url, handshake)
        except (OSError, UnicodeError) as error:
            # UnicodeError: a host name that cannot be one.
            upstream.on_failed(dial, Failure(str(error) or type(error).__name__))

    def _request_headers(self, dial: Dial) -> list[tuple[str, str]]:
        headers = list(self._headers)
        offers = [dial.subprotocol] if dial.subprotocol is not None else self._offers
        if offers:
            headers.append(("Sec-WebSocket-Protocol", ", ".join(offers)))
        if self._deflate:
            headers.append((EXTENSIONS, OFFER))
        if dial.session_id is not None:
            headers.append((RECONNECT_ID if dial.redial else CONNECTION_ID, dial.session_id))
        if dial.redial:
            headers.append((RECONNECT, "true"))
        headers.append((RECEIVED, str(dial.received)))
        return headers


class Handshake(asyncio.Protocol):
    """Reads the answer to a handshake, then lets the socket go: to an `OutgoingWebSocket`, or shut."""

    def __init__(
        self,
        dial: Dial,
        upstream: Upstream,
        request: HandshakeRequest,
        max_message: int,
        legs: MutableSet[WebSocketLeg],
        context: ssl.SSLContext | None,
    ) -> None:
        """Make the protocol object of one dial's socket; `context` is None where TLS is not spoken on it."""
        self._dial = dial
        self._upstream = upstream
        headers = CIMultiDict(request.headers)
        self._offers = tokens(headers, "Sec-WebSocket-Protocol")
        # permessage-deflate: whether it was offered, then whether it is agreed on.
        self._deflate = EXTENSIONS in headers
        self._max_message = max_message
        self._legs = legs
        self._context = context
        self._transport: asyncio.Transport | None = None
        self._picows = make_protocol(self._make_leg, max_message, request)
        self._answer = Answer()
        # Reads the head, and how many interim ones came before it.
        self._head = HeadReader()
        self._interim = 0
        # Reads the rest of an answer that is a refusal.
        self._refusal: _Refusal | None = None
        # The outcome was reported, or nobody wants it any more.
        self._over = False

    def give_up(self) -> None:
        """Shut the socket unless it was handed over; nothing is heard of this dial any more."""
        if not self._over:
            self._over = True
            if self._transport is not None:
                self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request, behind the TLS handshake if there is to be one."""
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._over:
            transport.abort()
        elif self._context is None:
            self._send_request()
        else:
            host = urlsplit(self._dial.url).hostname or ""
            try:
                self._transport = TlsTransport(transport, self, self._context, host, self._send_request)
            except ValueError as error:
                self._fail(Failure(f"{host!r} is no name that a certificate could be for: {error}"))

    def _send_request(self) -> None:
        assert self._transport is not None, "it is open"
        self._picows.connection_made(BurstTransport(self._transport))

    def data_received(self, data: bytes) -> None:
        """Read the answer, as far as it has come."""
        if self._over:
            return
        if self._refusal is not None:
            self._read_refusal(data)
            return
        try:
            while (found := self._head.feed(data)) is not None:
                head, data = found
                response = parse_response(head)
                if response.status == 101:
                    self._answer = self._check(response.headers)
                    self._hand_over(response.headers["Sec-WebSocket-Accept"], data)
                    return
                if response.status >= 200:
                    self._refusal = _Refusal(response)
                    self._read_refusal(head + b"\r\n\r\n" + data)
                    return
                # An interim answer (RFC 9110 section 15.2); the real one comes behind it.
                self._pass_over_interim()
        except (MalformedHead, Refusal) as error:
            self._fail(Failure(f"the answer is no proper handshake: {error}", taken=True))

    def _pass_over_interim(self) -> None:
        """Read on for the real answer. Raises MalformedHead when there have been too many others."""
        self._interim += 1
        if self._interim > INTERIM_LIMIT:
            raise MalformedHead(f"there are more than {INTERIM_LIMIT} interim answers")
        self._head = HeadReader()

    def eof_received(self) -> None:
        """Take the end of the stream: it may be what ends a refusal's body."""
        if self._refusal is not None and not self._over:
            self._read_refusal(b"")

    def connection_lost(self, error: Exception | None) -> None:
        """Take the end of a socket that was not handed over."""
        if isinstance(error, TlsFailed):
            self._fail(Failure(str(error)))
        else:
            self._fail(Failure(f"the connection was lost in the handshake{f' ({error})' if error else ''}", taken=True))

    def _check(self, headers: CIMultiDict[str]) -> Answer:
        """Check a 101 (RFC 6455 section 4.1) and read what it says of the session."""
        if not (has_token(headers, "Upgrade", "websocket") and has_token(headers, "Connection", "upgrade")):
            raise MalformedHead("a 101 that does not upgrade to websocket")
        key = self._picows.transport.request.headers["Sec-WebSocket-Key"]
        if headers.getall("Sec-WebSocket-Accept", ()) != [accept_key(key)]:
            raise MalformedHead("its Sec-WebSocket-Accept does not answer our key")
        if (name := first_not_utf8(headers)) is not None:
            raise MalformedHead(f"the header {name} is not UTF-8")
        self._deflate = agreed(headers, self._deflate)
        subprotocol = headers.get("Sec-WebSocket-Protocol")
        # Where the session has agreed on one already, another is a matter for the core: it ends the session.
        if subprotocol is not None and subprotocol not in self._offers and self._dial.subprotocol is None:
            raise MalformedHead(f"it has chosen the subprotocol {subprotocol!r}, which was not offered")
        return Answer(received_count(headers), subprotocol, end_to_end(headers))

    def _hand_over(self, accept: str, rest: bytes) -> None:
        """Let picows have the socket. What was checked is told to it in the one form that it understands."""
        assert self._transport is not None, "data came through it"
        self._over = True
        hand_over(self._transport, self._picows)
        lines = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade")
        feed(self._picows, "\r\n".join((*lines, f"Sec-WebSocket-Accept: {accept}", "", "")).encode() + rest)

    def _make_leg(self, request: WSUpgradeRequest, response: WSUpgradeResponse) -> OutgoingWebSocket:
        leg = OutgoingWebSocket(self._dial, self._upstream, self._answer, self._deflate, self._max_message, self._legs)
        leg.protocol = self._picows
        return leg

    def _read_refusal(self, data: bytes) -> None:
        assert self._refusal is not None, "the head was a refusal's"
        failure = self._refusal.read(data)
        if failure is not None:
            self._fail(failure)

    def _fail(self, failure: Failure) -> None:
        if not self._over:
            self.give_up()
            self._upstream.on_failed(self._dial, failure)


class _Refusal:
    """Reads a refusal to its end: its length may be given, chunked, or the connection's."""

    def __init__(self, head: ResponseHead) -> None:
        self._head = head
        self._body = b""
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        # h11 wants to have seen the request that it reads the answer of; any GET has the same kind of answer.
        self._http.send(h11.Request(method="GET", target="/", headers=[("Host", "upstream")]))
        self._http.send(h11.EndOfMessage())

    def read(self, data: bytes) -> Failure | None:
        """Read on (no data: the end of the stream). Returns the failure once it is complete, or cannot be."""
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    return None
                if isinstance(event, h11.Data):
                    self._body += event.data
                if isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)) or len(self._body) >= BODY_LIMIT:
                    return self._failure()
        except h11.RemoteProtocolError:
            return self._failure()

    def _failure(self) -> Failure:
        status, headers = self._head.status, end_to_end(self._head.headers)
        return Failure(f"it answered {status}", status, headers, self._body[:BODY_LIMIT], taken=True)
