"""A client that is relayed from one worker to another: every byte in both directions, and backpressure."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio

from reconnect_proxy.workers.relay import Relay, RelayedTransport


@dataclass
class FarEnd(asyncio.Protocol):
    """What the worker of the session reads at its end of a relay."""

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
        """Wait until so many bytes have arrived."""
        async with asyncio.timeout(20):
            while len(self.received) < count:
                self.changed.clear()
                await self.changed.wait()


@dataclass
class Relayed:
    """A client, and its session in another worker, with the relay between them."""

    client: socket.socket
    client_copy: socket.socket
    session: FarEnd
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
    """A client that was just handed over."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    client.setblocking(False)
    client_copy = socket.socket(fileno=os.dup(accepted.fileno()))
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
    transport.pause_reading()
    here, there = socket.socketpair()
    session = FarEnd()
    unix, _ = await loop.create_unix_connection(asyncio.Protocol, sock=there)
    seen = RelayedTransport(unix, session, client_copy)
    relay = Relay(transport, lambda ended: over.set())
    await relay.start(here)
    yield Relayed(client, client_copy, session, seen, relay, over)
    client.close()
    relay.abort()
    if not seen.is_closing():
        seen.abort()
    async with asyncio.timeout(20):
        await over.wait()
        await session.lost.wait()
    assert client_copy.fileno() < 0, "the copy of the client's socket is closed"


async def test_every_byte_arrives_in_both_directions(relayed: Relayed) -> None:
    """From one byte to three million at once."""
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


async def test_a_client_that_does_not_read_pauses_its_session(relayed: Relayed) -> None:
    """The session is told to pause, and can see how much was not written yet."""
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


async def test_a_session_that_does_not_read_pauses_its_client(relayed: Relayed) -> None:
    """The client's own TCP connection fills up."""
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


async def test_data_of_a_client_arrives_before_its_end(relayed: Relayed) -> None:
    """The client sends and closes at once."""
    relayed.client.send(b"goodbye")
    relayed.client.close()
    async with asyncio.timeout(20):
        await relayed.session.lost.wait()
        await relayed.over.wait()
    assert relayed.session.received == b"goodbye"


async def test_data_of_a_session_arrives_before_its_end(relayed: Relayed) -> None:
    """The session sends and closes at once, and the client's connection ends behind the last byte."""
    relayed.transport.write(b"x" * 1_000_000)
    relayed.transport.close()
    assert await relayed.read(2_000_000) == b"x" * 1_000_000
    async with asyncio.timeout(20):
        await relayed.session.lost.wait()
