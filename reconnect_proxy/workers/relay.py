"""TLS clients whose session lives in another worker: their decrypted bytes are relayed to it, and back.

    client <-- TLS --> TlsTransport <-> Relay <-- Unix socket --> RelayedTransport <-> Acceptor, picows
                       the worker that it connected to            the worker that its session lives in

A TLS connection cannot move to another process: its keys are in the memory of the process that has made the handshake.
The pair of Unix sockets has no name, so no other program can connect to it.

**Neither end buffers much.** Each is read only as fast as the other is written to. Data for a client that does not read
waits in its session, as without a relay. The session's worker has a copy of the client's TCP socket. It does not use it
for data, but asks the system how much of what was written has arrived: a peer is not called mute while its Ping is
still on its way.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import termios
from collections.abc import Callable, Iterable
from typing import Any

from ..net.layered import LayeredTransport
from ..net.leg import CLOSE_TIMEOUT

Data = bytes | bytearray | memoryview


class Relay:
    """One client in the worker that it connected to, from when it was handed over until both sides are closed."""

    def __init__(self, client: asyncio.Transport, on_end: Callable[[Relay], None]) -> None:
        """Prepare to relay `client`, whose reading is paused. `on_end` is called when both sides are closed."""
        self._client = client
        self._on_end = on_end
        self._timer: asyncio.TimerHandle | None = None
        self._open_ends = 2

    async def start(self, here: socket.socket) -> None:
        """Relay between the client and the other worker, which has the other end of `here`."""
        client = self._client
        loop = asyncio.get_running_loop()
        there = await loop.create_unix_connection(lambda: _RelayEnd(self, client), sock=here)
        session = there[0]
        # Data that the client's TCP does not take waits in the session, which limits it.
        client.set_write_buffer_limits(high=0)
        client.set_protocol(_RelayEnd(self, session))
        if client.is_closing():
            session.close()
        else:
            client.resume_reading()

    def abort(self) -> None:
        self._client.abort()

    def ended(self, other: asyncio.Transport) -> None:
        """Close the `other` end, once it was written what this end has sent: this end is closed."""
        self._open_ends -= 1
        if self._open_ends:
            other.close()
            if other is self._client:
                self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, other.abort)
        else:
            if self._timer is not None:
                self._timer.cancel()
            self._on_end(self)


class _RelayEnd(asyncio.Protocol):
    """Reads at one end of a relay, and writes to the other."""

    def __init__(self, relay: Relay, other: asyncio.Transport) -> None:
        self._relay = relay
        self._other = other

    def data_received(self, data: bytes) -> None:
        self._other.write(data)

    def pause_writing(self) -> None:
        # This end does not take what it is written, so the other is not read.
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._relay.ended(self._other)


class RelayedTransport(LayeredTransport, asyncio.BufferedProtocol):
    """The client of another worker, as its session's worker sees it.

    To the transport of the Unix socket it is the protocol. To its own protocol it is the transport of a client with
    TLS.
    """

    __slots__ = ("_buffer", "_client")

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol, client: socket.socket) -> None:
        """Connect the `transport` of the Unix socket with `protocol`; `client` is a copy of the client's TCP socket."""
        super().__init__(transport, protocol)
        self._client = client
        # For a protocol that has none.
        self._buffer = bytearray()
        transport.set_protocol(self)

    @property
    def descriptors(self) -> list[int]:
        """What the client can be handed over with: the Unix socket, and the copy of its TCP socket."""
        return [self._transport.get_extra_info("socket").fileno(), self._client.fileno()]

    # What the transport of the Unix socket calls.

    def get_buffer(self, sizehint: int) -> Any:
        if self._buffered:
            return self._protocol.get_buffer(sizehint)
        self._buffer = bytearray(max(sizehint, 1024))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._buffered:
            self._protocol.buffer_updated(nbytes)
        else:
            self._protocol.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        keep: bool | None = self._protocol.eof_received()
        return keep

    def connection_lost(self, error: Exception | None) -> None:
        """Pass the end of the connection on."""
        self._client.close()
        self._release_protocol().connection_lost(error)

    # What the protocol calls (asyncio.Transport).

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the client's socket, and that its connection is encrypted."""
        if name == "socket":
            return self._client
        if name == "ssl_object":
            return True
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the other worker: here, and in the Unix socket."""
        waiting = self._transport.get_write_buffer_size()
        end = self._transport.get_extra_info("socket")
        try:
            unread = fcntl.ioctl(end.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return waiting
        return waiting + int.from_bytes(unread, "little")

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def write(self, data: Data) -> None:
        self._transport.write(data)

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        self._transport.writelines(list_of_data)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
