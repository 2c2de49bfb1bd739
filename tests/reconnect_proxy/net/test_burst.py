"""What a leg writes, over real sockets: together, in order, bounded, and all of it before the end."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import uvloop
from websockets.frames import Frame, Opcode

from reconnect_proxy.net.burst import COLLECTED, LARGE, BurstTransport

BINARY = 2
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
HIGH = 100_000


class Writer(asyncio.Protocol):
    """The end that writes in bursts; it never reads."""

    def __init__(self) -> None:
        self.writable = True
        self.relieved = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write in bursts from now on."""
        # uvloop's transports are none of asyncio's classes.
        transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=HIGH)
        self.transport = BurstTransport(transport)

    def pause_writing(self) -> None:
        """Keep that."""
        self.writable = False

    def resume_writing(self) -> None:
        """Keep that."""
        self.writable = True
        self.relieved.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Keep that."""
        self.lost.set_result(error)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Writer, socket.socket]]:
    """Connect a writer with a plain socket, both of which have small buffers."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listener, socket.socket() as writing:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        writing.setblocking(False)
        await loop.sock_connect(writing, listener.getsockname())
        peer, _ = listener.accept()
        peer.setblocking(False)
        transport, writer = await loop.create_connection(Writer, sock=writing)
        with peer:
            yield writer, peer
        transport.abort()
        await writer.lost


async def read(peer: socket.socket, count: int) -> bytes:
    """Read `count` bytes, or up to the end."""
    received = bytearray()
    while len(received) < count and (data := await asyncio.get_running_loop().sock_recv(peer, 65536)):
        received += data
    return bytes(received)


def run(loop: Callable[[], asyncio.AbstractEventLoop], work: Awaitable[None]) -> None:
    """Run a test on one kind of event loop."""

    async def main() -> None:
        await work

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def framed(payload: bytes) -> bytes:
    """Return the frame of a binary message from a server."""
    return Frame(Opcode.BINARY, payload).serialize(mask=False)


both_loops = pytest.mark.parametrize("loop", LOOPS)


@both_loops
@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say how many segments it has sent")
def test_what_one_turn_writes_leaves_together(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Sixty small writes, of frames and of bytes, are one segment."""

    def segments(peer: socket.socket) -> int:
        # tcpi_data_segs_in of struct tcp_info.
        return int(struct.unpack_from("I", peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152)[0])

    async def work() -> None:
        async with connected() as (writer, peer):
            for n in range(30):
                writer.transport.write(bytes([n]))
                writer.transport.write_frame(BINARY, bytes([n]))
            assert len(await read(peer, 120)) == 120
            assert segments(peer) == 1

    run(loop, work())


@both_loops
def test_sizes_of_all_kinds_keep_their_order(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """What is copied together and what is too large for that leave in the order in which they were written."""
    draw = random.Random(1)
    sizes = [draw.choice([1, 130, 5000, LARGE - 1, LARGE, LARGE + 1, 3 * COLLECTED]) for _ in range(300)]
    chunks = [draw.randbytes(size) for size in sizes]

    async def work() -> None:
        async with connected() as (writer, peer):
            kinds = [draw.randrange(4) for _ in chunks]
            expected = b"".join(
                framed(chunk) if kind == 1 else chunk for chunk, kind in zip(chunks, kinds, strict=True)
            )
            reading = asyncio.create_task(read(peer, len(expected)))
            for chunk, kind in zip(chunks, kinds, strict=True):
                match kind:
                    case 0:
                        writer.transport.write(chunk)
                    case 1:
                        writer.transport.write_frame(BINARY, chunk)
                    case 2:
                        writer.transport.writelines([chunk[:1], chunk[1:]])
                    case _:
                        writer.transport.write(chunk)
                        await asyncio.sleep(0)
            assert await reading == expected
            assert writer.transport.waiting == 0

    run(loop, work())


@both_loops
def test_a_close_comes_behind_what_was_written(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The peer reads all of it, then the end."""

    async def work() -> None:
        async with connected() as (writer, peer):
            for _ in range(1000):
                writer.transport.write(b"0123456789")
            writer.transport.close()
            writer.transport.write(b"too late")
            assert await read(peer, 2**30) == 1000 * b"0123456789"
            assert await writer.lost is None

    run(loop, work())


@both_loops
def test_an_abort_comes_behind_what_the_socket_takes(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """What was written just before, such as the 101 of a client that is taken over at once, still leaves."""

    async def work() -> None:
        async with connected() as (writer, peer):
            writer.transport.write(b"goodbye")
            writer.transport.abort()
            writer.transport.write(b"too late")
            await writer.lost
            assert writer.transport.is_closing()
            assert await read(peer, 100) == b"goodbye"


@both_loops
def test_an_abort_drops_what_the_socket_does_not_take(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A reader that stalls does not keep the connection, nor what waits for it."""

    async def work() -> None:
        async with connected() as (writer, peer):
            written = 0
            while writer.writable:
                writer.transport.write(bytes(10_000))
                written += 10_000
            writer.transport.abort()
            await writer.lost
            assert len(await read(peer, written)) < written

    run(loop, work())


@both_loops
def test_a_connection_that_is_lost_meanwhile_takes_no_more(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """For everything that the legs still write, large or small, before and after they are told."""

    async def work() -> None:
        async with connected() as (writer, peer):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            while not writer.lost.done():
                writer.transport.write(b"x")
                writer.transport.write_frame(BINARY, bytes(LARGE))
                await asyncio.sleep(0)
            writer.transport.write(b"x")
            writer.transport.write_frame(BINARY, bytes(LARGE))
            writer.transport.close()
            writer.transport.abort()
            await asyncio.sleep(0)

    run(loop, work())


@both_loops
def test_a_reader_that_stalls_is_felt_within_one_turn(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Who writes a backlog without a pause is told to pause once the buffer is full, and loses nothing."""
    payload = bytes(252)

    async def work() -> None:
        async with connected() as (writer, peer):
            written = 0
            while writer.writable:
                writer.transport.write_frame(BINARY, payload)
                written += 256
                assert written < 2**24
            assert HIGH < writer.transport.waiting <= HIGH + 2 * COLLECTED
            assert await read(peer, written) == written // 256 * framed(payload)
            await writer.relieved.wait()
            assert writer.writable
            assert writer.transport.waiting == 0

    run(loop, work())


@both_loops
def test_nothing_is_written_around_what_waits(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """picows writes straight to a socket that has nothing waiting; so it is never told that."""

    async def work() -> None:
        async with connected() as (writer, peer):
            assert writer.transport.get_write_buffer_size() == 1
            writer.transport.write(b"123")
            assert writer.transport.waiting == 3
            assert writer.transport.get_write_buffer_size() == 1
            assert await read(peer, 3) == b"123"

    run(loop, work())
