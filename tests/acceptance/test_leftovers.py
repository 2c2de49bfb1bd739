"""Nothing is left of a session that is over."""

import asyncio

import pytest

from ..silence import silent_server
from .conftest import Serve
from .frames import Refused
from .process import one_process
from .rawserver import Answer, RawServer
from .rawsocket import dial
from .relay import Relay
from .waiting import eventually


@one_process
async def test_descriptors_return_to_where_they_were(serve: Serve, upstream: RawServer) -> None:
    """Twenty clients leave in every way there is; after the grace the proxy holds what it held before."""
    proxy = await serve(upstream.url, "--grace", "200ms")
    warm = await dial(f"{proxy.url}/")
    await warm.close(1000)
    await eventually(lambda: upstream.sockets[0].end is not None, "the first session ended")
    before = proxy.descriptors()
    clients = [await dial(f"{proxy.url}/") for _ in range(20)]
    servers = [await upstream.accept() for _ in range(21)][1:]
    # A socket of the first session may have been counted, and be gone by now.
    assert proxy.descriptors() >= before + 39
    for number, client in enumerate(clients):
        await client.send("x")
        match number % 4:
            case 0:
                await client.close(1000)
            case 1:
                client.reset()
            case 2:
                client.drop()
            case _:
                servers[number].reset()
                client.reset()
    await eventually(lambda: proxy.descriptors() <= before, "all descriptors were released")


async def test_refusals_and_abandoned_handshakes_leave_nothing(serve: Serve) -> None:
    """Bad ids, refusals of the upstream, clients that leave during the dial: no descriptor stays."""
    async with RawServer(lambda _: Answer(401, body=b"no")) as upstream:
        proxy = await serve(upstream.url, "--grace", "100ms")
        before = proxy.descriptors()
        for _ in range(10):
            for fields in ([("X-Connection-Id", "short")], [("X-Reconnect-Id", "x" * 20)], []):
                try:
                    await dial(f"{proxy.url}/", fields)
                except Refused:
                    continue
                raise AssertionError("the client was accepted")
        host, port = proxy.base.split(":")
        for _ in range(10):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
            await writer.drain()
            writer.transport.abort()
        # It came last, so the proxy has accepted all the others.
        with pytest.raises(Refused):
            await dial(f"{proxy.url}/")
        await eventually(lambda: proxy.descriptors() <= before, "all descriptors were released")


async def test_a_client_that_leaves_during_the_dial_leaves_nothing(serve: Serve) -> None:
    """The dial for a client that hung up in the meantime comes to nothing, or to a session that ends by its grace."""
    dialled = asyncio.Semaphore(0)
    async with silent_server(dialled.release) as url:
        proxy = await serve(
            url,
            *("--connect-timeout", "500ms", "--grace", "100ms", "--retry-for", "500ms"),
        )
        before = proxy.descriptors()
        host, own_port = proxy.base.split(":")
        for _ in range(5):
            _, writer = await asyncio.open_connection(host, int(own_port))
            writer.write(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            await dialled.acquire()
            writer.transport.abort()
        await eventually(lambda: proxy.descriptors() <= before, "all descriptors were released")


async def test_a_session_that_redials_leaves_one_link(serve: Serve, upstream: RawServer) -> None:
    """After many redials a session holds two descriptors, as at the beginning."""
    async with Relay(upstream.port) as relay:
        proxy = await serve(relay.url)
        client = await dial(f"{proxy.url}/")
        await upstream.accept()
        before = proxy.descriptors()
        for count in range(10):
            relay.cut()
            await relay.reaches(count + 2)
            await upstream.accept()
        await client.send("hello")
        assert await upstream.sockets[-1].recv() == "hello"
        await eventually(lambda: proxy.descriptors() <= before, "the old links' descriptors were released")
