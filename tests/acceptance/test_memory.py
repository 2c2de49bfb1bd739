"""Backpressure: the queue limit bounds the memory, and waiting loses nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .conftest import Serve
from .process import Serving
from .rawserver import RawServer
from .rawsocket import RawSocket, dial
from .relay import Relay
from .waiting import Message, eventually

MIB = 1 << 20
TOTAL = 50 * MIB
LIMIT = 4 * MIB
SLACK = 12 * MIB
"""What may come on top of the queue: socket buffers in the process, and an allocator that does not give back."""

CHOSEN = "a-client-chosen-id"


def bulk() -> list[Message]:
    """Build 50 MB of messages that say their place."""
    return [n.to_bytes(4, "big") * 4096 for n in range(TOTAL // 16384)]


@asynccontextmanager
async def pressing(speaker: RawSocket, messages: list[Message]) -> AsyncIterator[asyncio.Task[None]]:
    """Push messages as fast as they are taken, and see that all were by the end."""

    async def push() -> None:
        for message in messages:
            await speaker.send(message)

    task = asyncio.create_task(push())
    try:
        yield task
        async with asyncio.timeout(20):
            await task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def stalled(proxy: Serving, speaker: RawSocket, start: int) -> int:
    """Wait until the speaker can write no more for a while; give the highest memory above `start` seen."""
    peak = proxy.rss()
    buffered = -1
    still = 0

    def settled() -> bool:
        nonlocal peak, buffered, still
        peak = max(peak, proxy.rss())
        size = speaker.writer.transport.get_write_buffer_size()
        still = still + 1 if size == buffered and size > 0 else 0
        buffered = size
        return still >= 25

    await eventually(settled, "the speaker was held back")
    return peak - start


async def test_a_client_that_does_not_read(serve: Serve, upstream: RawServer) -> None:
    """50 MB towards a client that does not read stay upstream; it then reads, and has everything."""
    proxy = await serve(upstream.url, "--max-queue", "4MiB")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    client.pause()
    messages, start = bulk(), proxy.rss()
    async with pressing(server, messages):
        assert await stalled(proxy, server, start) < LIMIT + SLACK
        client.resume()
        assert await client.take(len(messages), within=30) == messages
    assert proxy.rss() - start < LIMIT + SLACK


async def test_a_client_that_is_away(serve: Serve, upstream: RawServer) -> None:
    """The same for a client that is gone for a while."""
    proxy = await serve(upstream.url, "--max-queue", "4MiB", "--grace", "60s")
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    client.reset()
    messages, start = bulk(), proxy.rss()
    async with pressing(server, messages):
        assert await stalled(proxy, server, start) < LIMIT + SLACK
        again = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
        assert await again.take(len(messages), within=30) == messages


async def test_an_upstream_that_does_not_read(serve: Serve, upstream: RawServer) -> None:
    """50 MB towards an upstream that does not read stay with the client."""
    proxy = await serve(upstream.url, "--max-queue", "4MiB")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    server.pause()
    messages, start = bulk(), proxy.rss()
    async with pressing(client, messages):
        assert await stalled(proxy, client, start) < LIMIT + SLACK
        server.resume()
        assert await server.take(len(messages), within=30) == messages


async def test_an_upstream_that_is_down(serve: Serve, upstream: RawServer) -> None:
    """50 MB towards an upstream that is down stay with the client, and arrive when it is up."""
    async with Relay(upstream.port) as relay:
        await relay.refuse()
        proxy = await serve(relay.url, "--max-queue", "4MiB")
        client = await dial(f"{proxy.url}/")
        messages, start = bulk(), proxy.rss()
        async with pressing(client, messages):
            assert await stalled(proxy, client, start) < LIMIT + SLACK
            await relay.heal()
            server = await upstream.accept()
            assert await server.take(len(messages), within=30) == messages


async def test_many_small_messages_count_with_what_they_cost(serve: Serve, upstream: RawServer) -> None:
    """A queue full of tiny messages is bounded in memory too, not only in payload bytes."""
    proxy = await serve(upstream.url, "--max-queue", "1MiB", "--grace", "60s")
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    client.reset()
    messages: list[Message] = [str(n % 10) if n % 2 else b"" for n in range(150_000)]
    start = peak = proxy.rss()
    for place in range(0, len(messages), 10_000):
        # All of this fits into the sockets' buffers, so nothing is held back; the proxy takes what it wants.
        await server.send(*messages[place : place + 10_000])
        peak = max(peak, proxy.rss())
    again = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    assert await again.take(len(messages), within=30) == messages
    assert peak - start < 8 * MIB
