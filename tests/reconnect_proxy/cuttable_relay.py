"""A TCP link that a test can cut, also in the middle of a frame, hold silent, and take down."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from enum import Enum
from types import TracebackType
from typing import Self

#: More bytes than a client's handshake has.
HANDSHAKE = 1000


class Way(Enum):
    """A direction through the relay."""

    UP = "client to server"
    DOWN = "server to client"


class CuttableRelay:
    """Listens on a free loopback port and joins each connection to `port`.

    Attributes:
        port: where it listens.
        accepted: how many connections were joined so far.
        held: bytes that wait because of `hold`.
        down: connections are refused, in that they are dropped at once.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.accepted = 0
        self.held = 0
        self.down = False
        self._target = target
        # Bytes that went up on the latest connection.
        self._carried = 0
        self._moved = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        # Bytes that may still pass before a cut; None: no cut is due.
        self._allowed: dict[Way, int | None] = dict.fromkeys(Way)
        self._links: set[asyncio.Task[None]] = set()

    @property
    def links(self) -> int:
        """How many connections are open."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Listen no more, and drop all connections."""
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Drop all connections at once, with what they hold, and come back when they are gone."""
        links = list(self._links)
        for link in links:
            link.cancel()
        if links:
            await asyncio.wait(links)

    def cut_after(self, way: Way, size: int) -> None:
        """Let `size` more bytes pass in that direction, then end the connection."""
        self._allowed[way] = size

    async def carries(self, size: int) -> None:
        """Wait until so many bytes went up on the latest connection."""
        while self._carried < size:
            self._moved.clear()
            await self._moved.wait()

    def hold(self) -> None:
        """Say nothing more in either direction, and close nothing."""
        self._flowing.clear()

    def release(self) -> None:
        """Let everything through again, what was held included."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        if self.down:
            writer.transport.abort()
            return
        self.accepted += 1
        self._carried = 0
        self._links.add(link)
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(far_writer)
            pumps = [
                asyncio.create_task(self._pump(Way.UP, reader, far_writer)),
                asyncio.create_task(self._pump(Way.DOWN, far_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.wait(pumps)
        except asyncio.CancelledError:
            # That is `cut`; a stream server would report the cancellation as a failure.
            for each in writers:
                each.transport.abort()
        finally:
            self._links.discard(link)
            for each in writers:
                each.close()

    async def _pump(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                if not self._flowing.is_set():
                    data += await self._read_until_released(reader, len(data))
                allowed = self._allowed[way]
                writer.write(data[:allowed])
                if way is Way.UP:
                    self._carried += len(data)
                    self._moved.set()
                if allowed is not None:
                    self._allowed[way] = allowed = max(allowed - len(data), 0)
                    if allowed == 0:
                        self._allowed[way] = None
                        return
                await writer.drain()

    async def _read_until_released(self, reader: asyncio.StreamReader, size: int) -> bytes:
        """Read on while nothing goes through, so that what was held goes through in one piece."""
        held = bytearray()
        released = asyncio.create_task(self._flowing.wait())
        reading = asyncio.create_task(reader.read(2**16))
        self.held += size
        try:
            while not released.done():
                await asyncio.wait([released, reading], return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    held += reading.result()
                    self.held += len(reading.result())
                    if not reading.result():
                        await released
                    reading = asyncio.create_task(reader.read(2**16))
        finally:
            self.held -= size + len(held)
            for task in (released, reading):
                task.cancel()
            await asyncio.wait([released, reading])
        return bytes(held)


@contextlib.asynccontextmanager
async def cut_at_random(
    relay: CuttableRelay, dice: random.Random, *, pause: tuple[float, float], within: int, outages: bool = False
) -> AsyncIterator[None]:
    """Cut the links of a relay again and again, until the block is left.

    Each link gets past its handshake first. Otherwise a slow machine might never be fast enough to bring a message
    through, and would dial more and more rarely.

    Args:
        relay: whose links are cut; at the end it is up.
        dice: what it all is drawn from.
        pause: how long it is from one cut to the next, in seconds, at least and at most.
        within: a cut may come after fewer bytes than this in one direction, in mid-frame too.
        outages: whether the relay is down for a moment now and then.

    """

    async def cutting() -> None:
        while True:
            await relay.carries(HANDSHAKE)
            await asyncio.sleep(dice.uniform(*pause))
            match dice.randrange(4 if outages else 3):
                case 0:
                    await relay.cut()
                case 1:
                    relay.cut_after(Way.UP, dice.randrange(within))
                case 2:
                    relay.cut_after(Way.DOWN, dice.randrange(within))
                case 3:
                    relay.down = True
                    await relay.cut()
                    await asyncio.sleep(dice.uniform(0, 0.05))
                    relay.down = False

    task = asyncio.create_task(cutting())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        relay.down = False
