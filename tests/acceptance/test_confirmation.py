"""PROTOCOL section 4: what is pinged and when, which Pong counts, and what a Pong of the proxy is worth."""

import asyncio

import pytest

from .conftest import Serve
from .frames import Opcode, token
from .process import Serving
from .rawserver import Answer, RawServer
from .rawsocket import RawSocket, dial
from .relay import Relay
from .waiting import Message, eventually, numbered

CHOSEN = "a-client-chosen-id"


def runs_between_pings(peer: RawSocket) -> list[list[int]]:
    """Cut what a peer saw at its count pings: the sizes of the data frames of each stretch."""
    runs: list[list[int]] = [[]]
    for opcode, what in peer.journal:
        if opcode is Opcode.PING:
            runs.append([])
        elif isinstance(what, int):
            runs[-1].append(what)
    return runs


async def conversation(
    serve: Serve, upstream: RawServer, way: str, *options: str, mute: bool = False
) -> tuple[Serving, RawSocket, RawSocket]:
    """Connect a client through a proxy: returns the proxy, the end that speaks in this direction, and that which hears.

    A `mute` hearer leaves Pings to the test.
    """
    proxy = await serve(upstream.url, *options)
    upstream.answer = lambda _: Answer(answer_pings=way == "u2c" or not mute)
    client = await dial(f"{proxy.url}/", answer_pings=way == "c2u" or not mute)
    server = await upstream.accept()
    return (proxy, client, server) if way == "c2u" else (proxy, server, client)


@pytest.mark.parametrize("way", ["c2u", "u2c"])
async def test_a_burst_is_pinged_every_64_messages(serve: Serve, upstream: RawServer, way: str) -> None:
    """Each Ping carries the number of the last message before it, and no more than 64 messages lie between two."""
    _, speaker, hearer = await conversation(serve, upstream, way)
    for start in range(0, 640, 64):
        await speaker.send(*numbered(way, 64, start=start + 1))
        await hearer.until(lambda last=start + 64: last in hearer.tokens())  # type: ignore[misc]
    assert await hearer.take(640) == numbered(way, 640)
    seen, counted = 0, 0
    for opcode, what in hearer.journal:
        if opcode is not Opcode.PING:
            seen += 1
        elif isinstance(what, bytes) and len(what) == 8:
            assert int.from_bytes(what, "big") == seen
            counted += 1
    assert 10 <= counted <= 14
    assert max(len(run) for run in runs_between_pings(hearer)) <= 64


@pytest.mark.parametrize("way", ["c2u", "u2c"])
async def test_large_messages_are_pinged_every_256_kib(serve: Serve, upstream: RawServer, way: str) -> None:
    """No more than 256 KiB, or the one message that goes past it, lie between two pings."""
    _, speaker, hearer = await conversation(serve, upstream, way)
    await speaker.send(*[bytes([n]) * 65536 for n in range(16)])
    await hearer.take(16)
    await hearer.until(lambda: 16 in hearer.tokens())
    assert max(sum(run) for run in runs_between_pings(hearer)) <= 256 * 1024 + 65536


@pytest.mark.parametrize("way", ["c2u", "u2c"])
async def test_a_few_messages_are_pinged_soon(serve: Serve, upstream: RawServer, way: str) -> None:
    """After the last message of a small burst its number is asked for, and after the Pong there is silence."""
    _, speaker, hearer = await conversation(serve, upstream, way)
    await speaker.send(*numbered(way, 3))
    await hearer.until(lambda: 3 in hearer.tokens())
    await hearer.fence()
    pings = len(hearer.pings)
    await speaker.send("4")
    await hearer.until(lambda: 4 in hearer.tokens())
    assert len(hearer.pings) == pings + 1, "what is confirmed is not asked for again"


@pytest.mark.parametrize("way", ["c2u", "u2c"])
async def test_at_most_four_pings_are_in_flight(serve: Serve, upstream: RawServer, way: str) -> None:
    """A peer that does not answer yet is not pinged a fifth time; its answer lets the next ones come."""
    _, speaker, hearer = await conversation(serve, upstream, way, mute=True)
    for start in range(1, 1001, 50):
        await speaker.send(*numbered(way, 50, start=start))
    await hearer.take(1000)
    await hearer.fence()
    assert 1 <= len(hearer.tokens()) <= 4
    pinged = list(hearer.pings)
    hearer.answer_pings = True
    for payload in pinged:
        await hearer.send_frame(Opcode.PONG, payload)
    await hearer.until(lambda: 1000 in hearer.tokens())


async def redialled(upstream: RawServer, server: RawSocket) -> RawSocket:
    """Reset the upstream's connection and take the proxy's next one."""
    server.reset()
    return await upstream.accept()


async def test_a_confirmed_message_is_not_sent_again(serve: Serve, upstream: RawServer) -> None:
    """What the ordinary upstream's Pong confirmed is done with; the rest is uncertain and comes again."""
    _, client, server = await conversation(serve, upstream, "c2u", "--uncertain", "resend", mute=True)
    await client.send(*numbered("c2u", 5))
    await server.until(lambda: 5 in server.tokens())
    await server.send_frame(Opcode.PONG, token(5))
    await client.send(*numbered("c2u", 5, start=6))
    await server.take(10)
    await server.fence()
    again = await redialled(upstream, server)
    assert await again.take(5) == numbered("c2u", 5, start=6)
    await again.fence()
    assert not again.left()


async def test_a_forged_pong_confirms_nothing(serve: Serve, upstream: RawServer) -> None:
    """Payloads that are no outstanding token of the link are ignored: everything is sent again."""
    _, client, server = await conversation(serve, upstream, "c2u", "--uncertain", "resend", mute=True)
    await client.send(*numbered("c2u", 10))
    await server.until(lambda: 10 in server.tokens())
    for forged in (token(9), token(11), token(2**63), b"", b"pong", b"\x00" * 7 + b"\x0a\x00", b"\xff" * 8):
        if forged not in server.pings:
            await server.send_frame(Opcode.PONG, forged)
    await server.fence()
    again = await redialled(upstream, server)
    assert await again.take(10) == numbered("c2u", 10)
    assert client.end is None


async def test_a_pong_for_another_link_confirms_nothing(serve: Serve) -> None:
    """A token of the last generation, spoken on the new link, is stale."""
    answers = iter([Answer(answer_pings=False), Answer(tail=b"\x8a\x08" + token(5), answer_pings=False)])
    async with RawServer(lambda _: next(answers, Answer())) as upstream:
        proxy = await serve(upstream.url, "--uncertain", "resend")
        client = await dial(f"{proxy.url}/")
        server = await upstream.accept()
        await client.send(*numbered("c2u", 5))
        await server.until(lambda: 5 in server.tokens())
        await client.send(*numbered("c2u", 5, start=6))
        second = await redialled(upstream, server)
        # All of them are sent again before the Ping for message 10.
        assert await second.take(10) == numbered("c2u", 10)
        third = await redialled(upstream, second)
        assert await third.take(10) == numbered("c2u", 10)


@pytest.mark.parametrize("way", ["c2u", "u2c"])
async def test_a_mute_peer_is_served_and_fills_no_queue(serve: Serve, upstream: RawServer, way: str) -> None:
    """A peer that talks and never answers a Ping gets many times the queue limit, after one warning."""
    options = ("--max-queue", "64KiB", "--ping-interval", "300ms", "--ping-timeout", "300ms")
    proxy, speaker, hearer = await conversation(serve, upstream, way, *options, mute=True)
    count = 400
    messages: list[Message] = [bytes([n % 256]) * 4096 for n in range(count)]

    async def chatter() -> None:
        while True:
            await hearer.send("I am here")
            await asyncio.sleep(0.05)

    talk = asyncio.create_task(chatter())
    speech = asyncio.create_task(speaker.send(*messages))
    assert await hearer.take(count) == messages
    await speech
    talk.cancel()
    await asyncio.wait([talk])
    assert speaker.end is None and hearer.end is None
    await proxy.logged("mute")


@pytest.mark.parametrize("aware", [True, False])
async def test_a_peer_that_falls_silent_is_not_mute(serve: Serve, upstream: RawServer, aware: bool) -> None:
    """A client that said a word after the first Ping, and then lost its network, gets all that it has not confirmed."""
    brisk = ("--ping-interval", "300ms", "--ping-timeout", "300ms", "--unread-timeout", "300ms")
    proxy = await serve(upstream.url, *brisk)
    async with Relay(int(proxy.url.rpartition(":")[2])) as relay:
        stated = [("X-Reconnect-Received", "0")] if aware else []
        client = await dial(f"{relay.url}/", [("X-Connection-Id", CHOSEN), *stated], answer_pings=False)
        server = await upstream.accept()
        await server.send("first")
        await client.until(lambda: 1 in client.tokens())
        await client.send("a word")
        assert await server.recv() == "a word"
        relay.silence()
        await server.send(*numbered("u2c", 10))
        # The proxy itself finds that the link is dead, and says so in its log.
        await eventually(lambda: "leg lost" in proxy.log, "the silent link was given up")
        stated = [("X-Reconnect-Received", "1")] if aware else []
        again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN), *stated])
        expected = numbered("u2c", 10) if aware else ["first", *numbered("u2c", 10)]
        assert await again.take(len(expected)) == expected


async def test_a_silent_upstream_link_is_lost_and_redialled(serve: Serve, upstream: RawServer) -> None:
    """Nothing heard for the interval plus the timeout: the link is replaced, the client stays, all arrives."""
    async with Relay(upstream.port) as relay:
        proxy = await serve(relay.url, "--ping-interval", "300ms", "--ping-timeout", "300ms")
        client = await dial(f"{proxy.url}/")
        await upstream.accept()
        relay.silence()
        await client.send("into the dark")
        again = await upstream.accept(within=8)
        assert await again.recv() == "into the dark"
        assert again.request.get("x-reconnect") == "true"
        assert client.end is None


async def test_a_silent_client_link_is_lost(serve: Serve, upstream: RawServer) -> None:
    """A client link that says nothing and answers nothing is given up, and its grace begins."""
    options = ("--ping-interval", "300ms", "--ping-timeout", "300ms", "--unread-timeout", "300ms", "--grace", "200ms")
    proxy = await serve(upstream.url, *options)
    async with Relay(int(proxy.base.split(":")[1])) as relay:
        await dial(f"{relay.url}/")
        server = await upstream.accept()
        relay.silence()
        await server.ended(within=8)


async def test_an_idle_link_that_answers_is_kept(serve: Serve, upstream: RawServer) -> None:
    """Pongs alone keep a link alive, many intervals long."""
    options = ("--ping-interval", "100ms", "--ping-timeout", "1s")
    _, client, server = await conversation(serve, upstream, "c2u", *options)
    await client.until(lambda: len(client.pings) >= 8)
    await server.until(lambda: len(server.pings) >= 8)
    await client.send("still")
    assert await server.recv() == "still"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("how", ["reset", "drop"])
async def test_a_pong_of_the_proxy_is_a_promise(serve: Serve, how: str) -> None:
    """Once the proxy has answered a client's Ping it holds every message before it, though the client is gone."""
    async with RawServer() as upstream, Relay(upstream.port) as relay:
        await relay.refuse()
        proxy = await serve(relay.url, "--connect-timeout", "2s")
        client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
        await client.send(*numbered("c2u", 100))
        await client.fence()
        client.reset() if how == "reset" else client.drop()
        await relay.heal()
        server = await upstream.accept()
        assert await server.take(100) == numbered("c2u", 100)


async def test_a_pong_towards_the_upstream_is_a_promise(serve: Serve, upstream: RawServer) -> None:
    """What the proxy ponged to the upstream reaches the client, though the upstream is gone and the client away."""
    proxy = await serve(upstream.url)
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    client.reset()
    await server.send(*numbered("u2c", 100))
    await server.fence()
    server.reset()
    again = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    assert await again.take(100) == numbered("u2c", 100)


async def test_a_link_that_the_proxy_stopped_reading_is_not_judged(serve: Serve, upstream: RawServer) -> None:
    """The upstream of a client that does not read is not lost, though nothing is heard from it for long."""
    proxy = await serve(
        upstream.url,
        *("--max-queue", "64KiB", "--ping-interval", "200ms", "--ping-timeout", "200ms", "--grace", "30s"),
    )
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    # Away altogether: a client that is attached and silent would be lost by the same clock.
    client.reset()
    messages: list[Message] = [bytes([n % 256]) * 65536 for n in range(100)]
    speech = asyncio.create_task(server.send(*messages))
    # Several times the interval and the timeout, told by the pings that another session's client gets.
    clock = await dial(f"{proxy.url}/")
    await clock.until(lambda: len(clock.pings) >= 8)
    assert server.end is None
    again = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    assert await again.take(100) == messages
    await speech
    assert len(upstream.requests) == 2, "one upstream link for each of the two sessions"
