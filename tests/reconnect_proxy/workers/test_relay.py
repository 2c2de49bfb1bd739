"""A client relayed from one worker to another: every byte, both ways, and no more held than need be."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio

from reconnect_proxy.workers.relay import Relay, RelayedTransport


@dataclass
class Session(asyncio.Protocol):
    """Who reads at the far end of a relay: the session's worker."""

    received: bytearray = field(default_factory=bytearray)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    writable: bool = True

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True

    async def has(self, count: int) -> None:
        """Wait until so many bytes have come."""
        async with asyncio.timeout(20):
            while len(self.received) < count:
                self.changed.clear()
                await self.changed.wait()


@dataclass
class Relayed:
    """A client, and its session in another worker, with the relay between them."""

    client: socket.socket
    far: socket.socket
    session: Session
    transport: RelayedTransport
    relay: Relay
    over: asyncio.Event

    async def read(self, count: int) -> bytes:
        """Read so many bytes as the client."""
        data = bytearray()
        async with asyncio.timeout(20):
            while len(data) < count:
                more = await asyncio.get_running_loop().sock_recv(self.client, 65536)
                if not more:
                    break
                data += more
        return bytes(data)


@pytest_asyncio.fixture
async def relayed() -> AsyncIterator[Relayed]:
    """One that has just been handed on."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    client.setblocking(False)
    far = socket.socket(fileno=os.dup(accepted.fileno()))
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
    transport.pause_reading()
    here, there = socket.socketpair()
    session = Session()
    unix, _ = await loop.create_unix_connection(asyncio.Protocol, sock=there)
    seen = RelayedTransport(unix, session, far)
    relay = Relay(transport, lambda ended: over.set())
    await relay.start(here)
    yield Relayed(client, far, session, seen, relay, over)
    client.close()
    relay.abort()
    if not seen.is_closing():
        seen.abort()
    async with asyncio.timeout(20):
        await over.wait()
        await session.lost.wait()
    assert far.fileno() < 0, "nobody keeps the client's socket"


async def test_every_byte_goes_both_ways(relayed: Relayed) -> None:
    """However much at once."""
    loop = asyncio.get_running_loop()
    for size in (1, 1000, 3_000_000):
        relayed.session.received.clear()
        data = os.urandom(size)
        sending = asyncio.create_task(loop.sock_sendall(relayed.client, data))
        await relayed.session.has(size)
        await sending
        assert relayed.session.received == data
        relayed.transport.write(data[: size // 2])
        relayed.transport.writelines([data[size // 2 :]])
        assert await relayed.read(size) == data


async def test_a_client_that_does_not_read_is_held_back(relayed: Relayed) -> None:
    """What it does not take waits with its session, which is told to pause, and knows that it has not left."""
    written = 0
    while relayed.session.writable:
        relayed.transport.write(bytes(100_000))
        written += 100_000
        await asyncio.sleep(0)
        assert written < 100_000_000
    assert relayed.transport.get_write_buffer_size() > 0
    assert len(await relayed.read(written)) == written
    async with asyncio.timeout(20):
        while relayed.transport.get_write_buffer_size() or not relayed.session.writable:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_session_that_does_not_read_holds_its_client_back(relayed: Relayed) -> None:
    """The client's own TCP connection is what fills up."""
    relayed.transport.pause_reading()
    sent = 0
    idle = 0
    while idle < 20:
        try:
            sent += relayed.client.send(bytes(100_000))
            idle = 0
        except BlockingIOError:
            idle += 1
        await asyncio.sleep(0.005)
        assert sent < 100_000_000
    assert not relayed.session.received
    relayed.transport.resume_reading()
    await relayed.session.has(sent)


async def test_what_was_said_arrives_before_the_end(relayed: Relayed) -> None:
    """The client leaves, and its session hears all of it first."""
    relayed.client.send(b"goodbye")
    relayed.client.close()
    async with asyncio.timeout(20):
        await relayed.session.lost.wait()
        await relayed.over.wait()
    assert relayed.session.received == b"goodbye"


async def test_the_end_of_a_session_is_that_of_its_client(relayed: Relayed) -> None:
    """It has read all that the session had to say when its connection ends."""
    relayed.transport.write(b"x" * 1_000_000)
    relayed.transport.close()
    assert await relayed.read(2_000_000) == b"x" * 1_000_000
    async with asyncio.timeout(20):
        await relayed.session.lost.wait()
