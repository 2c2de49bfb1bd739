"""Ordinary WebSocket programs on `websockets`: they know nothing of sessions, and must not need to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from .waiting import PATIENCE, Message, Tally

Handler = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def ordinary_server(handler: Handler, **options: Any) -> AsyncIterator[int]:
    """Serve on a free port and give the port. Without compression, so that sizes mean something on the way."""
    options.setdefault("compression", None)
    options.setdefault("max_size", None)
    options.setdefault("close_timeout", 1)
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield server.sockets[0].getsockname()[1]


async def echo(connection: ServerConnection) -> None:
    """Send everything back."""
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


def ordinary_client(url: str, **options: Any) -> connect:
    """Connect as a program does that means the server itself; for `async with`."""
    options.setdefault("max_size", None)
    options.setdefault("close_timeout", 2)
    options.setdefault("open_timeout", PATIENCE)
    options.setdefault("compression", None)
    return connect(url, proxy=None, **options)


class Talker:
    """The conversation of one ordinary program: a list of messages to say at a rate, and all that it heard.

    As a server it carries on where it stopped when a new connection comes; what a dying one took is gone.
    """

    def __init__(self, to_say: Sequence[Message] = (), rate: float = 500) -> None:
        """Prepare to say `to_say`, `rate` messages a second; 0 says all of it at once."""
        self.heard = Tally()
        self.to_say = list(to_say)
        self.said = 0
        self.connections = 0
        self.closes: list[tuple[int, str]] = []
        self._rate = rate
        self._all_said = asyncio.Event()

    async def converse(self, connection: ServerConnection | ClientConnection) -> None:
        """Speak and listen over a connection until it ends."""
        self.connections += 1
        talking = asyncio.create_task(self._talk(connection))
        try:
            async for message in connection:
                self.heard.add(message)
        except ConnectionClosed:
            # How it ended is kept below, for a clean end too.
            pass
        finally:
            talking.cancel()
            await asyncio.wait([talking])
            self.closes.append((connection.close_code or 1006, connection.close_reason or ""))

    async def finishes(self, within: float = PATIENCE) -> None:
        """Wait until everything was said."""
        async with asyncio.timeout(within):
            await self._all_said.wait()

    async def _talk(self, connection: ServerConnection | ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        start, first = loop.time(), self.said
        with contextlib.suppress(ConnectionClosed):
            while self.said < len(self.to_say):
                self.said += 1
                await connection.send(self.to_say[self.said - 1])
                if self._rate:
                    # Against the schedule, not after each other: the rate holds on a busy machine.
                    await asyncio.sleep(max(0.0, start + (self.said - first) / self._rate - loop.time()))
            self._all_said.set()


@contextlib.asynccontextmanager
async def conversation(url: str, talker: Talker, **options: Any) -> AsyncIterator[ClientConnection]:
    """Connect a talker as a client, and leave with 1000 at the end."""
    async with ordinary_client(url, **options) as connection:
        task = asyncio.create_task(talker.converse(connection))
        try:
            yield connection
        finally:
            await connection.close()
            await asyncio.wait([task])
