"""The upstream's leg: `OutgoingWebSocket` of the original design, and how it is dialled.

    Upstream.dial -> TCP connect -> Handshake: TLS for wss://, request out, head in
                                    -> 101: OutgoingWebSocket takes the socket
                                    -> a status below 500: RefusedHandshake takes it, and passes the answer on
                                    -> otherwise: the socket is closed

picows reads answers too strictly: it knows one spelling of the Connection header, and forgets the body of a refusal. So
a small protocol of our own makes the handshake, and gives picows the socket at once (`adoption`).

| state of a dial | waits for | next |
| --- | --- | --- |
| `CONNECTING` | the TCP connection | `READING` |
| `READING` | the head of the answer, after the TLS handshake | `OVER` |
| `OVER` | nothing: the outcome was reported, or the dial was given up | |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableSet
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import cast

from multidict import CIMultiDict
from picows import WSTransport

from ..core.dial import DialAnswer, DialFailure, DialRequest
from ..core.interfaces import DialListener
from ..core.wire import CONNECTION_ID, RECEIVED, RECONNECT, RECONNECT_ID, Refusal
from .adoption import take_dialled
from .connector import Connector
from .deflate import EXTENSIONS, OFFER, agreed
from .endpoint import endpoint_of, join_target
from .forwarding import end_to_end
from .handshake import check_answer, new_key, received_count
from .head import (
    INTERIM_LIMIT,
    HeadReader,
    MalformedHead,
    ResponseHead,
    encode_value,
    parse_response,
)
from .leg import WebSocketLeg
from .refused import RefusedHandshake
from .tls import Tls
from .tls_transport import TlsFailed, TlsTransport

_LOG = logging.getLogger("reconnect_proxy.net")
_BEGIN_OF_101 = b"HTTP/1.1 101"


class DialState(Enum):
    """How far a dial has come, see the table above."""

    CONNECTING = auto()
    READING = auto()
    OVER = auto()


class OutgoingWebSocket(WebSocketLeg):
    """A socket to an upstream. The dial that opened it gets it as soon as the 101 is read."""

    masked = True

    __slots__ = ()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Take the end of the socket."""
        super().on_ws_disconnected(transport)
        if transport.close_handshake is not None:
            # It may be an answer to a bad frame. picows reports that as an exception here, which must be awaited.
            ended = asyncio.ensure_future(transport.wait_disconnected())
            ended.add_done_callback(lambda future: future.cancelled() or future.exception())


@dataclass(frozen=True, slots=True)
class DialResources:
    """What all diallers of one proxy share.

    `legs` are its open legs, and `max_message` is the largest message in bytes.
    """

    connector: Connector
    tls: Tls
    legs: MutableSet[WebSocketLeg]
    max_message: int


class UpstreamDialler:
    """Opens the sockets of one session to its upstream (core.interfaces.Dialler)."""

    __slots__ = ("_authority", "_fields", "_handshake", "_target", "_task", "deflate", "offers", "resources")

    def __init__(
        self,
        target: str,
        headers: list[tuple[str, str]],
        offers: list[str],
        deflate: bool,
        resources: DialResources,
        host: str | None = None,
    ) -> None:
        """Make a dialler.

        Args:
            target: path and query of the client's request.
            headers: the headers of the client's request that are passed on.
            offers: the subprotocols that the client offers.
            deflate: whether to offer permessage-deflate.
            resources: those of the proxy.
            host: the Host header; None: that of the upstream's URL.
        """
        self.offers = offers
        self.deflate = deflate
        self.resources = resources
        self._authority = host
        self._target = target
        # The lines that are the same in each request.
        self._fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
        # The dial under way: connecting, then shaking hands.
        self._task: asyncio.Task[None] | None = None
        self._handshake: Handshake | None = None

    def dial(self, dial: DialRequest, upstream: DialListener) -> None:
        """Start a dial."""
        self.cancel()
        self._handshake = Handshake(dial, upstream, self)
        self._task = asyncio.get_running_loop().create_task(self._connect(dial, upstream, self._handshake))

    def cancel(self) -> None:
        """Give up the dial under way."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self._handshake is not None:
            self._handshake.give_up()

    async def _connect(self, dial: DialRequest, upstream: DialListener, handshake: Handshake) -> None:
        try:
            await self.resources.connector.connect(dial.url, handshake)
        except OSError as error:
            self._task = None
            self.ended(handshake)
            upstream.on_failed(dial, DialFailure(str(error) or type(error).__name__))
        except Exception:  # noqa: BLE001 - this task is not awaited
            _LOG.exception("a dial died of a fault of this program")

    def connected(self) -> None:
        """Forget the task: the handshake has the connection, and the task must not close it any more."""
        self._task = None

    def ended(self, handshake: Handshake) -> None:
        """Forget a handshake that is over."""
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
        claim = dial.claim
        for name, session_id in ((CONNECTION_ID, claim.connection_id), (RECONNECT_ID, claim.reconnect_id)):
            if session_id is not None:
                lines.append(f"{name}: {session_id}\r\n")
        if dial.redial:
            lines.append(f"{RECONNECT}: true\r\n")
        lines.append(f"{RECEIVED}: {claim.received}\r\n\r\n")
        return encode_value("".join(lines))


class Handshake(asyncio.Protocol):
    """Sends a request and reads its answer. Then an `OutgoingWebSocket` takes the socket, or it is closed."""

    __slots__ = ("_begin", "_dial", "_dialler", "_head", "_interim", "_key", "_state", "_transport", "_upstream")

    def __init__(self, dial: DialRequest, upstream: DialListener, dialler: UpstreamDialler) -> None:
        """Make the protocol object of one dial's socket."""
        self._dial = dial
        self._upstream = upstream
        self._dialler = dialler
        self._key = new_key()
        self._state = DialState.CONNECTING
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        # Reads the head; its first bytes, and the number of interim ones that came before it.
        self._head = HeadReader()
        self._begin = b""
        self._interim = 0

    def give_up(self) -> None:
        """Close the socket unless it has another owner; nothing more is reported about this dial."""
        state, self._state = self._state, DialState.OVER
        if state is not DialState.OVER:
            self._dialler.ended(self)
            if state is not DialState.CONNECTING:
                self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request, behind the TLS handshake if there is to be one."""
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._state is DialState.OVER:
            transport.abort()
            return
        self._state = DialState.READING
        self._dialler.connected()
        endpoint = endpoint_of(self._dial.url)
        context = self._dialler.resources.tls.upstream if endpoint.secure else None
        if context is None:
            self._send_request()
        else:
            try:
                self._transport = TlsTransport(transport, self, context, endpoint.host, self._send_request)
            except ValueError as error:
                self._fail(DialFailure(f"{endpoint.host!r} is no name that a certificate could be for: {error}"))

    def _send_request(self) -> None:
        self._transport.write(self._dialler.request(self._dial, self._key))

    def data_received(self, data: bytes) -> None:
        """Read the answer, as far as it has come."""
        if self._state is DialState.READING:
            self._read_head(data)

    def _read_head(self, data: bytes) -> None:
        self._begin = (self._begin + data)[: len(_BEGIN_OF_101)]
        try:
            while (found := self._head.feed(data)) is not None:
                head, data = found
                response = parse_response(head)
                if response.status == 101:
                    self._take_101(response.headers, data)
                    return
                if response.status >= 200:
                    self._refuse(response, data)
                    return
                # An interim answer (RFC 9110 section 15.2); the real one comes behind it.
                self._pass_over_interim()
                self._begin = data[: len(_BEGIN_OF_101)]
        except MalformedHead as error:
            # As of a 101 that is not valid: the same server will write the same head again.
            incurable = self._begin == _BEGIN_OF_101
            self._fail(DialFailure(f"the answer is no proper handshake: {error}", taken=True, incurable=incurable))

    def _take_101(self, headers: CIMultiDict[str], rest: bytes) -> None:
        """Let the session have the socket, unless the 101 violates RFC 6455. No redial would change that."""
        try:
            self._hand_over(headers, rest)
        except (MalformedHead, Refusal) as error:
            self._fail(DialFailure(f"its 101 is not valid: {error}", taken=True, incurable=True))

    def _pass_over_interim(self) -> None:
        """Read on for the real answer. Raises MalformedHead if there have been too many interim ones."""
        self._interim += 1
        if self._interim > INTERIM_LIMIT:
            raise MalformedHead(f"there are more than {INTERIM_LIMIT} interim answers")
        self._head = HeadReader()

    def connection_lost(self, error: Exception | None) -> None:
        """Take the end of a socket that has no other owner."""
        if isinstance(error, TlsFailed):
            self._fail(DialFailure(str(error)))
        else:
            detail = f"the connection was lost in the handshake{f' ({error})' if error else ''}"
            self._fail(DialFailure(detail, taken=True))

    def _hand_over(self, headers: CIMultiDict[str], rest: bytes) -> None:
        """Let the session have the socket. Raises MalformedHead or Refusal if the 101 is not valid."""
        check_answer(headers, self._key)
        dialler, dial = self._dialler, self._dial
        deflate = agreed(headers, dialler.deflate)
        subprotocol = headers.get("Sec-WebSocket-Protocol")
        # If the session has agreed on one already, the core decides about another: it ends the session.
        if subprotocol is not None and subprotocol not in dialler.offers and dial.subprotocol is None:
            raise MalformedHead(f"it has chosen the subprotocol {subprotocol!r}, which was not offered")
        answer = DialAnswer(received_count(headers), subprotocol, end_to_end(headers))
        self._state = DialState.OVER
        dialler.ended(self)
        attach = partial(self._upstream.on_connected, dial, answer=answer)
        resources = dialler.resources
        take_dialled(self._transport, OutgoingWebSocket(attach, deflate, resources.max_message, resources.legs), rest)

    def _refuse(self, head: ResponseHead, rest: bytes) -> None:
        """Report an answer that is not a 101. One below 500 is for the clients that wait for this dial, if any do."""
        failure = DialFailure(f"it answered {head.status}", head.status, taken=True)
        if not failure.rejected:
            self._fail(failure)
            return
        self._state = DialState.OVER
        self._dialler.ended(self)
        failure.answer = answer = RefusedHandshake(self._dial.url, head, self._transport, rest)
        self._upstream.on_failed(self._dial, failure)
        if not answer.receivers:
            answer.drop()

    def _fail(self, failure: DialFailure) -> None:
        if self._state is not DialState.OVER:
            self.give_up()
            self._upstream.on_failed(self._dial, failure)
