"""Late Pongs: a Ping is answered when the program has taken the messages before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from reconnect_harness.peers.late_pong import LatePongClient, LatePongServer
from tests.reconnect_harness.waiting import until


class Pair:
    """Two ends of a connection, of which `mine` answers late."""

    def __init__(self, mine: ClientConnection | ServerConnection, other: ClientConnection | ServerConnection) -> None:
        self.mine = mine
        self.other = other

    async def ping(self) -> Awaitable[float]:
        """Send a Ping; the result is done when its Pong has arrived."""
        return await self.other.ping()


@pytest.fixture(params=["client", "server"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """A connection whose client, or whose server, answers late."""
    accepted: asyncio.Queue[ServerConnection] = asyncio.Queue()
    over = asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        accepted.put_nowait(connection)
        await over.wait()

    promising = request.param
    async with (
        serve(handle, "127.0.0.1", 0, create_connection=LatePongServer if promising == "server" else None) as server,
        connect(
            f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/",
            proxy=None,
            compression=None,
            create_connection=LatePongClient if promising == "client" else None,
        ) as client,
    ):
        serving = await accepted.get()
        try:
            yield Pair(client, serving) if promising == "client" else Pair(serving, client)
        finally:
            over.set()


async def _came(pair: Pair, count: int) -> None:
    """Wait until so many messages have arrived at the side that answers late."""

    async def have() -> bool:
        return pair.mine._came == count  # type: ignore[union-attr]

    await until(have)


async def test_a_ping_is_answered_at_once_if_no_message_waits(pair: Pair) -> None:
    """There is no message to take."""
    await (await pair.ping())


async def test_a_pong_waits_until_the_messages_before_it_are_taken(pair: Pair) -> None:
    """A message is taken when the next one is asked for; only then the Pong is sent."""
    await pair.other.send("one")
    await pair.other.send(b"two")
    first = await pair.ping()
    await pair.other.send("three")
    second = await pair.ping()
    await _came(pair, 3)
    assert await pair.mine.recv() == "one"
    assert await pair.mine.recv() == b"two"
    # A round trip in the other direction: a Pong that had been sent would have arrived before this one.
    await (await pair.mine.ping())
    assert not first.done()
    assert await pair.mine.recv() == "three"
    await first
    assert not second.done()
    asking = asyncio.create_task(pair.mine.recv())
    await second
    asking.cancel()


async def test_a_message_in_fragments_is_one(pair: Pair) -> None:
    """A Ping between its fragments is answered at once, a Ping after it when it is taken."""
    more = asyncio.Event()

    async def fragments() -> AsyncIterator[str]:
        yield "a"
        await more.wait()
        yield "b"

    sending = asyncio.create_task(pair.other.send(fragments()))
    await (await pair.ping())
    more.set()
    await sending
    behind = await pair.ping()
    await _came(pair, 1)
    assert await pair.mine.recv() == "ab"
    await (await pair.mine.ping())
    assert not behind.done()
    asking = asyncio.create_task(pair.mine.recv())
    await behind
    asking.cancel()


async def test_sending_after_the_end_raises_connection_closed(pair: Pair) -> None:
    """Also if the transport was closed with data in its buffer, which CPython does not expect."""
    pair.other.transport.pause_reading()
    # More than all buffers of the system hold.
    sending = asyncio.create_task(pair.mine.send(bytes(32 * 1024**2)))
    await asyncio.wait([sending], timeout=0.1)
    assert pair.mine.transport.get_write_buffer_size() > 0
    pair.mine.transport.close()
    pair.other.transport.resume_reading()
    await pair.mine.wait_closed()
    with pytest.raises(ConnectionClosed):
        await pair.mine.send("too late")
    await sending
