"""The upstream's leg: `OutgoingWebSocket` of the original design, and how it is dialled.

    Upstream.dial -> TCP connect -> Handshake: TLS for wss://, request out, head in
                                    -> 101: OutgoingWebSocket takes the socket
                                    -> else: Failure, with the answer's body

picows would read the answer too strictly for us: it knows one spelling of the Connection header and forgets the body of
a refusal. So a small protocol of our own makes the handshake, and hands the socket over at once (`hand_over`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableSet
from functools import cache, partial
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import h11
from multidict import CIMultiDict
from picows import WSTransport

from ..core.upstream import DialAnswer, DialFailure, DialRequest, Upstream
from ..core.wire import CONNECTION_ID, RECEIVED, RECONNECT, RECONNECT_ID, Refusal
from .adoption import take_dialled
from .deflate import EXTENSIONS, OFFER, agreed
from .forwarding import end_to_end
from .handshake import check_answer, new_key, received_count
from .head import (
    HEAD_LIMIT,
    INTERIM_LIMIT,
    HeadReader,
    MalformedHead,
    ResponseHead,
    parse_response,
)
from .leg import WebSocketLeg
from .tls import Tls
from .tls_transport import TlsFailed, TlsTransport

_LOG = logging.getLogger("reconnect_proxy.net")

#: Bytes of a refusal's body that are passed on; what is beyond is cut.
BODY_LIMIT = 64 * 1024


class Endpoint(NamedTuple):
    """What an upstream's URL says; `authority` is the Host header, `base` the path in front of the client's."""

    host: str
    port: int
    authority: str
    base: str
    secure: bool


# As many as are configured.
@cache
def endpoint_of(url: str) -> Endpoint:
    """Return what `url` says."""
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    return Endpoint(parts.hostname or "", parts.port or (443 if secure else 80), parts.netloc, parts.path, secure)


async def connect(url: str, protocol: asyncio.Protocol) -> asyncio.Transport:
    """Open a TCP connection to an upstream, for `protocol`; TLS is that one's business.

    Raises:
        OSError: it cannot be had.
        UnicodeError: the host cannot be a host's name.
    """
    host, port, *_ = endpoint_of(url)
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, host, port)
    return transport


def join_target(url: str, target: str) -> str:
    """Return the request target at an upstream: the path of its URL, then the client's path and query."""
    base = endpoint_of(url).base
    path, mark, query = target.partition("?")
    if base and path == "/":
        path = ""
    elif base.endswith("/"):
        path = path[1:]
    return (f"{base}{path}" or "/") + mark + query


class OutgoingWebSocket(WebSocketLeg):
    """A socket to an upstream. It is handed to the dial that opened it as soon as the 101 is read."""

    masked = True

    __slots__ = ()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Take the end of the socket."""
        super().on_ws_disconnected(transport)
        if transport.close_handshake is not None:
            # It may be an answer to a bad frame. picows reports that to whoever awaits this; else asyncio complains.
            ended = asyncio.ensure_future(transport.wait_disconnected())
            ended.add_done_callback(lambda future: future.cancelled() or future.exception())


class UpstreamDialler:
    """Opens the sockets of one session to its upstream (core.upstream.Dialler)."""

    __slots__ = (
        "_authority",
        "_fields",
        "_handshake",
        "_target",
        "_task",
        "deflate",
        "legs",
        "max_message",
        "offers",
        "tls",
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
        self.offers = offers
        self.deflate = deflate
        self.max_message = max_message
        self.legs = legs
        self.tls = tls
        self._authority = host
        self._target = target
        # The lines of a request that are the same in each.
        self._fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
        # The dial under way: connecting, then shaking hands.
        self._task: asyncio.Task[None] | None = None
        self._handshake: Handshake | None = None

    def dial(self, dial: DialRequest, upstream: Upstream) -> None:
        """Start a dial."""
        self.cancel()
        self._handshake = Handshake(dial, upstream, self)
        self._task = asyncio.get_running_loop().create_task(self._connect(dial, upstream, self._handshake))

    def cancel(self) -> None:
        """Give the dial under way up."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self._handshake is not None:
            self._handshake.give_up()

    async def _connect(self, dial: DialRequest, upstream: Upstream, handshake: Handshake) -> None:
        try:
            failure = await _failure_to_connect(dial.url, handshake)
            if failure is not None:
                self._task = None
                self.ended(handshake)
                upstream.on_failed(dial, failure)
        except Exception:  # noqa: BLE001 - nobody awaits this task
            _LOG.exception("a dial died of a fault of this program")

    def connected(self) -> None:
        """Take note that there is a connection: it is the handshake's now, and the task must not close it any more."""
        self._task = None

    def ended(self, handshake: Handshake) -> None:
        """Take note that a handshake is over, in whatever way."""
        if self._handshake is handshake:
            self._handshake = None

    def request(self, dial: DialRequest, key: str) -> bytes:
        """Return the request of a dial (RFC 6455 section 4.1); `key` is its Sec-WebSocket-Key."""
        lines = [
            f"GET {join_target(dial.url, self._target)} HTTP/1.1\r\n"
            f"Host: {self._authority or endpoint_of(dial.url).authority}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n",
            self._fields,
        ]
        offers = [dial.subprotocol] if dial.subprotocol is not None else self.offers
        if offers:
            lines.append(f"Sec-WebSocket-Protocol: {', '.join(offers)}\r\n")
        if self.deflate:
            lines.append(f"{EXTENSIONS}: {OFFER}\r\n")
        if dial.session_id is not None:
            lines.append(f"{RECONNECT_ID if dial.redial else CONNECTION_ID}: {dial.session_id}\r\n")
        if dial.redial:
            lines.append(f"{RECONNECT}: true\r\n")
        lines.append(f"{RECEIVED}: {dial.received}\r\n\r\n")
        return "".join(lines).encode()


async def _failure_to_connect(url: str, protocol: asyncio.Protocol) -> DialFailure | None:
    try:
        await connect(url, protocol)
    except (OSError, UnicodeError) as error:
        # UnicodeError: a host name that cannot be one.
        return DialFailure(str(error) or type(error).__name__)
    return None


class Handshake(asyncio.Protocol):
    """Sends a request and reads its answer, then lets the socket go: to an `OutgoingWebSocket`, or shut."""

    __slots__ = ("_dial", "_dialler", "_head", "_interim", "_key", "_over", "_refusal", "_transport", "_upstream")

    def __init__(self, dial: DialRequest, upstream: Upstream, dialler: UpstreamDialler) -> None:
        """Make the protocol object of one dial's socket."""
        self._dial = dial
        self._upstream = upstream
        self._dialler = dialler
        self._key = new_key()
        self._transport: asyncio.Transport | None = None
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
            self._dialler.ended(self)
            if self._transport is not None:
                self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request, behind the TLS handshake if there is to be one."""
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._over:
            transport.abort()
            return
        self._dialler.connected()
        endpoint = endpoint_of(self._dial.url)
        context = self._dialler.tls.upstream if endpoint.secure else None
        if context is None:
            self._send_request()
        else:
            try:
                self._transport = TlsTransport(transport, self, context, endpoint.host, self._send_request)
            except ValueError as error:
                self._fail(DialFailure(f"{endpoint.host!r} is no name that a certificate could be for: {error}"))

    def _send_request(self) -> None:
        assert self._transport is not None, "it is open"
        self._transport.write(self._dialler.request(self._dial, self._key))

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
                    self._hand_over(response.headers, data)
                    return
                if response.status >= 200:
                    self._refusal = _Refusal(response)
                    self._read_refusal(head + b"\r\n\r\n" + data)
                    return
                # An interim answer (RFC 9110 section 15.2); the real one comes behind it.
                self._pass_over_interim()
        except (MalformedHead, Refusal) as error:
            self._fail(DialFailure(f"the answer is no proper handshake: {error}", taken=True))

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
            self._fail(DialFailure(str(error)))
        else:
            self._fail(
                DialFailure(f"the connection was lost in the handshake{f' ({error})' if error else ''}", taken=True)
            )

    def _hand_over(self, headers: CIMultiDict[str], rest: bytes) -> None:
        """Let the session have the socket. Raises MalformedHead or Refusal: the 101 is none (RFC 6455 section 4.1)."""
        assert self._transport is not None, "data came through it"
        check_answer(headers, self._key)
        dialler, dial = self._dialler, self._dial
        deflate = agreed(headers, dialler.deflate)
        subprotocol = headers.get("Sec-WebSocket-Protocol")
        # Where the session has agreed on one already, another is a matter for the core: it ends the session.
        if subprotocol is not None and subprotocol not in dialler.offers and dial.subprotocol is None:
            raise MalformedHead(f"it has chosen the subprotocol {subprotocol!r}, which was not offered")
        answer = DialAnswer(received_count(headers), subprotocol, end_to_end(headers))
        self._over = True
        dialler.ended(self)
        attach = partial(self._upstream.on_connected, dial, answer=answer)
        take_dialled(self._transport, OutgoingWebSocket(attach, deflate, dialler.max_message, dialler.legs), rest)

    def _read_refusal(self, data: bytes) -> None:
        assert self._refusal is not None, "the head was a refusal's"
        failure = self._refusal.read(data)
        if failure is not None:
            self._fail(failure)

    def _fail(self, failure: DialFailure) -> None:
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

    def read(self, data: bytes) -> DialFailure | None:
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

    def _failure(self) -> DialFailure:
        status, headers = self._head.status, end_to_end(self._head.headers)
        return DialFailure(f"it answered {status}", status, headers, self._body[:BODY_LIMIT], taken=True)
