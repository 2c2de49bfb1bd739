"""TLS between a socket and whoever reads it: a protocol to the socket's transport below, a transport to the one above.

    socket <-> asyncio transport <-> TlsTransport <-> Acceptor, Handshake, picows
                                       SSLObject

Why not `create_server(ssl=…)` or `loop.start_tls`? uvloop's TLS drops what it has read and not handed on yet when the
peer ends TCP without a close_notify, as many do: messages that reached the proxy, in front of a close frame, would be
lost. Its `flushed` does not see the transport below, and whoever accepts learns of a connection only after its
handshake, when it is too late to limit handshakes. Here:

- **Nothing waits in here.** What has been read is handed on at once, or while reading is paused, the transport below is
  paused as well: so the end of TCP cannot overtake a byte. What is written goes to the transport below at once, which
  alone has a write buffer: its limits, and its pauses, are those of the one above.
- **A connection ends once.** `close` says close_notify and ends TCP; the peer's answer is not awaited (RFC 8446 section
  6.1 allows it), since the closing handshake of RFC 6455 has said already whether all was said. A peer that ends TCP
  without one is at its end all the same: without a close frame before it that is a 1006.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from .head import encode_response
from .layered import LayeredTransport

#: Bytes that are read at a time for a protocol that has no buffer of its own: the most that a TLS record holds.
RECORD = 16 * 1024
#: Encrypted bytes after which a long write is passed on, so that it does not exist twice in full.
CHUNK = 256 * 1024

_PLAIN_HTTP = encode_response(
    400,
    "Bad Request",
    [("Content-Type", "application/json")],
    b'{"error": "tls-required", "detail": "this port speaks TLS: ask with https:// or wss://"}',
)
#: Stands above once the connection is over, so that nothing is kept alive by it.
_NOBODY = asyncio.Protocol()


class TlsFailed(ConnectionError):
    """TLS could not be agreed upon, or was broken later. The message says why."""


class TlsTransport(LayeredTransport, asyncio.Protocol):
    """The TLS of one connection."""

    __slots__ = (
        "_begun",
        "_closing",
        "_established",
        "_failure",
        "_incoming",
        "_loop",
        "_on_established",
        "_outgoing",
        "_paused",
        "_tls",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol | asyncio.BufferedProtocol,
        context: ssl.SSLContext,
        server_hostname: str | None = None,
        on_established: Callable[[], None] | None = None,
    ) -> None:
        """Begin the handshake.

        Args:
            transport: the connection, of which nothing has been read.
            protocol: who reads what comes. Its `connection_made` is not called.
            context: for the server's end, or for the client's.
            server_hostname: at the client's end, the name or address that the server's certificate must be for; it is
                sent as the SNI if it is a name.
            on_established: called when the handshake is complete, before anything is read.

        Raises:
            ValueError: `server_hostname` cannot be the name of a host.
        """
        super().__init__(transport, protocol)
        self._on_established = on_established
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        # The peer has said something, or was spoken to.
        self._begun = False
        self._established = False
        self._paused = False
        # Nothing is written or read any more.
        self._closing = False
        # What `connection_lost` will say, where TLS has failed.
        self._failure: TlsFailed | None = None
        self._loop = asyncio.get_running_loop()
        transport.set_protocol(self)
        if server_hostname is not None:
            self._shake_hands()

    @property
    def established(self) -> bool:
        """Whether the handshake is complete: nothing can be written before."""
        return self._established

    # What the transport below calls.

    def data_received(self, data: bytes) -> None:
        """Take what came from the socket."""
        if not self._closing:
            self._incoming.write(data)
            if self._established or self._shake_hands():
                self._read()

    def eof_received(self) -> None:
        """Take the end of what the peer sends; the transport below then closes itself."""
        if not self._established:
            # Who says nothing at all looks whether somebody listens, as load balancers do.
            if self._begun and self._failure is None:
                self._failure = TlsFailed("the TLS handshake was broken off")
        elif not self._closing:
            self._protocol.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """Pass on the end of the socket."""
        self._closing = True
        protocol, self._protocol = self._protocol, _NOBODY
        self._on_established = None
        protocol.connection_lost(self._failure or error)

    # What the protocol above calls (asyncio.Transport).

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection: `ssl_object`, and all that the transport below knows."""
        return self._tls if name == "ssl_object" else self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Tell whether the connection is closing, or closed."""
        return self._closing or self._transport.is_closing()

    def is_reading(self) -> bool:
        """Tell whether what comes is handed on."""
        return not self._paused and not self.is_closing()

    def pause_reading(self) -> None:
        """Hand nothing on, and let TCP hold the peer back."""
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Hand on again what comes; not before this call has returned."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._go_on)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write `data`; what is written behind a close is dropped."""
        if self.is_closing() or not data:
            return
        try:
            written = self._tls.write(data)
            if written < len(data):
                # OpenSSL takes one record at a time.
                rest = memoryview(data)[written:]
                while rest:
                    rest = rest[self._tls.write(rest) :]
                    if self._outgoing.pending >= CHUNK:
                        self._flush()
        except ssl.SSLError as error:
            self._fail(error)
        self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Write all of it, in as few records as possible."""
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the socket, encrypted."""
        return self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Write what is written, say that this was all, and end the connection."""
        if self._closing:
            return
        self._closing = True
        if self._established:
            # It would wait for the peer's close_notify, or there is nothing left to say.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once, with all that waits to be written."""
        self._closing = True
        self._transport.abort()

    # TLS.

    def _shake_hands(self) -> bool:
        """Go on with the handshake; tell whether it is complete."""
        self._begun = True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._fail(error)
            return False
        self._flush()
        self._established = True
        if self._on_established is not None:
            self._on_established()
        return True

    def _read(self) -> None:
        """Hand on all that has come, as far as the protocol wants it."""
        tls, incoming = self._tls, self._incoming
        more = True
        try:
            # The protocol may pause, close or be replaced by what it reads.
            while more and not self._paused and not self._closing and (incoming.pending or tls.pending()):
                more = self._read_into_buffer() if self._buffered else self._read_copy()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(error)
        if not more and not self._closing:
            self._protocol.eof_received()
            self.close()
        elif self._outgoing.pending:
            # An answer of TLS itself, such as to a new key.
            self._flush()

    def _read_into_buffer(self) -> bool:
        buffer = self._protocol.get_buffer(-1)
        count = self._tls.read(len(buffer), buffer)
        if count:
            self._protocol.buffer_updated(count)
        return bool(count)

    def _read_copy(self) -> bool:
        data = self._tls.read(RECORD)
        if data:
            self._protocol.data_received(data)
        return bool(data)

    def _go_on(self) -> None:
        if not self._paused and not self._closing:
            self._read()
        if not self._paused and not self.is_closing():
            self._transport.resume_reading()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._transport.write(data)

    def _fail(self, error: ssl.SSLError) -> None:
        """End the connection for what TLS found wrong; the peer is told by an alert."""
        self._failure = TlsFailed(reason_of(error))
        self._closing = True
        self._flush()
        if error.reason == "HTTP_REQUEST":
            self._transport.write(_PLAIN_HTTP)
        self._transport.close()


def reason_of(error: ssl.SSLError) -> str:
    """Return in words what an error of TLS says."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    hint = "; does it speak TLS?" if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST") else ""
    return f"TLS failed: {reason}{hint}"
