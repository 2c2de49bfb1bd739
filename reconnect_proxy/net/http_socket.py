"""A connection with HTTP/1.1, on either side of the proxy: read and written event by event, with backpressure.

    bytes -> HttpSocket -> our parser: the head             read_response, begin_request
                        -> ChunkedFraming: is it strict?    next_event
                        -> h11: where the body ends
    bytes <- HttpSocket <- h11 <- events                    send

h11 accepts heads that a proxy must refuse (bare line feeds, folded lines). So heads are parsed by `head`, chunks are
checked by `chunked`, and h11 is told only what it needs to find the end of a body.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import cast

import h11

from .chunked import ChunkedFraming
from .head import HEAD_LIMIT, HeadReader, MalformedHead, RequestHead, ResponseHead, has_token, parse_response
from .tls_transport import TlsFailed, TlsTransport

#: Bytes that may wait here to be read, and bytes that may wait to be written, before the other side is paused.
READ_BUFFER = 64 * 1024
WRITE_BUFFER = 64 * 1024
#: Seconds in which a peer may read its last answer, while what it still sends is thrown away.
LINGER = 1.0

#: Probes without an answer after which a peer counts as gone.
_PROBES = 3
#: The longest silence and pause, in seconds, that Linux takes for probes.
_LONGEST_SILENCE = 32767

#: SO_LINGER on, for 0 seconds: the connection ends with a reset.
_RESET = struct.pack("ii", 1, 0)
#: What h11 must know of a head: where its body ends.
_FRAMING = ("Content-Length", "Transfer-Encoding")


def keep_alive(transport: asyncio.Transport, seconds: float) -> None:
    """Have the system probe the peer after so many seconds of silence (RFC 1122 section 4.2.3.6).

    Otherwise a peer that vanished would keep its place here until something is written to it.
    """
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    pause = max(1, round(seconds / _PROBES))
    for name, value in (("TCP_KEEPIDLE", round(seconds)), ("TCP_KEEPINTVL", pause), ("TCP_KEEPCNT", _PROBES)):
        # Some systems cannot set these for one socket.
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), min(max(1, value), _LONGEST_SILENCE))


class Lost(ConnectionError):
    """The connection is gone, or ended in the middle of a message."""


class HttpSocket(asyncio.Protocol):
    """The protocol object of one connection, until the connection ends or `detach` gives it up."""

    def __init__(self, role: type[h11.CLIENT] | type[h11.SERVER]) -> None:
        """Make a socket in the `role` that the proxy plays on it."""
        self.http = h11.Connection(role, max_incomplete_event_size=HEAD_LIMIT)
        # The peer has ended its half, or is gone.
        self.ended = asyncio.Event()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # there is none before a connection is made
        self._received = bytearray()
        # Checks the body that is being read, if it comes in chunks.
        self._chunks: ChunkedFraming | None = None
        # Wakes `read`, and `_drained`.
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._eof = False
        self._paused = False
        # Why the connection is gone; None while it is there.
        self._lost: str | None = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def data_received(self, data: bytes) -> None:
        """Keep what came until it is asked for, and pause when that is much."""
        self._received += data
        self._arrived.set()
        if len(self._received) > READ_BUFFER:
            self._pause()

    def _pause(self) -> None:
        # A connection may have failed in a write without saying so yet.
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Take the end of what the peer sends. Without TLS it may still read: the socket stays open."""
        self._eof = True
        self._arrived.set()
        self.ended.set()
        return self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = str(error) if isinstance(error, TlsFailed) else f"the connection was lost{_why(error)}"
        self._arrived.set()
        self._writable.set()
        self.ended.set()

    def pause_writing(self) -> None:
        """Let `send` wait: the peer reads less than it is sent."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let `send` go on: the peer has caught up."""
        self._writable.set()

    async def start_tls(self, transport: asyncio.Transport, context: ssl.SSLContext, host: str) -> None:
        """Make the TLS handshake on a new connection.

        Raises:
            ValueError: `host` cannot be the name of a certificate.
            Lost: the handshake failed.
        """
        established = asyncio.Event()
        self.transport = TlsTransport(transport, self, context, host, established.set)
        waits = [asyncio.ensure_future(event.wait()) for event in (established, self.ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not established.is_set():
            raise Lost(self._lost or "the connection was lost in the TLS handshake")

    # Reading.

    async def read(self) -> bytes:
        """Wait for data and return it; no data is the end of the stream.

        Raises:
            Lost: the connection is gone, without the end of the stream.
        """
        while not self._received:
            if self._eof:
                return b""
            if self._lost is not None:
                raise Lost(self._lost)
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._received)
        self._received.clear()
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()
        return data

    def begin_request(self, head: RequestHead, rest: bytes) -> None:
        """Take the head of a client's request, which was read already, and what came behind it."""
        close = ["Connection: close"] if has_token(head.headers, "Connection", "close") else []
        self._begin([f"{head.method} / HTTP/{head.version}", "Host: proxy", *close], head)
        self._received[:0] = rest

    def begin_response(self, head: ResponseHead, rest: bytes) -> None:
        """Take the head of an answer to a GET, which was read already, and what came behind it."""
        # h11 must have seen the request whose answer it reads.
        self.http.send(h11.Request(method="GET", target="/", headers=[("Host", "upstream")]))
        self.http.send(h11.EndOfMessage())
        self._begin([f"HTTP/1.1 {head.status} "], head)
        self._received[:0] = rest

    async def read_response(self) -> ResponseHead:
        """Read the head of the next response, interim ones (1xx) included.

        Raises:
            MalformedHead: it is not a head.
            Lost: the connection ended before it was whole.
        """
        reader = HeadReader()
        found = None
        while found is None:
            data = await self.read()
            if not data:
                raise Lost("the connection ended before an answer had come")
            found = reader.feed(data)
        self._received[:0] = found[1]
        head = parse_response(found[0])
        if head.status == 101:
            raise MalformedHead("it has changed the protocol, which was not asked for")
        if head.status >= 200:
            self._begin([f"HTTP/1.1 {head.status} "], head)
        return head

    def _begin(self, lines: list[str], head: RequestHead | ResponseHead) -> None:
        lines += [f"{name}: {value}" for name in _FRAMING for value in head.headers.getall(name, ())]
        self.http.receive_data("\r\n".join([*lines, "", ""]).encode("ascii"))
        event = self.http.next_event()
        assert isinstance(event, (h11.Request, h11.Response)), "a head that was checked"
        self._chunks = ChunkedFraming() if "Transfer-Encoding" in head.headers else None

    async def next_event(self) -> h11.Data | h11.EndOfMessage:
        """Return the next part of a body, or its end.

        Raises:
            h11.RemoteProtocolError, MalformedHead: it is malformed, or ends too soon.
            Lost: the connection is gone.
        """
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await (self.read() if self._chunks is None else self._read_chunks(self._chunks)))
        assert isinstance(event, (h11.Data, h11.EndOfMessage)), "nothing else comes behind a head"
        return event

    async def _read_chunks(self, chunks: ChunkedFraming) -> bytes:
        """Wait for data of a chunked body, and return it up to the first error. Raises Lost, MalformedHead."""
        if chunks.error is None:
            data = await self.read()
            correct = chunks.feed(data)
            if chunks.error is None or correct:
                return data[:correct]
        raise chunks.error

    # Writing.

    async def send(self, event: h11.Event, patience: float) -> None:
        """Write an event, and wait while the write buffer is full.

        Raises:
            Lost: the connection is gone.
            TimeoutError: the peer has read nothing for `patience` seconds.
        """
        if self._lost is not None:
            raise Lost(self._lost)
        data = self.http.send(event)
        if data:
            self.transport.write(data)
        await self._drained(patience)

    async def _drained(self, patience: float) -> None:
        while not self._writable.is_set():
            waiting = self.transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(patience):
                    await self._writable.wait()
            except TimeoutError:
                if self.transport.get_write_buffer_size() >= waiting:
                    raise
        if self._lost is not None:
            raise Lost(self._lost)

    # The end.

    @property
    def reusable(self) -> bool:
        """Whether both messages have ended, and neither side has said that they are the last of the connection."""
        states = self.http.states.values()
        alive = not (self._eof or self._lost or self.transport.is_closing())
        return alive and all(state is h11.DONE for state in states)

    def detach(self) -> bytes:
        """Stop reading, and return what was read of the next request."""
        self._pause()
        return self.http.trailing_data[0] + bytes(self._received)

    async def finish(self, patience: float) -> None:
        """End the connection behind what was sent.

        A socket that is closed while the peer still sends is reset, and the peer loses what it has not read yet: the
        answer. So first only our half is closed, and for a second what comes is thrown away. TLS cannot end one half;
        there the peer gets that second if it had not sent all of its message.

        Raises:
            Lost: the connection is gone.
            TimeoutError: the peer has read nothing for `patience` seconds.
        """
        if not self.transport.is_closing():
            self.transport.set_write_buffer_limits(high=0)
        await self._drained(patience)
        halves = self.transport.can_write_eof()
        if halves:
            self.transport.write_eof()
        if halves or self.http.their_state in (h11.SEND_BODY, h11.ERROR):
            try:
                async with asyncio.timeout(LINGER):
                    while await self.read():
                        pass
            except (Lost, TimeoutError):
                pass
        self.transport.close()

    def cut(self) -> None:
        """Reset the connection, so that an unfinished message looks cut off, even if the end of the stream ends it."""
        if self.transport is not None and not self.transport.is_closing():
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()


def _why(error: Exception | None) -> str:
    return f" ({error})" if error else ""
