"""How much of a socket is read at a time, and what the read buffer grows to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from reconnect_proxy.net.incoming import IncomingWebSocket
from reconnect_proxy.net.reader import READ_AT_ONCE, Reader
from reconnect_proxy.proxy import Proxy


@asynccontextmanager
async def client_of_an_echo() -> AsyncIterator[tuple[ClientConnection, IncomingWebSocket, Reader]]:
    """Connect a client with an upstream that echoes, and bring the leg that it has at the proxy."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with (
        serve(echo, "127.0.0.1", 0, max_size=None) as server,
        Proxy(upstream=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", listen="127.0.0.1:0") as proxy,
        connect(proxy.url, max_size=None, compression=None) as client,
    ):
        leg = next(leg for leg in proxy.legs if isinstance(leg, IncomingWebSocket))
        assert leg.protocol is not None
        yield client, leg, leg.protocol


def framed(payload: bytes) -> bytes:
    """Return the frame of a binary message from a client."""
    return Frame(Opcode.BINARY, payload).serialize(mask=True)


def read(reader: Reader, collected: bytes) -> list[int]:
    """Have `reader` read what the system has collected, as an event loop does. Returns how much each read brought."""
    sizes = []
    while collected:
        buffer = reader.get_buffer(65536)
        sizes.append(min(len(buffer), len(collected)))
        buffer[: sizes[-1]] = collected[: sizes[-1]]
        reader.buffer_updated(sizes[-1])
        collected = collected[sizes[-1] :]
    return sizes


@pytest.mark.parametrize("size", [100, 10_000, 64 * 1024])
async def test_the_read_buffer_does_not_grow_with_what_the_system_has_collected(size: int) -> None:
    """Messages of some size that were not read for a while are read bit by bit, and each arrives."""
    count = 2**20 // (size + 14)
    async with client_of_an_echo() as (client, _, reader):
        sizes = read(reader, count * framed(bytes(size)))
        assert max(sizes) <= READ_AT_ONCE
        assert reader.room < 2 * READ_AT_ONCE
        for _ in range(count):
            assert await client.recv() == bytes(size)


async def test_a_large_message_comes_in_a_few_reads() -> None:
    """The buffer has grown with the first one; the next one takes half of the room at a time."""
    async with client_of_an_echo() as (client, _, reader):
        message = framed(bytes(2**20))
        read(reader, message)
        assert len(read(reader, message)) <= 5
        assert [len(await client.recv()), len(await client.recv())] == [2**20, 2**20]


async def test_every_byte_of_a_large_frame_is_a_sign_of_life() -> None:
    """However much more of it there is room for: a client with a slow line is not taken for one that is gone."""
    async with client_of_an_echo() as (client, leg, reader):
        message = framed(bytes(2**20))
        read(reader, message)
        seen = {leg.progress()}
        for place in range(20):
            read(reader, message[place : place + 1])
            seen.add(leg.progress())
        assert len(seen) == 21
        read(reader, message[20:])
        assert [len(await client.recv()), len(await client.recv())] == [2**20, 2**20]
