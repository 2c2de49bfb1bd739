"""One connection through a proxy: two sockets, and a link for each direction."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import cast

from reconnect_harness.toxiproxy.embedded.address import AddressError, split_address
from reconnect_harness.toxiproxy.embedded.collection import ToxicCollection
from reconnect_harness.toxiproxy.embedded.link import ToxicLink
from reconnect_harness.toxiproxy.embedded.metrics import LinkBytes
from reconnect_harness.toxiproxy.embedded.stub import ignore
from reconnect_harness.toxiproxy.embedded.toxic import Chunk, ToxicDirection

_LINGER_0 = struct.pack("ii", 1, 0)

_log = logging.getLogger(__name__)


class SocketEnd(asyncio.Protocol):
    """One socket of a connection: the source of one link, and the destination of the other (`incoming`)."""

    def __init__(self, connection: ProxiedConnection) -> None:
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._finished = False
        self.on_room = ignore
        self.full = False
        """Whether the kernel did not take everything that was put."""
        self.closed = asyncio.Event()
        self.closed.set()
        self._incoming: ToxicLink | None = None
        self._incoming_bytes = LinkBytes()
        self._outgoing: ToxicLink | None = None
        self._outgoing_bytes = LinkBytes()
        self._early: list[bytes] = []
        self._early_end = False

    @property
    def open(self) -> bool:
        """Whether there is an open socket."""
        return not self.closed.is_set()

    # asyncio.Protocol: called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read as little as possible until there are links."""
        self.closed.clear()
        self._transport = cast("asyncio.Transport", transport)
        # As in the original, a write is done when the kernel has taken all of it.
        self._transport.set_write_buffer_limits(high=0)
        self.pause()
        self._connection.made(self)

    def data_received(self, data: bytes) -> None:
        """Feed the link."""
        if self._outgoing is not None:
            self._feed(self._outgoing, data)
        else:
            # uvloop reads once before a pause in connection_made takes effect.
            self._early.append(data)

    def eof_received(self) -> bool:
        """End the link; the socket stays open for the other direction."""
        if self._outgoing is not None:
            self._outgoing.end()
        self._early_end = True
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
        if self._outgoing is not None:
            self._outgoing.end()
        if self._incoming is not None:
            self._incoming.abandon()
        self._connection.ended()

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
        if self._transport is not None and not self._transport.is_closing():
            self._incoming_bytes.sent += len(chunk.data)
            self._transport.write(chunk.data)

    def finish(self) -> None:
        """Close when everything is written."""
        self._finished = True
        if not self.full:
            self.close()

    # Called by the connection.

    def follow(self, link: ToxicLink, counted: LinkBytes) -> None:
        """Be the destination of `link`."""
        self._incoming = link
        self._incoming_bytes = counted

    def lead(self, link: ToxicLink, counted: LinkBytes) -> None:
        """Be the source of `link`, and feed it with what was read already."""
        self._outgoing = link
        self._outgoing_bytes = counted
        for data in self._early:
            self._feed(link, data)
        self._early.clear()
        if self._early_end:
            link.end()

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

    def _feed(self, link: ToxicLink, data: bytes) -> None:
        self._outgoing_bytes.received += len(data)
        link.feed(data)


class ProxiedConnection:
    """A client that was accepted, the upstream that is dialled for it, and the two links between them.

    Args:
        upstream: "HOST:PORT" to dial.
        toxics: the proxy's.
        connections: the proxy's open connections; this one is among them until both its sockets are closed.
        count: returns where the bytes of a link are counted.
    """

    def __init__(
        self,
        upstream: str,
        toxics: ToxicCollection,
        connections: set[ProxiedConnection],
        count: Callable[[ToxicDirection], LinkBytes],
    ) -> None:
        self.client = SocketEnd(self)
        self._upstream = SocketEnd(self)
        self._address = upstream
        self._toxics = toxics
        self._connections = connections
        self._count = count
        self._opening: asyncio.Task[None] | None = None
        connections.add(self)

    def made(self, end: SocketEnd) -> None:
        """Dial the upstream when the client's socket is there."""
        if self not in self._connections:
            end.abort()
        elif end is self.client:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(lambda _: self.ended())

    def ended(self) -> None:
        """Leave the proxy's connections if both sockets are closed."""
        if not self.client.open and not self._upstream.open and (self._opening is None or self._opening.done()):
            self._connections.discard(self)

    async def abort(self) -> None:
        """Close both sockets, and wait until they are closed.

        A dial is neither cancelled nor waited for: its socket is closed when it is made.
        """
        self._connections.discard(self)
        for end in (self.client, self._upstream):
            end.abort()
        await self.client.closed.wait()
        await self._upstream.closed.wait()

    async def _open(self) -> None:
        try:
            host, port = split_address(self._address)
            await asyncio.get_running_loop().create_connection(lambda: self._upstream, host or "localhost", port)
        except (OSError, AddressError) as failure:
            _log.warning("unable to open a connection to the upstream %s: %s", self._address, failure)
        if self.client.open and self._upstream.open:
            self._link()
        else:
            self.client.close()
            self._upstream.close()

    def _link(self) -> None:
        ends = {
            ToxicDirection.UPSTREAM: (self.client, self._upstream),
            ToxicDirection.DOWNSTREAM: (self._upstream, self.client),
        }
        if self._toxics.lingers:
            self.client.linger()
            self._upstream.linger()
        for direction, (source, destination) in ends.items():
            link = self._toxics.start_link(direction, source, destination)
            counted = self._count(direction)
            destination.follow(link, counted)
            source.lead(link, counted)
