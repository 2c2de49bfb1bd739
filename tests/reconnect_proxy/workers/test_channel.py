"""Notices, questions and answers between the supervisor and a worker."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reconnect_proxy.workers.channel import Channel, ChannelClosed, receive_now


async def answer(kind: str, details: dict[str, Any]) -> dict[str, Any]:
    """Answer with what was asked; `slow` is never answered."""
    if kind == "slow":
        await asyncio.get_running_loop().create_future()
    return {"kind": kind, **details}


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Channel, Channel, list[dict[str, Any]]]]:
    """Both sides of a channel, and the notices that the second has got."""
    one, other = [await Channel.open(end) for end in socket.socketpair()]
    told: list[dict[str, Any]] = []
    runs = [asyncio.create_task(one.run(lambda frame: None, answer))]
    runs.append(asyncio.create_task(other.run(told.append, answer)))
    try:
        yield one, other, told
    finally:
        one.close()
        other.close()
        await asyncio.wait(runs)


async def test_each_question_gets_its_answer() -> None:
    """Many at a time, from both sides, and long ones."""
    async with talking() as (one, other, _):
        asked = [side.ask("echo", 10.0, n=n, text="x" * 100_000) for n in range(20) for side in (one, other)]
        answers = await asyncio.gather(*asked)
        assert [each["n"] for each in answers] == [n for n in range(20) for _ in range(2)]
        assert {len(each["text"]) for each in answers} == {100_000}


async def test_notices_arrive_in_order() -> None:
    """And a question behind them is answered when all have arrived."""
    async with talking() as (one, _, told):
        for n in range(50):
            one.tell(tell="count", n=n)
        await one.ask("echo", 10.0)
        assert [each["n"] for each in told] == list(range(50))


async def test_a_question_without_an_answer_times_out() -> None:
    """The next question is answered all the same."""
    async with talking() as (one, _, _):
        with pytest.raises(TimeoutError):
            await one.ask("slow", 0.01)
        assert (await one.ask("echo", 10.0, n=1))["n"] == 1


async def test_questions_end_with_the_channel() -> None:
    """One that waits for its answer fails, and so does a later one."""
    async with talking() as (one, other, _):
        asking = asyncio.create_task(one.ask("slow", 10.0))
        await one.ask("echo", 10.0)
        other.close()
        with pytest.raises(ChannelClosed):
            await asking
        with pytest.raises(ChannelClosed):
            await one.ask("echo", 10.0)


def test_a_frame_can_be_read_without_an_event_loop() -> None:
    """It is read as a whole, or the channel has ended."""
    one, other = socket.socketpair()
    with one, other:
        for facts in ({"text": "x" * 50_000}, {"n": 2}):
            frame = json.dumps(facts).encode()
            one.sendall(struct.pack("!I", len(frame)) + frame)
        assert len(receive_now(other)["text"]) == 50_000
        assert receive_now(other) == {"n": 2}
        one.close()
        with pytest.raises(ChannelClosed):
            receive_now(other)
