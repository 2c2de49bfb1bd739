"""Letters between workers: whole, in order, with their descriptors; and no more than there is room for."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from reconnect_proxy.workers import mailbox as module
from reconnect_proxy.workers.mailbox import Inbox, Letter, Outbound, make_inbox


def open_now() -> set[Path]:
    """Return the file descriptors that this process has."""
    return set(Path("/proc/self/fd").iterdir())


class Reader:
    """One who reads its letters."""

    def __init__(self, reading: socket.socket) -> None:
        self.letters: asyncio.Queue[Letter] = asyncio.Queue()
        self.inbox = Inbox(reading, self.letters.put_nowait)

    async def next(self) -> Letter:
        """Return the next letter."""
        async with asyncio.timeout(10):
            return await self.letters.get()


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[tuple[Reader, Outbound]]:
    """An inbox that is not read yet, and who writes to it."""
    reading, writing = make_inbox()
    reader, outbound = Reader(reading), Outbound(writing)
    yield reader, outbound
    outbound.close()
    reader.inbox.close()
    while not reader.letters.empty():
        reader.letters.get_nowait().close()


@pytest.mark.parametrize("size", [0, 10, module.LONGEST, 3_000_000])
async def test_a_letter_arrives_whole(pair: tuple[Reader, Outbound], size: int) -> None:
    """Its facts, its data and its descriptors; what is too long for a message goes in a file that nobody sees."""
    reader, outbound = pair
    reader.inbox.start()
    here, there = socket.socketpair()
    data = os.urandom(size)
    sent: list[bool] = []
    letter = Letter({"kind": "client", "peer": "192.0.2.1"}, data, [there.detach()])
    before = open_now()
    assert outbound.send(letter, sent.append, 1.0) is None
    assert sent == [True]
    assert open_now() == before
    letter.close()
    got = await reader.next()
    assert (got.facts, got.data) == ({"kind": "client", "peer": "192.0.2.1"}, data)
    with socket.socket(fileno=got.descriptors.pop()) as arrived, here:
        assert not got.descriptors
        assert not arrived.get_inheritable()
        arrived.sendall(b"hello")
        assert here.recv(5) == b"hello"


async def test_letters_keep_their_order(pair: tuple[Reader, Outbound]) -> None:
    """Also those that have to wait for room, and those behind them."""
    reader, outbound = pair
    sent: list[bool] = []
    for number in range(500):
        outbound.send(Letter({"n": number}, bytes(30_000)), sent.append, 10.0)
    assert len(sent) < 500, "there is not room for so many at once"
    reader.inbox.start()
    assert [(await reader.next()).facts["n"] for _ in range(500)] == list(range(500))
    assert sent == [True] * 500


async def test_who_finds_no_room_in_time_is_told(pair: tuple[Reader, Outbound]) -> None:
    """The worker does not read; those who wait in front are given up first, and nothing of them arrives later."""
    reader, outbound = pair
    outcome: asyncio.Queue[tuple[int, bool]] = asyncio.Queue()
    number = 0
    waiting = None
    while waiting is None:
        waiting = outbound.send(
            Letter({"n": number}, bytes(30_000)), lambda well, n=number: outcome.put_nowait((n, well)), 0.01
        )
        number += 1
    found = [await asyncio.wait_for(outcome.get(), 10) for _ in range(number)]
    assert found == [*((n, True) for n in range(number - 1)), (number - 1, False)]
    reader.inbox.start()
    assert [(await reader.next()).facts["n"] for _ in range(number - 1)] == list(range(number - 1))
    assert reader.letters.empty()


async def test_letters_wait_for_the_next_reader() -> None:
    """Who reads may have died: what was in its inbox is read by who takes its place."""
    reading, writing = make_inbox()
    outbound = Outbound(writing)
    outbound.send(Letter({"n": 1}), lambda well: None, 1.0)
    first = Reader(socket.socket(fileno=os.dup(reading.fileno())))
    first.inbox.start()
    assert (await first.next()).facts == {"n": 1}
    first.inbox.close()
    outbound.send(Letter({"n": 2}), lambda well: None, 1.0)
    second = Reader(socket.socket(fileno=os.dup(reading.fileno())))
    second.inbox.start()
    assert (await second.next()).facts == {"n": 2}
    second.inbox.close()
    outbound.close()
    reading.close()


async def test_a_descriptor_that_cannot_be_sent_is_said(
    pair: tuple[Reader, Outbound], caplog: pytest.LogCaptureFixture
) -> None:
    """The client that it belongs to is not lost in silence."""
    _, outbound = pair
    here, there = socket.socketpair()
    number = there.fileno()
    there.close()
    here.close()
    sent: list[bool] = []
    outbound.send(Letter({"kind": "client"}, b"", [number]), sent.append, 1.0)
    assert sent == [False]
    assert "letter not sent" in caplog.text
