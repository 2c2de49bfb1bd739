"""The listener's side of a client: reads one HTTP head, has the session decide, then hands the socket over.

    TCP accept -> Acceptor: TLS if it is asked for, head in (16 KiB and 5 s at most for both), reading paused
               -> AcceptorHost.enter: which session? a new one dials its upstream first
               -> 101: IncomingWebSocket takes the socket, with whatever the client sent behind its head
               -> else: an HTTP answer, and the socket is shut
               -> no handshake: HttpRelay has the socket for one request, and gives it back

picows decides a handshake at once and we must dial first; that is why it gets the socket only then (`hand_over`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Protocol, cast

from ..core.clock import Timer
from ..core.context import Context, SessionState
from ..core.opening import Opening
from ..core.timers import Timers
from ..core.upstream import DialFailure
from ..core.wire import (
    CONNECTION_ID,
    RECEIVED,
    Refusal,
)
from .adoption import take_accepted
from .allow import check_origin, check_path
from .deflate import EXTENSIONS, accept
from .handshake import SessionRequest, check_handshake, read_claim
from .head import HEAD_END, HeadReader, MalformedHead, RequestHead, encode_response, parse_request, parse_request_line
from .http_exchange import HttpRequest
from .http_relay import HttpRelay
from .http_socket import LINGER
from .incoming import IncomingWebSocket
from .leg import CLOSE_TIMEOUT, WebSocketLeg
from .pending import PendingConnections
from .tls import Tls
from .tls_transport import TlsFailed, TlsTransport

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Router(Protocol):
    """Knows the clients whose sessions live in other processes."""

    def route(self, acceptor: Acceptor, request: SessionRequest, data: bytes) -> bool:
        """Send a client to the process that its session lives in; return False if that is this one.

        `data` is all that was read: the head of `request` and what came behind it. The other process needs that and the
        socket. `acceptor` is told to `let_go` of its client, now or later, or to `evict` it. Raises Refusal.
        """


class LocalRouter:
    """The `Router` of a single process."""

    def route(self, acceptor: Acceptor, request: SessionRequest, data: bytes) -> bool:
        """Keep every client."""
        return False


class AcceptorHost(Protocol):
    """What an `Acceptor` asks of the proxy that it accepts clients for."""

    legs: set[WebSocketLeg]
    pending: PendingConnections
    timers: Timers
    max_message: int
    #: The largest head of a request, in bytes, and how long it may take, in seconds.
    max_head: int
    head_timeout: float
    tls: Tls
    http: HttpRelay
    #: Allow lists, see `net.allow`.
    allow_origin: tuple[str, ...]
    allow_path: tuple[str, ...]
    router: Router

    def enter(self, request: SessionRequest) -> tuple[Context, bool]:
        """Return the session for a request, and whether it was made for it. Raises Refusal."""

    def when_named(self, context: Context, then: Callable[[], None]) -> None:
        """Call `then` when it is settled under which id a session that has opened can be come back to."""

    def refused(self, refusal: Refusal) -> None:
        """Take note of a refusal that is being sent."""

    def tls_failed(self, peer: str, detail: str) -> None:
        """Take note of a client that came to no TLS."""


class Acceptor(asyncio.Protocol):
    """A client's connection until its session takes the socket."""

    __slots__ = (
        "_context",
        "_created",
        "_head",
        "_host",
        "_over",
        "_peer",
        "_request",
        "_rest",
        "_timer",
        "_transport",
    )

    def __init__(self, host: AcceptorHost) -> None:
        """Make the protocol object of one connection. It is among `host.pending` until a session takes it."""
        self._host = host
        self._transport: asyncio.Transport | None = None
        # The client's IP address.
        self._peer = ""
        self._timer: Timer | None = None
        self._head = HeadReader(self._host.max_head, parse_request_line)
        # What came behind the head: frames of a client that does not wait for its 101.
        self._rest = b""
        self._request: SessionRequest | None = None
        # The session that the client waits for, and whether it was made for this client.
        self._context: Context | None = None
        self._created = False
        # Answered or handed over.
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the client some seconds for its TLS handshake, if it is to make one, and its head."""
        self._transport = transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer is None:
            # It was reset before it was accepted.
            self._over = True
            transport.abort()
            return
        self._peer = peer[0]
        if self._host.tls.listener is not None:
            self._transport = TlsTransport(transport, self, self._host.tls.listener)
        self._await_head()

    def _await_head(self) -> None:
        """Give the client some time for its head, if there is room for it."""
        assert self._transport is not None, "it is made"
        try:
            self._host.pending.add(self, self._host.timers.time(), self._transport.get_extra_info("socket").fileno())
        except Refusal as refusal:
            self.evict(refusal)
        else:
            self._set_timer(self._host.head_timeout, self._on_late)

    def _on_late(self) -> None:
        detail = f"no whole head came within {self._host.head_timeout:g} s"
        self._refuse(Refusal(HTTPStatus.REQUEST_TIMEOUT, "timeout", detail))

    def data_received(self, data: bytes) -> None:
        """Read on until the head is whole."""
        if self._over:
            # It has its answer, and what it goes on sending is not read any more.
            return
        if self._request is not None:
            # A client that does not wait for its 101 is not read on until the dial is decided.
            assert self._transport is not None, "data came through it"
            self._rest += data
            self._transport.pause_reading()
            return
        if self in self._host.http.idle:
            self._host.http.idle.discard(self)
            self._await_head()
            if self._over:
                return
        try:
            found = self._head.feed(data)
        except MalformedHead as error:
            self._refuse(error.refusal)
            return
        if found is not None:
            head, self._rest = found
            self._on_head(head)

    def take_back(self, rest: bytes) -> None:
        """Read the next request, of which `rest` was read already: plain HTTP has had its answer (`HttpRelay`)."""
        assert self._transport is not None, "there was a request before"
        self._head = HeadReader(self._host.max_head, parse_request_line)
        self._rest = b""
        self._transport.set_protocol(self)
        self._host.http.idle.add(self)
        self._set_timer(self._host.http.settings.idle, self.abort)
        self._transport.resume_reading()
        if rest:
            self.data_received(rest)

    def eof_received(self) -> bool:
        """Keep the socket of a client that says no more than what has come, but still waits for its answer."""
        return self._request is not None and not self._over

    def connection_lost(self, error: Exception | None) -> None:
        """Take note of a client that left before it was served."""
        self._host.pending.remove(self)
        self._host.http.forget(self)
        self._stop_timer()
        if isinstance(error, TlsFailed):
            self._host.tls_failed(self._peer, str(error))
        if not self._over:
            self._over = True
            if self._context is not None:
                self._context.client_left(self._on_opening)

    @property
    def transport(self) -> asyncio.Transport:
        """The connection."""
        assert self._transport is not None, "it is made"
        return self._transport

    def let_go(self) -> asyncio.Transport:
        """Return the connection, which is somebody else's from now on."""
        self._over = True
        self._stop_timer()
        self._host.pending.remove(self)
        self._host.http.forget(self)
        return self.transport

    def evict(self, refusal: Refusal) -> None:
        """Answer `refusal` and shut the connection: there is no place for it, nor time to see it off."""
        self._refuse(refusal, linger=False)

    def abort(self) -> None:
        """Shut the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _on_head(self, raw: bytes) -> None:
        assert self._transport is not None, "data came through it"
        self._stop_timer()
        self._host.pending.head_read(self)
        try:
            head = parse_request(raw)
            check_path(head, self._host.allow_path)
            if not head.asks_for_websocket:
                self._relay(head)
                return
            check_origin(head, self._host.allow_origin)
            check_handshake(head)
            target, claim = read_claim(head)
            self._request = SessionRequest(head, target, claim, self._peer)
            if self._host.router.route(self, self._request, raw + HEAD_END + self._rest):
                return
            self._context, self._created = self._host.enter(self._request)
        except MalformedHead as error:
            self._refuse(error.refusal)
        except Refusal as refusal:
            self._refuse(refusal)
        else:
            self._host.http.forget(self)
            self._context.when_opened(self._on_opening)

    def _relay(self, head: RequestHead) -> None:
        """Let plain HTTP have the socket until the request is answered. Raises Refusal if there is too much of it."""
        assert self._transport is not None, "there was a head"
        self._host.http.admit(self)
        self._host.pending.remove(self)
        scheme = "https" if self._transport.get_extra_info("ssl_object") else "http"
        request = HttpRequest(head, self._peer, scheme)
        self._host.http.begin(self, self._transport, request, self._rest)

    def _on_opening(self, opening: Opening) -> None:
        """Answer the client: the first dial of its session is decided."""
        if opening.refusal is not None:
            self._refuse(opening.refusal)
        elif opening.failure is not None:
            self._pass_on(opening.failure)
        else:
            assert self._context is not None, "it has opened"
            self._host.when_named(self._context, lambda: self._admit(opening))

    def _admit(self, opening: Opening) -> None:
        """Let the client in, if it has waited until now."""
        if not self._over:
            if self._context is not None and self._context.state is SessionState.ENDED:
                detail = "the session ended before it had its id"
                self._refuse(Refusal(HTTPStatus.BAD_GATEWAY, "upstream-closed", detail))
                return
            try:
                self._hand_over(opening)
            except Refusal as refusal:
                self._refuse(refusal)

    def _hand_over(self, opening: Opening) -> None:
        """Write the 101 and let the session have the socket. Raises Refusal if the counts disagree."""
        context, request, transport = self._context, self._request, self._transport
        assert context is not None and request is not None and transport is not None, "there was a head"
        received = context.admit(request.claim)
        self._over = True
        self._host.pending.remove(self)
        headers = [(CONNECTION_ID, context.session_id or "")]
        if received is not None:
            headers.append((RECEIVED, str(received)))
        subprotocol = context.agree_subprotocol(request.head.subprotocols)
        if subprotocol:
            headers.append(("Sec-WebSocket-Protocol", subprotocol))
        if self._created and opening.answer is not None:
            headers += opening.answer.headers
        extension = accept(request.head.headers) if context.deflate else None
        if extension is not None:
            headers.append((EXTENSIONS, extension))
        attach = partial(context.attach, claim=request.claim)
        leg = IncomingWebSocket(attach, request.peer, extension is not None, self._host.max_message, self._host.legs)
        take_accepted(transport, leg, request.head.headers["Sec-WebSocket-Key"], headers, self._rest)
        if leg.link is None:
            context.client_left(self._on_opening)
        elif not leg.link.paused:
            leg.resume_reading()

    def _pass_on(self, failure: DialFailure) -> None:
        """Answer as the upstream did."""
        reason = _PHRASES.get(failure.status, "")
        self._answer(encode_response(failure.status, reason, failure.headers, failure.body))

    def _refuse(self, refusal: Refusal, linger: bool = True) -> None:
        self._host.refused(refusal)
        headers = [("Content-Type", "application/json"), *refusal.headers]
        if refusal.retry_after is not None:
            headers.append(("Retry-After", str(refusal.retry_after)))
        if refusal.status is HTTPStatus.UPGRADE_REQUIRED:
            headers += [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
        self._answer(encode_response(refusal.status, refusal.status.phrase, headers, refusal.body), linger)

    def _answer(self, response: bytes, linger: bool = True) -> None:
        """Send an answer and shut the connection.

        A socket that is closed while its peer still sends is reset, and the answer with it. So only our half is closed
        at first, and for a moment what comes is thrown away; without `linger` it is closed at once. TLS cannot end one
        half: there the peer is to see from the answer that nothing follows, unless it had nothing more to say.
        """
        if not self._over and self._transport is not None:
            self._over = True
            self._host.pending.answered(self)
            if isinstance(self._transport, TlsTransport) and not self._transport.established:
                # Nothing can be said to it, but that it has taken too long.
                self._stop_timer()
                self._transport.abort()
                return
            self._transport.write(response)
            halves = self._transport.can_write_eof()
            # A handshake that was read has nothing behind it.
            if linger and (halves or self._request is None):
                if halves:
                    self._transport.write_eof()
                self._set_timer(LINGER, self._leave)
                self._transport.resume_reading()
            else:
                self._leave()

    def _leave(self) -> None:
        """Close the connection; the client has some seconds to read what it has not read yet."""
        assert self._transport is not None, "it was answered"
        self._transport.close()
        self._set_timer(CLOSE_TIMEOUT, self.abort)

    def _set_timer(self, delay: float, callback: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._host.timers.call_later(delay, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
