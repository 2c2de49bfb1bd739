"""TLS clients whose session lives in another worker: what comes through their TLS goes there, and back, unencrypted.

    client <-- TLS --> TlsTransport <-> Relay <-- Unix socket --> RelayedTransport <-> Acceptor, picows
                       the worker that it came to                 the worker that its session lives in

A TLS connection cannot change hands: its keys are in the memory of the process that has shaken hands. The pair of Unix
sockets has no name, so nobody else can connect to it.

**Neither end keeps much.** Each is read only as fast as the other is written to; a client that does not read is noticed
by its session as ever. And the session's worker has a copy of the client's TCP socket, not to use it, but to ask the
system whether what it has written has arrived: a peer is not called mute while its Ping is still on its way.
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

__all__ = ["Relay", "RelayedTransport"]

Data = bytes | bytearray | memoryview


class Relay:
    """One client in the worker that it came to, from when it has been handed on until either side is gone."""

    def __init__(self, client: asyncio.Transport, on_end: Callable[[Relay], None]) -> None:
        """Prepare to relay `client`, whose reading is paused. `on_end` is called when it is over."""
        self._client = client
        self._on_end = on_end
        self._timer: asyncio.TimerHandle | None = None
        self._ends = 2

    async def start(self, here: socket.socket) -> None:
        """Relay between the client and the other worker, at the other end of `here`."""
        client = self._client
        loop = asyncio.get_running_loop()
        there = await loop.create_unix_connection(lambda: _End(self, client), sock=here)
        session = there[0]
        # Whatever the client's TCP does not take waits with the session, which knows what that means.
        client.set_write_buffer_limits(high=0)
        client.set_protocol(_End(self, session))
        if client.is_closing():
            session.close()
        else:
            client.resume_reading()

    def abort(self) -> None:
        """End it at once."""
        self._client.abort()

    def ended(self, other: asyncio.Transport) -> None:
        """Take note that one end is gone: what it has said before goes to the `other`, then that one is closed."""
        self._ends -= 1
        if self._ends:
            other.close()
            if other is self._client:
                self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, other.abort)
        else:
            if self._timer is not None:
                self._timer.cancel()
            self._on_end(self)


class _End(asyncio.Protocol):
    """Reads at one end of a relay, and writes at the other."""

    def __init__(self, relay: Relay, other: asyncio.Transport) -> None:
        self._relay = relay
        self._other = other

    def data_received(self, data: bytes) -> None:
        self._other.write(data)

    def pause_writing(self) -> None:
        # What this end is written, it does not take.
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._relay.ended(self._other)


class RelayedTransport(LayeredTransport, asyncio.BufferedProtocol):
    """The client of another worker, as its session's worker sees it.

    To the Unix socket's transport it is the protocol, and to whoever reads it the transport of a client with TLS.
    """

    __slots__ = ("_buffer", "_far")

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol, far: socket.socket) -> None:
        """Stand between `transport` and `protocol`; `far` is a copy of the client's TCP socket."""
        super().__init__(transport, protocol)
        self._far = far
        # For a protocol that has none.
        self._buffer = bytearray()
        transport.set_protocol(self)

    @property
    def descriptors(self) -> list[int]:
        """What the client can be handed on with: the Unix socket, and the copy of the client's own."""
        return [self._transport.get_extra_info("socket").fileno(), self._far.fileno()]

    # What the transport below calls.

    def get_buffer(self, sizehint: int) -> Any:
        """Return where to put what comes."""
        if self._buffered:
            return self._protocol.get_buffer(sizehint)
        self._buffer = bytearray(max(sizehint, 1024))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what came."""
        if self._buffered:
            self._protocol.buffer_updated(nbytes)
        else:
            self._protocol.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        """Pass on the end of what the client sends."""
        keep: bool | None = self._protocol.eof_received()
        return keep

    def connection_lost(self, error: Exception | None) -> None:
        """Pass on the end of the connection."""
        self._far.close()
        self._release_protocol().connection_lost(error)

    # What the protocol above calls (asyncio.Transport).

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the client: its socket, and that what is written is not what goes over it."""
        if name == "socket":
            return self._far
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
        """Tell whether the connection is closing, or closed."""
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        """Tell whether what comes is handed on."""
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        """Hand nothing on."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Hand on again what comes."""
        self._transport.resume_reading()

    def write(self, data: Data) -> None:
        """Write `data`."""
        self._transport.write(data)

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        """Write all of it."""
        self._transport.writelines(list_of_data)

    def close(self) -> None:
        """Write what is written, and end the connection."""
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once, with all that waits to be written."""
        self._transport.abort()
