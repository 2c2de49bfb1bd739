"""The aware client's own hand: backpressure, closing and cancelling, each in the middle of something."""

from __future__ import annotations

import asyncio
import random

import pytest
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ProtocolError,
)

from reconnect_proxy.client.connect import Connection, connect

from .aware_server import PATIENCE, Data
from .client_rig import Link, eventually, numbered, take

# Backpressure.


async def test_send_does_not_wait_for_a_link(link: Link) -> None:
    """While the link is down send() queues and returns; everything arrives once it is up."""
    server, relay, url = link
    messages = numbered(1, 300)
    async with connect(url) as ws:
        relay.down = True
        await relay.cut()
        async with asyncio.timeout(PATIENCE):
            for message in messages:
                await ws.send(message)
        assert server.session.received == []
        relay.down = False
        await server.session.until(lambda session: len(session.received) == 300)
    assert server.session.received == messages


async def test_send_waits_above_the_high_water_mark(link: Link) -> None:
    """Above max_queue bytes send() waits, until less than half of that is unconfirmed."""
    server, relay, url = link
    messages = [bytes([n]) * 1000 for n in range(100)]
    sent = 0

    async def send_all(ws: Connection) -> None:
        nonlocal sent
        for message in messages:
            await ws.send(message)
            sent += 1

    async with connect(url, max_queue=20_000) as ws:
        relay.down = True
        await relay.cut()
        sending = asyncio.create_task(send_all(ws))
        await eventually(lambda: ws._session.outbox.full)
        before = sent
        assert 15 <= before <= 20
        done, _ = await asyncio.wait([sending], timeout=0.1)
        assert not done
        assert sent <= before + 1
        relay.down = False
        await asyncio.wait_for(sending, PATIENCE)
    assert server.session.received == messages


async def test_client_that_is_not_read_holds_no_more_than_its_limit(link: Link) -> None:
    """Past max_queue the link is not read on, so that the server is held back; nothing is lost by that."""
    server, _, url = link
    messages = [bytes([n % 256]) * 50_000 for n in range(400)]
    async with connect(url, max_queue=500_000) as ws:
        server.session.push(*messages)
        await eventually(lambda: ws._inbox.full)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await server.session.until(lambda session: session.confirmed == 400)
        # One message above the limit, at the most.
        assert ws._inbox.bytes_held <= 600_000
        assert await take(ws, 400) == messages


# Closing.


async def test_close_delivers_what_is_queued_over_a_new_link(link: Link) -> None:
    """close() while the link is down waits for a new one, delivers, and only then closes, with its code."""
    server, relay, url = link
    messages = numbered(1, 200)
    ws = await connect(url, close_timeout=PATIENCE)
    relay.down = True
    await relay.cut()
    for message in messages:
        await ws.send(message)
    closing = asyncio.create_task(ws.close(4001, "done"))
    # It runs as far as it can: to where it waits for a link.
    await asyncio.sleep(0)
    with pytest.raises(ConnectionClosed):
        relay.down = False
        await ws.send("not behind a close")
    await closing
    assert server.session.received == messages
    assert server.session.end == (4001, "done")
    assert ws.unconfirmed == ()


async def test_close_is_bounded_and_tells_what_was_not_delivered(link: Link) -> None:
    """A close that cannot deliver gives up after close_timeout, and what is unconfirmed can be read."""
    _, relay, url = link
    ws = await connect(url, close_timeout=0.2)
    relay.down = True
    await relay.cut()
    await ws.send("stuck")
    async with asyncio.timeout(PATIENCE):
        await ws.close()
    assert ws.unconfirmed == ("stuck",)
    with pytest.raises(ConnectionClosedError):
        await ws.recv()


async def test_close_ends_although_nothing_was_read(link: Link) -> None:
    """A full inbox does not keep close() from hearing that all was delivered; what came can be read afterwards."""
    server, _, url = link
    messages = [bytes([n % 256]) * 10_000 for n in range(200)]
    ws = await connect(url, max_queue=20_000, close_timeout=PATIENCE)
    server.session.push(*messages)
    await eventually(lambda: ws._inbox.full)
    await ws.send("last words")
    await ws.close()
    assert server.session.received == ["last words"]
    assert server.session.end == (1000, "")
    received = [message async for message in ws]
    assert received == messages[: len(received)]
    assert len(received) >= 2


async def test_close_answered_by_a_cut_is_repeated(link: Link) -> None:
    """A link that dies within the closing handshake is replaced, so that the server learns of the close."""
    server, relay, url = link
    ws = await connect(url, close_timeout=PATIENCE)
    relay.hold()
    closing = asyncio.create_task(ws.close(4002))
    await eventually(lambda: bool(relay.held))
    await relay.cut()
    relay.release()
    await closing
    await server.session.until(lambda session: session.link is None)
    assert server.session.end == (4002, "")
    assert len(server.session.stated) == 2


async def test_second_close_waits_for_the_first(link: Link) -> None:
    """close() may be called again, at the same time and afterwards."""
    _, _, url = link
    ws = await connect(url)
    await asyncio.gather(ws.close(), ws.close(4001))
    await ws.close()
    assert ws.close_code == 1000


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (999, ""), (1000, "x" * 124)])
async def test_close_that_may_not_be_sent_is_refused(link: Link, code: int, reason: str) -> None:
    """An illegal code or a reason that is too long raises, and the session goes on."""
    _, _, url = link
    async with connect(url) as ws:
        with pytest.raises(ProtocolError):
            await ws.close(code, reason)
        await ws.send("still open")


async def test_server_that_keeps_the_socket_open_after_its_close_is_dropped(link: Link) -> None:
    """A closing handshake that the server does not end with TCP is ended by the client after close_timeout."""
    server, _, url = link
    async with connect(url, close_timeout=0.2) as ws:
        await server.session.until(lambda session: session.link)
        assert server.session.link is not None
        # The Close goes out, and nothing that would follow it, for as long as this link lives.
        server.session.link.close_timeout = None
        server.session.link.protocol.send_close(1012, "back soon")
        server.session.link.send_data()
        server.session.link.transport.pause_reading()
        server.session.push("over the next link")
        assert await ws.recv(PATIENCE) == "over the next link"


async def test_nothing_is_left_when_the_body_raises(link: Link) -> None:
    """An exception in the body passes through, the server is told 1011, and no task or connection stays."""
    server, relay, url = link
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with connect(url) as ws:
            await ws.send("before the fall")
            raise ZeroDivisionError
    await server.session.until(lambda session: session.link is None)
    assert server.session.received == ["before the fall"]
    assert server.session.end[0] == 1011
    assert ws._runner.done()
    await eventually(lambda: relay.links == 0 and asyncio.all_tasks() <= before)


@pytest.mark.parametrize("state", ["up", "down", "held"])
async def test_nothing_is_left_when_close_is_cancelled(link: Link, state: str) -> None:
    """A close() that is cancelled drops what it has, at once: no task and no connection stays."""
    server, relay, url = link
    before = asyncio.all_tasks()
    ws = await connect(url, open_timeout=0.2)
    await server.session.until(lambda session: session.link)
    match state:
        case "down":
            relay.down = True
            await relay.cut()
        case "held":
            relay.hold()
    await ws.send("undelivered")
    closing = asyncio.create_task(ws.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert ws._runner.done()
    with pytest.raises(ConnectionClosed):
        await ws.send("too late")
    relay.release()
    await eventually(lambda: relay.links == 0 and asyncio.all_tasks() <= before)


# Cancellation.


@pytest.mark.parametrize("seed", range(3))
async def test_cancelled_receives_lose_and_repeat_nothing(link: Link, seed: int) -> None:
    """recv() may be cancelled at any moment, also while the link is cut: each message comes out once."""
    server, relay, url = link
    dice = random.Random(seed)
    messages = numbered(1, 300)
    received: list[Data] = []

    async def receive(ws: Connection) -> None:
        while True:
            received.append(await ws.recv())

    async def push() -> None:
        for n, message in enumerate(messages):
            server.session.push(message)
            await asyncio.sleep(dice.uniform(0, 0.002))
            if n % 60 == 30:
                await relay.cut()

    async with asyncio.timeout(PATIENCE), connect(url) as ws, asyncio.TaskGroup() as group:
        group.create_task(push())
        while len(received) < len(messages):
            receiving = asyncio.create_task(receive(ws))
            await asyncio.sleep(dice.uniform(0, 0.004))
            receiving.cancel()
            await asyncio.wait([receiving])
    assert received == messages


@pytest.mark.parametrize("seed", range(3))
async def test_a_cancelled_send_has_sent_nothing(link: Link, seed: int) -> None:
    """send() that is cancelled while it waits has queued nothing; one that returned has queued its message."""
    server, relay, url = link
    dice = random.Random(seed)
    accepted: list[Data] = []

    async def send_all(ws: Connection, first: int) -> None:
        for n in range(first, first + 1000):
            message = f"{n}:" + "x" * dice.randrange(500)
            await ws.send(message)
            accepted.append(message)

    async with asyncio.timeout(PATIENCE), connect(url, max_queue=10_000, close_timeout=PATIENCE) as ws:
        for attempt in range(40):
            sending = asyncio.create_task(send_all(ws, attempt * 1000))
            await asyncio.sleep(dice.uniform(0, 0.01))
            sending.cancel()
            await asyncio.wait([sending])
            if attempt % 10 == 5:
                await relay.cut()
    assert server.session.received == accepted


async def test_cancelled_connect_leaves_nothing(link: Link) -> None:
    """connect() that is cancelled within the handshake closes its socket."""
    _, relay, url = link
    relay.hold()
    opening = asyncio.create_task(connect(url)._open())
    await eventually(lambda: relay.links == 1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    relay.release()
    await eventually(lambda: relay.links == 0)
