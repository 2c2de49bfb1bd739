"""TLS on one connection: a protocol for the socket's transport below, a transport for the protocol above.

    socket <-> asyncio transport <-> TlsTransport <-> Acceptor, Handshake, picows
                                       SSLObject

Two rules make this layer safe for messages:

- **It stores nothing.** What was read is passed on at once; while reading is paused, the transport below is paused too.
  So the end of TCP cannot overtake a byte. What is written goes to the transport below at once. That one has the only
  write buffer, so its limits and its pauses hold for the protocol above.
- **`close` does not wait.** It sends close_notify and ends TCP without the peer's answer (RFC 8446 section 6.1 allows
  that): the closing handshake of RFC 6455 has already said whether everything was said. A peer that ends TCP without
  close_notify has ended the stream too; without a close frame before it, that is a 1006.

docs/architecture.md says why it is not `start_tls` of uvloop or of aiofastnet, with figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from enum import Enum, auto
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


class TlsFailed(ConnectionError):
    """The TLS handshake failed, or a later record was invalid. The message says why."""


class _State(Enum):
    """How far a connection has come; it only moves down this list."""

    #: Neither side has sent anything.
    SILENT = auto()
    HANDSHAKE = auto()
    ESTABLISHED = auto()
    #: Nothing is read or written any more.
    CLOSED = auto()


# In Python 3.11 a member takes five times as long to look up in its enum as here, and every message asks for them.
_ESTABLISHED, _CLOSED = _State.ESTABLISHED, _State.CLOSED


class TlsTransport(LayeredTransport, asyncio.Protocol):
    """The TLS of one connection."""

    __slots__ = (
        "_failure",
        "_incoming",
        "_loop",
        "_on_established",
        "_outgoing",
        "_paused",
        "_state",
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
        """Begin the handshake: as the client if there is a `server_hostname`, else as the server.

        Args:
            transport: the connection. Nothing has been read from it yet.
            protocol: reads what the peer sends. Its `connection_made` is not called.
            context: for the server's end, or for the client's.
            server_hostname: the name or address that the server's certificate must be valid for. A name is also sent
                as the SNI.
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
        self._state = _State.SILENT
        self._paused = False
        # What `connection_lost` will be called with, if TLS has failed.
        self._failure: TlsFailed | None = None
        self._loop = asyncio.get_running_loop()
        transport.set_protocol(self)
        if server_hostname is not None:
            self._continue_handshake()

    @property
    def established(self) -> bool:
        """Whether the handshake is complete, and the connection not closed: only then something can be written."""
        return self._state is _ESTABLISHED

    # What the transport below calls.

    def data_received(self, data: bytes) -> None:
        """Decrypt what came from the socket, and pass it on."""
        state = self._state
        if state is not _CLOSED:
            self._incoming.write(data)
            if state is _ESTABLISHED or self._continue_handshake():
                self._read()

    def eof_received(self) -> None:
        """Take the end of what the peer sends; the transport below then closes itself."""
        if self._state is _ESTABLISHED:
            self._protocol.eof_received()
        elif self._state is _State.HANDSHAKE:
            # A peer that has sent nothing only looks whether the port is open, as load balancers do.
            self._failure = TlsFailed("the TLS handshake was broken off")

    def connection_lost(self, error: Exception | None) -> None:
        """Pass on the end of the socket."""
        self._state = _CLOSED
        self._on_established = None
        self._release_protocol().connection_lost(self._failure or error)

    # What the protocol above calls (asyncio.Transport).

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return `ssl_object`, or what the transport below knows."""
        return self._tls if name == "ssl_object" else self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._state is _CLOSED or self._transport.is_closing()

    def is_reading(self) -> bool:
        return not self._paused and not self.is_closing()

    def pause_reading(self) -> None:
        """Pass nothing on, and let TCP hold the peer back."""
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Pass on what comes again, from the next turn of the event loop on."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._on_resumed)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write `data`; what is written after a close is dropped."""
        if self.is_closing() or not data:
            return
        try:
            written = self._tls.write(data)
            if written < len(data):
                # OpenSSL writes one record at a time.
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
        """Return how many encrypted bytes wait for the socket."""
        return self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Send what was written and a close_notify behind it, and end the connection."""
        state = self._state
        if state is _CLOSED:
            return
        self._state = _CLOSED
        if state is _ESTABLISHED:
            # An error says that the peer's close_notify is missing, or that nothing can be sent any more.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once, with everything that waits to be written."""
        self._state = _CLOSED
        self._transport.abort()

    # TLS.

    def _continue_handshake(self) -> bool:
        """Continue the handshake; tell whether it is complete."""
        self._state = _State.HANDSHAKE
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._fail(error)
            return False
        self._flush()
        self._state = _ESTABLISHED
        if self._on_established is not None:
            self._on_established()
        return True

    def _read(self) -> None:
        """Pass on what has come, until the protocol pauses."""
        tls, incoming = self._tls, self._incoming
        more = True
        try:
            # What is read may make the protocol pause, close, or be replaced.
            while more and not self._paused and self._state is _ESTABLISHED and (incoming.pending or tls.pending()):
                more = self._read_into_buffer() if self._buffered else self._read_copy()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(error)
        if not more and self._state is _ESTABLISHED:
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

    def _on_resumed(self) -> None:
        if not self._paused and self._state is _ESTABLISHED:
            self._read()
        if not self._paused and not self.is_closing():
            self._transport.resume_reading()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._transport.write(data)

    def _fail(self, error: ssl.SSLError) -> None:
        """End the connection because of a TLS error; an alert tells the peer."""
        self._failure = TlsFailed(reason_of(error))
        self._state = _CLOSED
        self._flush()
        if error.reason == "HTTP_REQUEST":
            self._transport.write(_PLAIN_HTTP)
        self._transport.close()


def reason_of(error: ssl.SSLError) -> str:
    """Return a TLS error in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
    hint = "; does it speak TLS?" if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST") else ""
    return f"TLS failed: {words_of(error)}{hint}"


def words_of(error: ssl.SSLError) -> str:
    """Return the reason that OpenSSL gives, in words."""
    return (error.reason or str(error)).replace("_", " ").lower()
