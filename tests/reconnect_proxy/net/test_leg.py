"""A leg's frames, as they are on the wire."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
from urllib.parse import urlsplit

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from reconnect_proxy.net.accept import Acceptor
from reconnect_proxy.net.burst import LARGE
from reconnect_proxy.net.outgoing import Handshake
from reconnect_proxy.proxy import Proxy


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_large_frames_for_a_slow_reader_stay_whole(loop: type[asyncio.AbstractEventLoop]) -> None:
    """Frames that wait in a write buffer are those that were sent: nothing writes over their heads meanwhile."""
    draw = random.Random(1)
    messages = [draw.randbytes(draw.choice([9_000, 12_000, 20_000, 70_000])) for _ in range(600)]

    async def push(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)
        await connection.wait_closed()

    async def relay() -> list[str | bytes]:
        async with (
            serve(push, "127.0.0.1", 0, compression=None, write_limit=2**26) as server,
            Proxy(upstream=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", listen="127.0.0.1:0") as proxy,
        ):
            slow = socket.socket()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            slow.setblocking(False)
            address = urlsplit(proxy.url)
            await asyncio.get_running_loop().sock_connect(slow, (address.hostname, address.port))
            async with connect(proxy.url, sock=slow, max_queue=1) as client:
                while proxy.sessions()[0].u2c_queued < 100:  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.01)
                return [await client.recv() for _ in messages]

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(relay()) == messages


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_open_session_keeps_nothing_of_its_handshakes(loop: type[asyncio.AbstractEventLoop]) -> None:
    """Who has read the heads is gone once they are read, and so are the heads."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def open_one() -> None:
        async with (
            serve(echo, "127.0.0.1", 0) as server,
            Proxy(upstream=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", listen="127.0.0.1:0") as proxy,
            connect(proxy.url) as client,
        ):
            await client.send("hello")
            assert await client.recv() == "hello"
            gc.collect()
            assert [each for each in gc.get_objects() if isinstance(each, (Acceptor, Handshake))] == []
            for leg in proxy.legs:
                assert not leg.transport.request.headers
                assert not leg.transport.response.headers

    gc.collect()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(open_one())


async def test_a_ping_leaves_at_once() -> None:
    """What it asks about is held until it is answered; so it does not wait for the loop's next turn, as messages do."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with (
        serve(echo, "127.0.0.1", 0) as server,
        Proxy(upstream=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", listen="127.0.0.1:0") as proxy,
        connect(proxy.url) as client,
    ):
        await client.send("hello")
        assert await client.recv() == "hello"
        assert len(proxy.legs) == 2
        for leg in proxy.legs:
            out = leg.transport.underlying_transport
            leg.send(1, b"a message")
            assert out.waiting > 0
            leg.ping(bytes(8))
            assert out.waiting == 0


@pytest.mark.parametrize("size", [125, 126, LARGE - 1, LARGE, 2**16 - 1, 2**16, 1_000_000])
async def test_frames_of_every_size_arrive_whole(size: int) -> None:
    """Large frames are masked and written without picows, and every form of a frame's head is used."""
    heard: list[str | bytes] = []

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            heard.append(message)
            await connection.send(message)

    message = random.Random(size).randbytes(size)
    async with (
        serve(echo, "127.0.0.1", 0) as server,
        Proxy(upstream=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", listen="127.0.0.1:0") as proxy,
        connect(proxy.url, compression=None) as client,
    ):
        for text in (message, message.hex()[:size]):
            await client.send(text)
            assert await client.recv() == text
    assert heard == [message, message.hex()[:size]]
