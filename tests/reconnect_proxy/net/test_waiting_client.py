"""A client whose session dials its upstream for the first time: what it may do meanwhile, on both kinds of loop."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from reconnect_proxy.net.handshake import accept_key
from reconnect_proxy.proxy import Proxy

#: Seconds after which a test that waits for something has failed.
PATIENCE = 10.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
#: A text frame, masked with zeros.
HELLO = b"\x81\x85\x00\x00\x00\x00hello"

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
Loop = Callable[[], asyncio.AbstractEventLoop]


class SlowUpstream:
    """An upstream that answers one handshake when a test says so, and reads what comes behind it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.answer = asyncio.Event()
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.set()
        answering = asyncio.create_task(self._answer(head, writer))
        while data := await reader.read(4096):
            self.frames.put_nowait(data)
        self.gone.set()
        answering.cancel()
        writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        await self.answer.wait()
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        accept = accept_key(key)
        upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())


@asynccontextmanager
async def waiting(
    sent: bytes, **options: Any
) -> AsyncIterator[tuple[SlowUpstream, Proxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield an upstream that has been dialled for a client that sent `sent`, the proxy, and the client's socket."""
    upstream = SlowUpstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, asyncio.timeout(PATIENCE):
        async with Proxy(upstream=url, listen="127.0.0.1:0", **options) as proxy:
            reader, writer = await connected(proxy)
            writer.write(sent)
            await upstream.asked.wait()
            yield upstream, proxy, reader, writer
            writer.close()
        await upstream.gone.wait()


async def noticed(proxy: Proxy) -> None:
    """Wait until the proxy has seen what its sockets have brought so far: it answers one that came later."""
    reader, writer = await connected(proxy)
    writer.write(b"?\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()


async def connected(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the proxy."""
    host, _, port = proxy.url.removeprefix("ws://").partition(":")
    return await asyncio.open_connection(host, int(port))


def run(loop: Loop, main: Coroutine[Any, Any, None]) -> None:
    """Run a test in a loop of its kind."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main)


@LOOPS
def test_what_it_sends_meanwhile_arrives(loop: Loop) -> None:
    """In the read that brought its head, or in later ones; it is read on only when the dial is decided."""

    async def main() -> None:
        async with waiting(HANDSHAKE + HELLO) as (upstream, proxy, reader, writer):
            for _ in range(3):
                writer.write(HELLO)
                await noticed(proxy)
            upstream.answer.set()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            received = b""
            while len(received) < 4 * len(HELLO):
                received += await upstream.frames.get()
            assert received.count(b"\x81\x85") == 4

    run(loop, main())


@LOOPS
def test_one_that_leaves_is_not_dialled_for_any_longer(loop: Loop) -> None:
    """Its reset is noticed during the dial. Without a grace the session and its dial are given up."""

    async def main() -> None:
        async with waiting(HANDSHAKE, mode="sender") as (upstream, proxy, _, writer):
            # SO_LINGER of no time: a reset.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await upstream.gone.wait()
            assert not proxy.contexts

    run(loop, main())


@LOOPS
def test_one_that_says_no_more_still_has_its_answer(loop: Loop) -> None:
    """A half-closed socket waits for its 101 as any other, and what it had sent before arrives."""

    async def main() -> None:
        async with waiting(HANDSHAKE + HELLO) as (upstream, proxy, reader, writer):
            writer.write_eof()
            await noticed(proxy)
            upstream.answer.set()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await upstream.frames.get()

    run(loop, main())
