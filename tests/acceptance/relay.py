"""A TCP relay that fails on command: the network between two programs, cut, silenced, refused, healed.

  near side                    far side
client ---- [ Link: out ->  ] ---- server
            [       <- back ]
"""

import asyncio
import contextlib
import socket
import struct
from enum import StrEnum
from types import TracebackType
from typing import Self

from .waiting import PATIENCE


class Cut(StrEnum):
    """How a link ends: with RST, or with FIN."""

    RESET = "reset"
    FINISH = "finish"


class Way(StrEnum):
    """A direction through the relay: out = from who dialled, back = towards it."""

    OUT = "out"
    BACK = "back"


class Link:
    """One connection through the relay."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        """Join two connected sockets."""
        self._writers = {Way.OUT: far, Way.BACK: near}
        self._budget: dict[Way, int | None] = {Way.OUT: None, Way.BACK: None}
        self._how = Cut.RESET
        self._silent = False
        # Set while the direction is carried.
        self._carries = {way: asyncio.Event() for way in Way}
        for event in self._carries.values():
            event.set()
        for writer in self._writers.values():
            # No buffer of its own: a byte counted as forwarded is in the kernel.
            writer.transport.set_write_buffer_limits(high=0)

    def silence(self) -> None:
        """Swallow everything from now on, and leave both sockets open."""
        self._silent = True

    def stall(self, way: Way) -> None:
        """Carry nothing in one direction from now on, and read it no more."""
        self._carries[way].clear()

    def cut_after(self, way: Way, count: int, how: Cut = Cut.RESET) -> None:
        """Let `count` more bytes through in one direction, then cut."""
        self._budget[way] = count
        self._how = how

    def cut(self, how: Cut = Cut.RESET) -> None:
        """End both connections now."""
        for writer in self._writers.values():
            if how is Cut.RESET:
                with contextlib.suppress(OSError):
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()

    async def run(self, near: asyncio.StreamReader, far: asyncio.StreamReader) -> None:
        """Carry bytes both ways until both directions have ended."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(Way.OUT, near))
                group.create_task(self._pump(Way.BACK, far))
        finally:
            for writer in self._writers.values():
                writer.close()

    async def _pump(self, way: Way, reader: asyncio.StreamReader) -> None:
        writer = self._writers[way]
        try:
            while data := await reader.read(65536):
                await self._carries[way].wait()
                if not self._silent and not await self._forward(way, writer, data):
                    return
            if not writer.is_closing():
                writer.write_eof()
        except ConnectionError:
            self.cut(Cut.RESET)
        except OSError:
            # write_eof on a socket that the other pump has just closed.
            self.cut(Cut.RESET)

    async def _forward(self, way: Way, writer: asyncio.StreamWriter, data: bytes) -> bool:
        budget = self._budget[way]
        if budget is None:
            writer.write(data)
            await writer.drain()
            return True
        writer.write(data[:budget])
        await writer.drain()
        self._budget[way] = budget - len(data[:budget])
        if len(data) >= budget:
            self.cut(self._how)
            return False
        return True


class Relay:
    """Listens on a port of its own and carries each connection to `target` on loopback."""

    def __init__(self, target: int) -> None:
        """Prepare a relay to a port; `async with` starts it."""
        self.target = target
        self.port = 0
        self.accepted = 0
        self._holder: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._change = asyncio.Condition()

    @property
    def url(self) -> str:
        """The address as a WebSocket URL without a path."""
        return f"ws://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Start listening."""
        # Bound and not listening: it keeps the port ours, and refused, while the relay is down.
        self._holder = self._bind(0)
        self.port = self._holder.getsockname()[1]
        await self.heal()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and cut what is left."""
        await self.refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._holder is not None
        self._holder.close()

    def cut(self, how: Cut = Cut.RESET) -> None:
        """End every connection that is there."""
        for link in list(self._links):
            link.cut(how)

    def cut_after(self, way: Way, count: int, how: Cut = Cut.RESET) -> None:
        """Let `count` more bytes through each connection that is there, then cut it."""
        for link in self._links:
            link.cut_after(way, count, how)

    def silence(self) -> None:
        """Turn every connection that is there into a black hole; later ones work."""
        for link in self._links:
            link.silence()

    def stall(self, way: Way) -> None:
        """Carry nothing in one direction of every connection that is there; later ones work."""
        for link in self._links:
            link.stall(way)

    async def refuse(self, how: Cut = Cut.RESET) -> None:
        """Refuse new connections and end those that are there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut(how)

    async def heal(self) -> None:
        """Accept new connections."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=self._bind(self.port))

    async def reaches(self, count: int, within: float = PATIENCE) -> None:
        """Wait until `count` connections have been carried since the start."""
        async with asyncio.timeout(within), self._change:
            await self._change.wait_for(lambda: self.accepted >= count)

    @staticmethod
    def _bind(port: int) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        return sock

    async def _serve(self, near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            near_writer.transport.abort()
            self._tasks.discard(task)
            return
        link = Link(near_writer, far_writer)
        self._links.add(link)
        self.accepted += 1
        async with self._change:
            self._change.notify_all()
        try:
            await link.run(near, far)
        except asyncio.CancelledError:
            # The relay is being stopped; asyncio's server logs a connection task that ends as cancelled.
            pass
        finally:
            link.cut()
            self._links.discard(link)
            self._tasks.discard(task)
