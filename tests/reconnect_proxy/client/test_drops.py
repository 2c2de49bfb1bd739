"""The aware client through drops of its link: each message arrives once, and a link that is dead is noticed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from websockets.exceptions import (
    ConnectionClosed,
)

from reconnect_proxy.client.connect import connect

from ..cuttable_relay import Way, cut_at_random
from .aware_server import PATIENCE, Data
from .client_rig import Link, echo, eventually, numbered, take


@pytest.mark.parametrize("seed", range(6))
async def test_every_message_arrives_once_through_random_cuts(link: Link, seed: int) -> None:
    """Both directions are complete, in order and without a repetition, however the link is cut, in mid-frame too."""
    server, relay, url = link
    dice = random.Random(seed)
    up, down = numbered(1, 400), numbered(1001, 1400)

    async def speak(say: Callable[[Data], Awaitable[None]], messages: list[Data]) -> None:
        for message in messages:
            await say(message)
            if dice.random() < 0.1:
                await asyncio.sleep(dice.uniform(0, 0.01))

    async def push(message: Data) -> None:
        server.session.push(message)

    async with asyncio.timeout(PATIENCE), connect(url, close_timeout=PATIENCE) as ws:
        cuts = cut_at_random(relay, dice, pause=(0, 0.05), within=20_000, outages=True)
        async with cuts, asyncio.TaskGroup() as group:
            group.create_task(speak(ws.send, up))
            group.create_task(speak(push, down))
            received = await take(ws, len(down))
            await server.session.until(lambda session: len(session.received) >= len(up))
        assert ws.resumes > 0
    assert received == down
    assert server.session.received == up


@pytest.mark.parametrize("way", Way)
async def test_message_cut_in_mid_frame_arrives_whole_and_once(link: Link, way: Way) -> None:
    """A link that dies within a frame leaves no part of it behind: the whole message comes over the next link."""
    server, relay, url = link
    server.on_message = echo
    big = bytes(range(256)) * 400
    async with connect(url) as ws:
        await ws.send("before")
        assert await ws.recv(PATIENCE) == "before"
        relay.cut_after(way, 50_000)
        await ws.send(big)
        await ws.send("behind")
        assert await take(ws, 2) == [big, "behind"]
        assert ws.resumes == 1
    assert server.session.received == ["before", big, "behind"]


async def test_fragments_of_a_message_cut_short_are_not_counted(link: Link) -> None:
    """Of a fragmented message that never ended nothing is delivered, and the count stated next is without it."""
    server, relay, url = link
    async with connect(url) as ws:
        await server.session.until(lambda session: session.link)
        assert server.session.link is not None
        server.session.push("first")
        await server.session.until(lambda session: session.confirmed == 1)

        async def never_ends() -> AsyncIterator[str]:
            yield "a wh"
            yield "ole"
            await server.session.until(lambda session: len(session.stated) > 1)

        sending = asyncio.create_task(server.session.link.send(never_ends()))
        await asyncio.sleep(0)
        server.session.push("a whole one")
        # The client has read the fragments when it answers what comes behind them.
        await (await server.session.link.ping())
        await relay.cut()
        assert await take(ws, 2) == ["first", "a whole one"]
        assert server.session.stated == [0, 1]
        with pytest.raises(ConnectionClosed):
            await sending


async def test_silent_link_is_given_up_and_replaced(link: Link) -> None:
    """A link that says nothing for ping_interval + ping_timeout is lost, and what was said into it comes again."""
    server, relay, url = link
    async with connect(url, ping_interval=0.1, ping_timeout=0.1, open_timeout=0.3) as ws:
        server.session.push("heard")
        assert await ws.recv(PATIENCE) == "heard"
        relay.hold()
        await ws.send("into the void")
        server.session.push("out of the void")
        await eventually(lambda: relay.accepted > 1)
        await relay.cut()
        relay.release()
        assert await ws.recv(PATIENCE) == "out of the void"
        await server.session.until(lambda session: session.received)
    assert server.session.received == ["into the void"]


async def test_quiet_link_that_answers_pings_is_kept(link: Link) -> None:
    """Silence of the server's application is not silence of the link: Pongs keep it."""
    server, relay, url = link
    async with connect(url, ping_interval=0.02, ping_timeout=0.5) as ws:
        with pytest.raises(TimeoutError):
            await ws.recv(0.7)
        assert relay.accepted == 1
        assert ws.resumes == 0
    assert server.session.received == []


async def test_without_ping_interval_and_timeout_silence_is_never_judged(link: Link) -> None:
    """None switches the watch off, as with websockets; what is sent is confirmed all the same."""
    server, relay, url = link
    async with connect(url, ping_interval=None, ping_timeout=None) as ws:
        await ws.send("hello")
        await server.session.until(lambda session: session.received)
        await eventually(lambda: not ws._session.outbox.bytes_held)
        assert relay.accepted == 1


async def test_link_that_the_user_does_not_read_is_kept(link: Link) -> None:
    """A full inbox is not silence: the link is not judged while nothing is read, and nothing is lost on it."""
    server, relay, url = link
    messages = [bytes([n % 256]) * 10_000 for n in range(300)]
    async with connect(url, max_queue=20_000, ping_interval=0.05, ping_timeout=0.05) as ws:
        server.session.push(*messages)
        await ws.send("sent while nothing is read")
        await server.session.until(lambda session: session.received)
        await asyncio.sleep(0.5)
        assert relay.accepted == 1
        assert await take(ws, len(messages)) == messages
    assert server.session.received == ["sent while nothing is read"]


async def test_what_was_answered_with_a_pong_is_counted_when_the_link_dies(link: Link) -> None:
    """What the client has answered with a Pong it counts, even where its user has taken nothing and the link is gone.

    The messages come in one piece with the Ping behind them. websockets parses it at one go and answers the Ping; the
    inbox is full with the first few messages, the others lie in the buffer of websockets, which has stopped reading. So
    it is the client's next message that finds the link dead, and the count stated then must be that of the Pong.
    """
    server, relay, url = link
    messages: list[Data] = [f"message {n}" for n in range(500)]
    server.ping_every = 500
    async with connect(url, max_queue=1000) as ws:
        await server.session.until(lambda session: session.link)
        relay.hold()
        server.session.push(*messages)
        # A frame has two bytes before its payload, and the Ping is ten bytes.
        await eventually(lambda: relay.held == sum(len(message) + 2 for message in messages) + 10)
        relay.release()
        await server.session.until(lambda session: session.confirmed == 500)
        await relay.cut()
        sent: list[Data] = []
        while len(server.session.stated) < 2:
            await ws.send(f"are you there {len(sent)}")
            sent.append(f"are you there {len(sent)}")
            await asyncio.sleep(0.001)
        assert server.session.stated == [0, 500]
        assert await take(ws, 500) == messages
    assert server.session.received == sent


async def test_draining_goes_past_the_limit_of_the_inbox(link: Link) -> None:
    """Where the inbox fills up again while a dead link is drained, the rest is counted all the same."""
    server, _, url = link
    messages: list[Data] = [f"message {n}" for n in range(500)]
    server.ping_every = 500
    async with connect(url, max_queue=1000) as ws:
        server.session.push(*messages)
        await eventually(lambda: ws._inbox.full)
        received = [await ws.recv()]
        # The connection is lost first, and then there is room again: so that the drain meets the limit once more.
        ws._connection.transport.abort()
        while ws._inbox.full:
            received.append(await ws.recv())
        await server.session.until(lambda session: len(session.stated) == 2)
        assert server.session.stated[1] >= server.session.confirmed
        assert received + await take(ws, 500 - len(received)) == messages


async def test_what_was_not_confirmed_is_sent_from_where_the_proxy_is(link: Link) -> None:
    """A proxy that has more than it confirmed is sent only what comes after it."""
    server, relay, url = link
    async with connect(url) as ws:
        await server.session.until(lambda session: session.link)
        for n in range(30):
            await ws.send(f"{n}")
        # All are there, and the Ping that would confirm them comes 100 ms later.
        await server.session.until(lambda session: len(session.received) == 30)
        await relay.cut()
        await ws.send("30")
        await server.session.until(lambda session: len(session.received) > 30)
    assert server.session.received == [f"{n}" for n in range(31)]
