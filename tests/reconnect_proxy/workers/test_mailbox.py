"""Messages between workers: whole, in order, with their descriptors, and no more than there is room for."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from reconnect_proxy.workers import mailbox as module
from reconnect_proxy.workers.mailbox import MailboxReader, MailboxWriter, WorkerMessage, make_mailbox


def open_descriptors() -> set[Path]:
    """Return the file descriptors of this process."""
    return set(Path("/proc/self/fd").iterdir())


class Receiver:
    """Reads a mailbox, and keeps its messages in a queue."""

    def __init__(self, reading: socket.socket) -> None:
        self.messages: asyncio.Queue[WorkerMessage] = asyncio.Queue()
        self.reader = MailboxReader(reading, self.messages.put_nowait)

    async def next(self) -> WorkerMessage:
        """Return the next message."""
        async with asyncio.timeout(10):
            return await self.messages.get()


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[tuple[Receiver, MailboxWriter]]:
    """The two ends of a mailbox that is not read yet."""
    reading, writing = make_mailbox()
    receiver, writer = Receiver(reading), MailboxWriter(writing)
    yield receiver, writer
    writer.close()
    receiver.reader.close()
    while not receiver.messages.empty():
        receiver.messages.get_nowait().close()


@pytest.mark.parametrize("size", [0, 10, module.LONGEST, 3_000_000])
async def test_a_message_arrives_whole(pair: tuple[Receiver, MailboxWriter], size: int) -> None:
    """Its facts, its data and its descriptors. Long data goes into a file that the receiver does not see."""
    receiver, writer = pair
    receiver.reader.start()
    here, there = socket.socketpair()
    data = os.urandom(size)
    sent: list[bool] = []
    message = WorkerMessage({"kind": "client", "peer": "192.0.2.1"}, data, [there.detach()])
    before = open_descriptors()
    writer.send(message, sent.append, 1.0)
    assert sent == [True]
    assert open_descriptors() == before
    message.close()
    got = await receiver.next()
    assert (got.facts, got.data) == ({"kind": "client", "peer": "192.0.2.1"}, data)
    with socket.socket(fileno=got.descriptors.pop()) as arrived, here:
        assert not got.descriptors
        assert not arrived.get_inheritable()
        arrived.sendall(b"hello")
        assert here.recv(5) == b"hello"


async def test_messages_keep_their_order(pair: tuple[Receiver, MailboxWriter]) -> None:
    """Also those that have to wait for room, and those behind them."""
    receiver, writer = pair
    sent: list[bool] = []
    for number in range(500):
        writer.send(WorkerMessage({"n": number}, bytes(30_000)), sent.append, 10.0)
    assert len(sent) < 500, "there is not room for so many at once"
    receiver.reader.start()
    assert [(await receiver.next()).facts["n"] for _ in range(500)] == list(range(500))
    assert sent == [True] * 500


async def test_a_message_without_room_in_time_is_not_sent(pair: tuple[Receiver, MailboxWriter]) -> None:
    """The worker does not read. The sender is told, and nothing of the message arrives later."""
    receiver, writer = pair
    outcome: asyncio.Queue[tuple[int, bool]] = asyncio.Queue()
    number = 0
    while outcome.qsize() == number:
        writer.send(
            WorkerMessage({"n": number}, bytes(30_000)), lambda well, n=number: outcome.put_nowait((n, well)), 0.01
        )
        number += 1
    found = [await asyncio.wait_for(outcome.get(), 10) for _ in range(number)]
    assert found == [*((n, True) for n in range(number - 1)), (number - 1, False)]
    receiver.reader.start()
    assert [(await receiver.next()).facts["n"] for _ in range(number - 1)] == list(range(number - 1))
    assert receiver.messages.empty()


async def test_messages_wait_for_the_next_reader() -> None:
    """When a worker dies, what is in its mailbox is read by the worker that replaces it."""
    reading, writing = make_mailbox()
    writer = MailboxWriter(writing)
    writer.send(WorkerMessage({"n": 1}), lambda well: None, 1.0)
    first = Receiver(socket.socket(fileno=os.dup(reading.fileno())))
    first.reader.start()
    assert (await first.next()).facts == {"n": 1}
    first.reader.close()
    writer.send(WorkerMessage({"n": 2}), lambda well: None, 1.0)
    second = Receiver(socket.socket(fileno=os.dup(reading.fileno())))
    second.reader.start()
    assert (await second.next()).facts == {"n": 2}
    second.reader.close()
    writer.close()
    reading.close()


async def test_a_descriptor_that_cannot_be_sent_is_logged(
    pair: tuple[Receiver, MailboxWriter], caplog: pytest.LogCaptureFixture
) -> None:
    """The client that it belongs to is lost, but not silently."""
    _, writer = pair
    here, there = socket.socketpair()
    number = there.fileno()
    there.close()
    here.close()
    sent: list[bool] = []
    writer.send(WorkerMessage({"kind": "client"}, b"", [number]), sent.append, 1.0)
    assert sent == [False]
    assert "message to worker not sent" in caplog.text
