"""A peer that sends without end does not make the proxy grow, and harms only itself."""

from __future__ import annotations

import asyncio
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from reconnect_proxy.net import leg
from reconnect_proxy.proxy import Proxy

PING, PONG, TEXT, CONTINUATION, FIN = 9, 10, 1, 0, 0x80
MIB = 1 << 20


def frame(first: int, payload: bytes = b"") -> bytes:
    """Return a client's frame with a short payload, masked with zeros."""
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload


@pytest.fixture(autouse=True)
def _no_flood_is_too_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a flood of empty frames go on for ever, as a slower one may."""
    monkeypatch.setattr(leg, "EMPTY_FRAMES", 10**9)


async def echo(connection: ServerConnection) -> None:
    """Send everything back."""
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def proxied() -> AsyncIterator[Proxy]:
    """Run a proxy in front of an echo server."""
    async with serve(echo, "127.0.0.1", 0) as server:
        upstream = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Proxy(upstream=upstream, listen="127.0.0.1:0") as proxy:
            yield proxy


@asynccontextmanager
async def raw_client(proxy: Proxy) -> AsyncIterator[socket.socket]:
    """Open a WebSocket and hand over its bare socket, from which nothing is read."""
    address = urlsplit(proxy.url)
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, (address.hostname, address.port))
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        head = f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n"
        await loop.sock_sendall(client, head.encode())
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += await loop.sock_recv(client, 1)
        yield client


async def test_a_ping_flood_from_a_client_that_never_reads_is_bounded() -> None:
    """Of the Pongs that it is owed only the latest is kept; other sessions go on meanwhile."""
    async with proxied() as proxy, raw_client(proxy) as client, connect(proxy.url) as bystander:
        burst = b"".join(frame(FIN | PING, bytes(125)) for _ in range(1000))
        loop = asyncio.get_running_loop()
        tracemalloc.start()
        try:
            for n in range(60):
                await loop.sock_sendall(client, burst)
                await bystander.send(str(n))
                assert await bystander.recv() == str(n)
            # 8 MB were owed. The write buffer is not memory of Python, so it is checked by itself.
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        sizes = [each.transport.underlying_transport.waiting for each in proxy.legs]
        assert max(sizes) < MIB
        assert grown < MIB


async def test_a_client_that_reads_after_a_ping_flood_gets_the_pong_of_the_latest() -> None:
    """RFC 6455 section 5.5.3 asks for no more."""
    async with proxied() as proxy, raw_client(proxy) as client:
        loop = asyncio.get_running_loop()
        for _ in range(50):
            await loop.sock_sendall(client, b"".join(frame(FIN | PING, bytes(125)) for _ in range(1000)))
        last = os.urandom(8)
        await loop.sock_sendall(client, frame(FIN | PING, last))
        tail = b""
        while last not in tail:
            chunk = await loop.sock_recv(client, 65536)
            assert chunk, "the proxy ended the connection"
            tail = tail[-200:] + chunk


async def test_a_message_of_a_hundred_thousand_fragments_costs_no_more_than_its_bytes() -> None:
    """However small they are, empty ones included; it arrives whole."""
    async with proxied() as proxy, raw_client(proxy) as client, connect(proxy.url) as bystander:
        loop = asyncio.get_running_loop()
        pairs = frame(CONTINUATION) + frame(CONTINUATION, b"ab")
        await loop.sock_sendall(client, frame(TEXT))
        tracemalloc.start()
        try:
            for n in range(50):
                await loop.sock_sendall(client, pairs * 1000)
                await bystander.send(str(n))
                assert await bystander.recv() == str(n)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < MIB
        await loop.sock_sendall(client, frame(FIN | CONTINUATION, b"!"))
        received = b""
        while not received.endswith(b"ab!"):
            received += await loop.sock_recv(client, 65536)
        assert received[-100_001:] == b"ab" * 50_000 + b"!"


async def test_unsolicited_pongs_change_nothing() -> None:
    """Neither what is confirmed nor what is held, however many come."""
    async with proxied() as proxy, raw_client(proxy) as client, connect(proxy.url) as bystander:
        loop = asyncio.get_running_loop()
        tracemalloc.start()
        try:
            for n in range(20):
                await loop.sock_sendall(client, b"".join(frame(FIN | PONG, k.to_bytes(8, "big")) for k in range(1000)))
                await bystander.send(str(n))
                assert await bystander.recv() == str(n)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < MIB
        assert len(proxy.sessions()) == 2
