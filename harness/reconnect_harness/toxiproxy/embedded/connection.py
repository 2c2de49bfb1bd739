"""One connection through a proxy: two sockets, and a link for each direction."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from prometheus_client import Counter

from reconnect_harness.toxiproxy.embedded.address import split_address
from reconnect_harness.toxiproxy.embedded.errors import AddressError
from reconnect_harness.toxiproxy.embedded.link import ToxicLink
from reconnect_harness.toxiproxy.embedded.metrics import LinkBytes
from reconnect_harness.toxiproxy.embedded.stub import Chunk, ToxicDirection, ToxicWrapper, ignore

_LINGER_0 = struct.pack("ii", 1, 0)

_log = logging.getLogger(__name__)


class SocketEnd(asyncio.Protocol):
    """One socket of a connection: the source of the link `outgoing`, and the destination of `incoming`.

    Until there is a socket it is full, and keeps what is put.

    Args:
        made: called when the socket is there.
        lost: called when it is closed.
    """

    outgoing: ToxicLink
    incoming: ToxicLink

    def __init__(self, made: Callable[[], None], lost: Callable[[], None], read: Counter, written: Counter) -> None:
        self.on_room = ignore
        self.full = True
        """Whether the kernel did not take everything that was put."""
        self.closed = asyncio.Event()
        self.closed.set()
        self._made = made
        self._lost = lost
        self._read = read
        self._written = written
        self._transport: asyncio.Transport | None = None
        self._finished = False
        self._early: list[Chunk] = []

    @property
    def open(self) -> bool:
        """Whether there is an open socket."""
        return not self.closed.is_set()

    # asyncio.Protocol: called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write what was put before."""
        self.closed.clear()
        self._transport = cast("asyncio.Transport", transport)
        # As in the original, a write is done when the kernel has taken all of it.
        self._transport.set_write_buffer_limits(high=0)
        self._made()
        self.full = False
        for chunk in self._early:
            self.put(chunk)
        if not self.full:
            self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Feed the link."""
        self._read.inc(len(data))
        self.outgoing.feed(data)

    def eof_received(self) -> bool:
        """End the link; the socket stays open for the other direction."""
        self.outgoing.end()
        return True

    def pause_writing(self) -> None:
        """Be full."""
        self.full = True

    def resume_writing(self) -> None:
        """Have room again, or close if everything is written."""
        self.full = False
        if self._finished:
            self.close()
        else:
            self.on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """End both links: one has lost its source, the other its destination."""
        self.closed.set()
        self.outgoing.end()
        self.incoming.abandon()
        self._lost()

    # ChunkSource and Sink: called by the links.

    def pause(self) -> None:
        """Do not read."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def put(self, chunk: Chunk) -> None:
        """Write."""
        if self._transport is None:
            self._early.append(chunk)
        elif not self._transport.is_closing():
            self._written.inc(len(chunk.data))
            self._transport.write(chunk.data)

    def finish(self) -> None:
        """Close when everything is written."""
        self._finished = True
        if not self.full:
            self.close()

    # Called by the connection.

    def linger(self) -> None:
        """Make the close an RST."""
        if self._transport is not None and not self._transport.is_closing():
            raw: socket.socket = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)

    def close(self) -> None:
        """Close now. What was not read is lost."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now. What was not written is lost, too."""
        if self._transport is not None:
            self._transport.abort()


class ProxiedConnection:
    """A client that was accepted, the upstream that is dialled for it, and the two links between them.

    Args:
        upstream: "HOST:PORT" to dial.
        toxics: the proxy's.
        connections: the proxy's open connections; this one is among them until both its sockets are closed.
        counted: where the bytes of each link are counted.

    Attributes:
        links: the link of each direction, when the client's socket is there.
    """

    def __init__(
        self,
        upstream: str,
        toxics: Sequence[ToxicWrapper],
        connections: set[ProxiedConnection],
        counted: Mapping[ToxicDirection, LinkBytes],
    ) -> None:
        there, back = counted[ToxicDirection.UPSTREAM], counted[ToxicDirection.DOWNSTREAM]
        self.client = SocketEnd(self._client_made, self._ended, there.received, back.sent)
        self.links: dict[ToxicDirection, ToxicLink] = {}
        self._upstream = SocketEnd(self._upstream_made, self._ended, back.received, there.sent)
        self._address = upstream
        self._toxics = toxics
        self._connections = connections
        self._dialling: asyncio.Task[None] | None = None
        connections.add(self)

    async def abort(self) -> None:
        """Close both sockets, and wait until they are closed.

        A dial is neither cancelled nor waited for: its socket is closed when it is made. (uvloop does not report the
        end of a socket whose dial was cancelled.)
        """
        self._connections.discard(self)
        for end in (self.client, self._upstream):
            end.abort()
            await end.closed.wait()

    def _client_made(self) -> None:
        """Make the links and dial the upstream."""
        for direction, source, destination in (
            (ToxicDirection.UPSTREAM, self.client, self._upstream),
            (ToxicDirection.DOWNSTREAM, self._upstream, self.client),
        ):
            link = ToxicLink(source, destination, [toxic for toxic in self._toxics if toxic.direction is direction])
            self.links[direction] = source.outgoing = destination.incoming = link
        self._dialling = asyncio.get_running_loop().create_task(self._dial())
        self._dialling.add_done_callback(lambda _: self._ended())
        if self not in self._connections:
            self.client.abort()

    async def _dial(self) -> None:
        try:
            host, port = split_address(self._address)
            await asyncio.get_running_loop().create_connection(lambda: self._upstream, host or "localhost", port)
        except (OSError, AddressError) as failure:
            _log.warning("unable to open a connection to the upstream %s: %s", self._address, failure)
            self.client.close()
            self._upstream.connection_lost(None)

    def _upstream_made(self) -> None:
        """Make each close an RST if a toxic asks for it."""
        if any(toxic.kind.lingers for toxic in self._toxics):
            self.client.linger()
            self._upstream.linger()
        if self not in self._connections:
            self._upstream.abort()

    def _ended(self) -> None:
        """Leave the proxy's connections if both sockets are closed."""
        if not self.client.open and not self._upstream.open and (self._dialling is None or self._dialling.done()):
            self._connections.discard(self)
