"""What the supervisor and a worker tell and ask each other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reconnect_proxy.workers.channel import Channel, ChannelClosed, receive_now, send_now


async def answer(kind: str, details: dict[str, Any]) -> dict[str, Any]:
    """Answer with what was asked; `slow` is never answered."""
    if kind == "slow":
        await asyncio.get_running_loop().create_future()
    return {"kind": kind, **details}


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Channel, Channel, list[dict[str, Any]]]]:
    """Both sides of a channel, and what the second was told."""
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


async def test_questions_are_answered_to_whom_asked() -> None:
    """However many are asked at a time, from both sides, and however long they are."""
    async with talking() as (one, other, _):
        asked = [side.ask("echo", 10.0, n=n, text="x" * 100_000) for n in range(20) for side in (one, other)]
        answers = await asyncio.gather(*asked)
        assert [each["n"] for each in answers] == [n for n in range(20) for _ in range(2)]
        assert {len(each["text"]) for each in answers} == {100_000}


async def test_what_is_told_is_heard_in_order() -> None:
    """And a question behind it is answered when all of it was heard."""
    async with talking() as (one, _, told):
        for n in range(50):
            one.tell(tell="count", n=n)
        await one.ask("echo", 10.0)
        assert [each["n"] for each in told] == list(range(50))


async def test_who_does_not_answer_is_not_waited_for() -> None:
    """The next question is answered all the same."""
    async with talking() as (one, _, _):
        with pytest.raises(TimeoutError):
            await one.ask("slow", 0.01)
        assert (await one.ask("echo", 10.0, n=1))["n"] == 1


async def test_questions_end_with_the_channel() -> None:
    """Whoever asks one that is gone is told, then and later."""
    async with talking() as (one, other, _):
        asking = asyncio.create_task(one.ask("slow", 10.0))
        await one.ask("echo", 10.0)
        other.close()
        with pytest.raises(ChannelClosed):
            await asking
        with pytest.raises(ChannelClosed):
            await one.ask("echo", 10.0)


def test_a_frame_before_there_is_a_loop() -> None:
    """It comes whole, or the channel has ended."""
    one, other = socket.socketpair()
    with one, other:
        send_now(one, {"text": "x" * 50_000})
        send_now(one, {"n": 2})
        assert len(receive_now(other)["text"]) == 50_000
        assert receive_now(other) == {"n": 2}
        one.close()
        with pytest.raises(ChannelClosed):
            receive_now(other)
