"""The listener's side of a client: reads one HTTP head, waits for the session, then hands the socket over.

    TCP accept -> Acceptor: TLS if the listener has it, the head (16 KiB and 5 s at most for both), reading paused
               -> AcceptorHost.enter: which session? a new one dials its upstream first
               -> Admission: 101, and IncomingWebSocket takes the socket, with what the client sent behind its head
               -> refused by the upstream: HttpRelay has the socket, passes the answer on, and closes it
               -> refused by the proxy: an HTTP answer, and the socket is closed
               -> not a handshake: HttpRelay has the socket for one request, and gives it back

picows answers a handshake at once, but here the upstream is dialled first. So picows gets the socket only when the
answer is known (`adoption`).

| state | waits for | what the client sends | next |
| --- | --- | --- | --- |
| `READING` | a whole head, after the TLS handshake | is read as a head | `WAITING`, `RELAYING`, `ANSWERED` |
| `WAITING` | the first dial, or another process | is kept, and reading is paused | `GONE`, `RELAYING`, `ANSWERED` |
| `RELAYING` | an upstream's answer; `HttpRelay` has the socket | | `IDLE` after a plain request |
| `IDLE` | the next request of a plain connection | begins a head | `READING` |
| `ANSWERED` | the client to read its answer | is thrown away | `GONE` |
| `GONE` | nothing: the socket is closed, or has another owner | | |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from typing import Protocol, cast

from ..core.context import Context, SessionState
from ..core.dial import DialFailure
from ..core.interfaces import Timer
from ..core.opening import Opening
from ..core.timers import Timers
from ..core.wire import CONNECTION_ID, RECEIVED, Refusal
from .adoption import take_accepted
from .allow import check_origin, check_path
from .deflate import EXTENSIONS, accept
from .forwarding import drop_underscores
from .handshake import SessionRequest, check_handshake, read_claim
from .head import HEAD_END, HeadReader, MalformedHead, RequestHead, encode_response, parse_request, parse_request_line
from .http_exchange import HttpRequest
from .http_relay import HttpRelay
from .http_socket import LINGER
from .incoming import IncomingWebSocket
from .leg import CLOSE_TIMEOUT, WebSocketLeg
from .pending import PendingConnections
from .refused import RefusedHandshake
from .tls import Tls
from .tls_transport import TlsFailed, TlsTransport

_LOG = logging.getLogger("reconnect_proxy.net")


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
    #: Whether headers with an underscore in their names pass.
    underscores: bool
    router: Router

    def enter(self, request: SessionRequest) -> tuple[Context, bool]:
        """Return the session for a request, and whether it was made for it. Raises Refusal."""

    def when_named(self, context: Context, then: Callable[[], None]) -> None:
        """Call `then` when the id of a session that has opened is known to all processes."""

    def header_dropped(self, name: str) -> None:
        """Report that a header of a request was dropped because of the underscore in its name."""

    def refused(self, refusal: Refusal) -> None:
        """Report a refusal that is being sent."""

    def tls_failed(self, peer: str, detail: str) -> None:
        """Report a failed TLS handshake with a client."""


class AcceptorState(Enum):
    """What becomes of a client's connection, see the table above."""

    READING = auto()
    WAITING = auto()
    RELAYING = auto()
    IDLE = auto()
    ANSWERED = auto()
    GONE = auto()


class Acceptor(asyncio.Protocol):
    """A client's connection until its session takes the socket."""

    __slots__ = ("_admission", "_head", "_host", "_peer", "_rest", "_timer", "state", "transport")

    def __init__(self, host: AcceptorHost, peer: str = "") -> None:
        """Make the protocol object of one connection. It is among `host.pending` until a session takes it.

        Args:
            host: the proxy.
            peer: the client's IP address; without it, that of the socket.
        """
        self._host = host
        self._peer = peer
        self.state = AcceptorState.READING
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._timer: Timer | None = None
        self._head = HeadReader(self._host.max_head, parse_request_line)
        # What came behind the head: frames of a client that does not wait for its 101.
        self._rest = b""
        # While the client waits for its session.
        self._admission: Admission | None = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, and wait for its TLS handshake, if there is one, and its head."""
        self.transport = transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer is None:
            # It was reset before it was accepted.
            self.state = AcceptorState.GONE
            transport.abort()
            return
        self._peer = peer[0]
        if self._host.tls.listener is not None:
            self.transport = TlsTransport(transport, self, self._host.tls.listener)
        self.await_head()

    def data_received(self, data: bytes) -> None:
        """Take what the client sends, see the table above."""
        match self.state:
            case AcceptorState.READING:
                self._read_head(data)
            case AcceptorState.IDLE:
                self._host.http.forget(self)
                if self.await_head():
                    self._read_head(data)
            case AcceptorState.WAITING:
                self._rest += data
                self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the socket open if the client has ended its half and waits for its session."""
        return self.state is AcceptorState.WAITING

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection. A session that the client waits for is told."""
        admission = self._admission
        self._leave()
        if isinstance(error, TlsFailed):
            self._host.tls_failed(self._peer, str(error))
        if admission is not None:
            admission.give_up()

    # The head.

    def await_head(self) -> bool:
        """Give the client some time for its head. Returns False if there is no room for it, and it is refused."""
        self.state = AcceptorState.READING
        try:
            self._host.pending.add(self, self._host.timers.time(), self.transport.get_extra_info("socket").fileno())
        except Refusal as refusal:
            self.evict(refusal)
            return False
        self._set_timer(self._host.head_timeout, self._on_late)
        return True

    def _on_late(self) -> None:
        detail = f"no whole head came within {self._host.head_timeout:g} s"
        self.refuse(Refusal(HTTPStatus.REQUEST_TIMEOUT, "timeout", detail))

    def _read_head(self, data: bytes) -> None:
        """Read on until the head is whole."""
        try:
            found = self._head.feed(data)
        except MalformedHead as error:
            self.refuse(error.refusal)
            return
        if found is not None:
            head, self._rest = found
            self._on_head(head)

    def _on_head(self, raw: bytes) -> None:
        self._stop_timer()
        self._host.pending.head_read(self)
        try:
            head = parse_request(raw)
            if not self._host.underscores and b"_" in raw and (names := drop_underscores(head.headers)):
                self._host.header_dropped(names[0])
            check_path(head, self._host.allow_path)
            if head.asks_for_websocket:
                check_origin(head, self._host.allow_origin)
                check_handshake(head)
                target, claim = read_claim(head)
                self._find_session(SessionRequest(head, target, claim, self._peer), raw)
            else:
                self._relay(head)
        except MalformedHead as error:
            self.refuse(error.refusal)
        except Refusal as refusal:
            self.refuse(refusal)
        except Exception:  # noqa: BLE001 - it must not cost the client's place
            _LOG.exception("a request failed with an unexpected error")
            self.refuse(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "the proxy failed"))

    def _find_session(self, request: SessionRequest, raw: bytes) -> None:
        """Wait for the session of a handshake, or for the process that has it. Raises Refusal."""
        self.state = AcceptorState.WAITING
        if not self._host.router.route(self, request, raw + HEAD_END + self._rest):
            context, created = self._host.enter(request)
            self._admission = Admission(self, self._host, request, context, created)
            context.when_opened(self._admission.on_opening)

    def _relay(self, head: RequestHead) -> None:
        """Let plain HTTP have the socket until the request is answered. Raises Refusal if there is too much of it."""
        self._host.http.admit(self)
        self._host.pending.remove(self)
        self.state = AcceptorState.RELAYING
        scheme = "https" if self.transport.get_extra_info("ssl_object") else "http"
        self._host.http.begin(self, self.transport, HttpRequest(head, self._peer, scheme), self._rest)

    def pass_on(self, head: RequestHead, answer: RefusedHandshake) -> None:
        """Let the upstream's answer to the handshake have the socket. Raises Refusal if there are too many answers."""
        self._host.http.pass_on(self, self.transport, head, self._rest, answer)
        self._stop_timer()
        self._admission = None
        self._host.pending.remove(self)
        self.state = AcceptorState.RELAYING

    # What others call.

    def take_back(self, rest: bytes) -> None:
        """Wait for the next request, of which `rest` was read already: `HttpRelay` has answered the last one."""
        self.state = AcceptorState.IDLE
        self._head = HeadReader(self._host.max_head, parse_request_line)
        self._rest = b""
        self.transport.set_protocol(self)
        self._host.http.idle[self] = None
        self._set_timer(self._host.http.settings.idle, self.abort)
        self.transport.resume_reading()
        if rest:
            self.data_received(rest)

    def let_go(self) -> asyncio.Transport:
        """Return the connection, which has another owner from now on."""
        self._leave()
        return self.transport

    def take_rest(self) -> bytes:
        """Return what the client has sent behind its head."""
        rest, self._rest = self._rest, b""
        return rest

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    # Answers.

    def evict(self, refusal: Refusal) -> None:
        """Answer `refusal` and close the connection at once: there is no room for it to linger."""
        self.refuse(refusal, linger=False)

    def refuse(self, refusal: Refusal, linger: bool = True) -> None:
        """Answer with an HTTP error."""
        self._host.refused(refusal)
        headers = [("Content-Type", "application/json"), *refusal.headers]
        if refusal.retry_after is not None:
            headers.append(("Retry-After", str(refusal.retry_after)))
        if refusal.status is HTTPStatus.UPGRADE_REQUIRED:
            headers += [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
        self.answer(encode_response(refusal.status, refusal.status.phrase, headers, refusal.body), linger)

    def answer(self, response: bytes, linger: bool = True) -> None:
        """Send an answer and close the connection.

        A socket that is closed while its peer still sends is reset, and the answer is lost. So at first only our half
        is closed, and for a moment what comes is thrown away; without `linger` it is closed at once. TLS cannot end one
        half. There the connection lingers only if the client may send more, which it does not after a whole handshake.
        """
        if self.state in (AcceptorState.ANSWERED, AcceptorState.GONE):
            return
        may_send_more = self.state is not AcceptorState.WAITING
        self.state = AcceptorState.ANSWERED
        self._admission = None
        self._host.pending.answered(self)
        self._host.http.forget(self)
        if isinstance(self.transport, TlsTransport) and not self.transport.established:
            # No answer can be sent before the TLS handshake is complete.
            self._stop_timer()
            self.transport.abort()
            return
        self.transport.write(response)
        halves = self.transport.can_write_eof()
        if linger and (halves or may_send_more):
            if halves:
                self.transport.write_eof()
            self._set_timer(LINGER, self._close)
            self.transport.resume_reading()
        else:
            self._close()

    def _close(self) -> None:
        """Close the connection. The client has some seconds to read what it has not read yet."""
        self.transport.close()
        self._set_timer(CLOSE_TIMEOUT, self.abort)

    def _leave(self) -> None:
        """Wait for nothing any more, and refer to nothing that refers to this."""
        self.state = AcceptorState.GONE
        self._admission = None
        self._host.pending.remove(self)
        self._host.http.forget(self)
        self._stop_timer()

    def _set_timer(self, delay: float, callback: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._host.timers.call_later(delay, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Admission:
    """A client that waits for the first dial of its session, and is let in then."""

    __slots__ = ("_acceptor", "_context", "_created", "_host", "_request")

    def __init__(
        self, acceptor: Acceptor, host: AcceptorHost, request: SessionRequest, context: Context, created: bool
    ) -> None:
        """Make the admission of a client to a session.

        Args:
            acceptor: the client's connection.
            host: the proxy.
            request: the client's handshake.
            context: the session.
            created: whether the session was made for this client.
        """
        self._acceptor = acceptor
        self._host = host
        self._request = request
        self._context = context
        self._created = created

    def give_up(self) -> None:
        """Tell the session that the client does not wait any more."""
        self._context.client_left(self.on_opening)

    def on_opening(self, opening: Opening) -> None:
        """Answer the client: the first dial of its session is decided."""
        if opening.refusal is not None:
            self._acceptor.refuse(opening.refusal)
        elif opening.failure is not None:
            self._pass_on(opening.failure)
        else:
            self._host.when_named(self._context, lambda: self._admit(opening))

    def _pass_on(self, failure: DialFailure) -> None:
        """Answer as the upstream did."""
        assert isinstance(failure.answer, RefusedHandshake), "the answer of a dial made here"
        try:
            self._acceptor.pass_on(self._request.head, failure.answer)
        except Refusal as refusal:
            self._acceptor.refuse(refusal)

    def _admit(self, opening: Opening) -> None:
        """Let the client in, if it has waited until now."""
        if self._acceptor.state is not AcceptorState.WAITING:
            return
        if self._context.state is SessionState.ENDED:
            detail = "the session ended before it had its id"
            self._acceptor.refuse(Refusal(HTTPStatus.BAD_GATEWAY, "upstream-closed", detail))
            return
        try:
            self._hand_over(opening)
        except Refusal as refusal:
            self._acceptor.refuse(refusal)

    def _hand_over(self, opening: Opening) -> None:
        """Write the 101 and let the session have the socket. Raises Refusal if the counts disagree."""
        context, request = self._context, self._request
        received = context.admit(request.claim)
        transport = self._acceptor.let_go()
        extension = accept(request.head.headers) if context.deflate else None
        headers = self._headers(opening, received, extension)
        attach = partial(context.attach, claim=request.claim)
        leg = IncomingWebSocket(attach, request.peer, extension is not None, self._host.max_message, self._host.legs)
        key = request.head.headers["Sec-WebSocket-Key"]
        take_accepted(transport, leg, key, headers, self._acceptor.take_rest())
        if leg.link is None:
            context.client_left(self.on_opening)
        elif not leg.link.paused:
            leg.resume_reading()

    def _headers(self, opening: Opening, received: int | None, extension: str | None) -> list[tuple[str, str]]:
        """Return the headers of the 101 that not every handshake has."""
        headers = [(CONNECTION_ID, self._context.session_id or "")]
        if received is not None:
            headers.append((RECEIVED, str(received)))
        subprotocol = self._context.agree_subprotocol(self._request.head.subprotocols)
        if subprotocol:
            headers.append(("Sec-WebSocket-Protocol", subprotocol))
        if self._created and opening.answer is not None:
            headers += opening.answer.headers
        if extension is not None:
            headers.append((EXTENSIONS, extension))
        return headers
