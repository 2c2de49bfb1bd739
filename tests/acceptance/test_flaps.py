"""The links fail again and again while both sides talk: the guarantees of PROTOCOL section 2, counted."""

import asyncio

import pytest

from .aware import AwareClient, AwareServer
from .conftest import Serve
from .nemesis import flap, harass
from .ordinary import Talker, conversation, ordinary_server
from .relay import Cut, Relay, Way
from .waiting import Message, number_of, numbered, without_repeats

RATE = 500
RECOVERY = 2.0
"""Seconds in which a session is back after an outage: what DESIGN's first scenario asks (recovery_p99)."""


async def speak(end: AwareClient, server: AwareServer, up: list[Message], down: list[Message]) -> None:
    """Let both ends say their messages at 500 a second."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for place in range(0, max(len(up), len(down)), 10):
        end.push(*up[place : place + 10])
        server.session.push(*down[place : place + 10])
        await asyncio.sleep(max(0.0, start + (place + 10) / RATE - loop.time()))


async def exactly_once(client: AwareClient, server: AwareServer, up: list[Message], down: list[Message]) -> None:
    """Wait for all to arrive, then compare both streams whole."""
    await server.session.received.reaches(len(up))
    await client.received.reaches(len(down))
    if client.socket is not None and client.socket.end is None:
        # Behind the last message nothing may follow: a repeat would be on the link by now.
        await client.socket.fence()
    assert server.session.received.items == up
    assert client.received.items == down
    assert not client.complaints and not server.session.complaints
    assert client.lost is None


def port_of(url: str) -> int:
    """The port of a proxy's address."""
    return int(url.rpartition(":")[2])


async def test_ordinary_peers_over_a_flapping_upstream_link(serve: Serve) -> None:
    """Five resets of 400 ms at 500 messages a second: the client stays, c2u is complete, in order, at least once."""
    *up, last = numbered("c2u", 2500)
    server, client = Talker(numbered("u2c", 3000), RATE), Talker(up, RATE)
    async with ordinary_server(server.converse) as port, Relay(port) as relay:
        proxy = await serve(relay.url)
        async with conversation(proxy.url, client) as connection:
            recoveries = await flap(relay)
            await client.finishes()
            # On a busy machine everything else may have been sent, and confirmed, before the last outage.
            await connection.send(last)
            await server.heard.until(lambda items: last in items)
            assert connection.close_code is None
    assert client.connections == 1
    assert server.connections == 6
    assert max(recoveries) < RECOVERY, recoveries
    assert without_repeats(server.heard.items) == [*up, last]
    # What reached the proxy arrived once and in order; what was in flight to it may be lost.
    numbers = [number_of(message) for message in client.heard.items]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 1000


@pytest.mark.parametrize("how", list(Cut))
async def test_an_aware_server_over_a_flapping_upstream_link(serve: Serve, how: Cut) -> None:
    """With a server that counts both directions are complete, in order, exactly once."""
    down = numbered("u2c", 2000)
    client = Talker(numbered("c2u", 2000), RATE)
    async with AwareServer(lambda end: end.push(*down[:500])) as server, Relay(server.port) as relay:
        proxy = await serve(relay.url)
        async with conversation(proxy.url, client) as connection:
            for place in range(500, 2000, 300):
                await asyncio.sleep(0.3)
                server.session.push(*down[place : place + 300])
                await relay.refuse(how)
                await asyncio.sleep(0.2)
                carried = relay.accepted
                await relay.heal()
                await relay.reaches(carried + 1)
            await server.session.received.reaches(2000)
            await client.heard.reaches(2000)
            assert connection.close_code is None
        assert server.session.received.items == client.to_say
        assert client.heard.items == down
        assert not server.session.complaints
        assert server.session.resumed >= 5


async def test_an_aware_client_over_a_flapping_client_link(serve: Serve) -> None:
    """With a client that counts, and its link cut, both directions are exactly once towards an aware server."""
    up, down = numbered("c2u", 2000), numbered("u2c", 2000)
    async with AwareServer() as server:
        proxy = await serve(server.url)
        async with Relay(port_of(proxy.url)) as relay, AwareClient(f"{relay.url}/") as client:
            trouble = asyncio.create_task(flap(relay, times=5, down=0.3, up=0.5))
            await speak(client, server, up, down)
            await trouble
            await exactly_once(client, server, up, down)
            assert client.links == 6
            assert server.session.resumed == 0, "the upstream's link was not touched"


async def test_an_aware_client_of_an_ordinary_server(serve: Serve) -> None:
    """An ordinary server on a good link and an aware client on a bad one: exactly once both ways."""
    server = Talker(numbered("u2c", 1500), RATE)
    up = numbered("c2u", 1500)
    async with ordinary_server(server.converse) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}")
        async with Relay(port_of(proxy.url)) as relay, AwareClient(f"{relay.url}/") as client:
            trouble = asyncio.create_task(flap(relay, times=4, down=0.2, up=0.4))
            for place in range(0, 1500, 10):
                client.push(*up[place : place + 10])
                await asyncio.sleep(0.015)
            await trouble
            await server.heard.reaches(1500)
            await client.received.reaches(1500)
            assert client.links == 5
            assert client.received.items == server.to_say
            assert server.heard.items == up
    assert server.connections == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_both_links_cut_at_random(serve: Serve, seed: int) -> None:
    """Both links at once, at random moments, in mid-frame too: exactly once in both directions."""
    up, down = numbered("c2u", 2500, pad=seed * 100), numbered("u2c", 2500, pad=seed * 100)
    async with AwareServer() as server, Relay(server.port) as behind:
        proxy = await serve(behind.url)
        async with Relay(port_of(proxy.url)) as before, AwareClient(f"{before.url}/") as client:
            troubles = asyncio.gather(harass(before, seed, 5), harass(behind, seed + 100, 5))
            await speak(client, server, up, down)
            assert min(await troubles) > 3
            await exactly_once(client, server, up, down)
            assert client.resumed > 2 and server.session.resumed > 2


@pytest.mark.parametrize("where", ["client", "upstream"])
@pytest.mark.parametrize("way", list(Way))
async def test_cuts_in_the_middle_of_a_frame(serve: Serve, where: str, way: Way) -> None:
    """A link that ends inside a frame, in its head as in its body, costs nothing and repeats nothing."""
    up, down = numbered("c2u", 600, pad=300), numbered("u2c", 600, pad=300)
    async with AwareServer() as server, Relay(server.port) as behind:
        proxy = await serve(behind.url)
        async with Relay(port_of(proxy.url)) as before, AwareClient(f"{before.url}/") as client:
            relay = before if where == "client" else behind
            for round_number, count in enumerate((1, 2, 3, 5, 150, 311, 1000, 5555)):
                carried = relay.accepted
                relay.cut_after(way, count, list(Cut)[round_number % 2])
                place = round_number * 75
                client.push(*up[place : place + 75])
                server.session.push(*down[place : place + 75])
                await relay.reaches(carried + 1)
            await exactly_once(client, server, up, down)


async def test_a_large_message_is_cut_in_two(serve: Serve) -> None:
    """A message of megabytes whose link dies half way is sent whole on the next."""
    big: list[Message] = ["x" * 3_000_000, b"y" * 3_000_000]
    async with AwareServer() as server, Relay(server.port) as behind:
        proxy = await serve(behind.url)
        async with Relay(port_of(proxy.url)) as before, AwareClient(f"{before.url}/") as client:
            behind.cut_after(Way.OUT, 2_000_000)
            before.cut_after(Way.BACK, 2_000_000)
            client.push(*big)
            server.session.push(*big)
            await exactly_once(client, server, big, big)
            assert client.resumed >= 1 and server.session.resumed >= 1


@pytest.mark.parametrize("where", ["client", "upstream"])
async def test_a_link_that_goes_silent(serve: Serve, where: str) -> None:
    """A link that is open and carries nothing is found out and replaced, on either side, at no loss."""
    up, down = numbered("c2u", 900), numbered("u2c", 900)
    async with AwareServer() as server, Relay(server.port) as behind:
        proxy = await serve(behind.url, "--ping-interval", "300ms", "--ping-timeout", "300ms")
        async with (
            Relay(port_of(proxy.url)) as before,
            AwareClient(f"{before.url}/", silence=0.5) as client,
        ):
            relay = before if where == "client" else behind
            for round_number in range(3):
                carried = relay.accepted
                place = round_number * 300
                client.push(*up[place : place + 150])
                server.session.push(*down[place : place + 150])
                await server.session.received.reaches(place + 75)
                relay.silence()
                client.push(*up[place + 150 : place + 300])
                server.session.push(*down[place + 150 : place + 300])
                await relay.reaches(carried + 1)
            await exactly_once(client, server, up, down)


async def test_the_pong_is_lost_and_the_message_is_not(serve: Serve) -> None:
    """Cut between a message and its Pong: the count in the next handshake settles what the Pong could not."""
    up = numbered("c2u", 40)
    async with AwareServer() as server, Relay(server.port) as behind:
        proxy = await serve(behind.url)
        async with AwareClient(f"{proxy.url}/") as client:
            for place in range(0, 40, 10):
                assert server.session.socket is not None
                # The server hears, and its answers go nowhere.
                carried = behind.accepted
                behind.cut_after(Way.OUT, 1_000_000)
                server.session.socket.answer_pings = False
                client.push(*up[place : place + 10])
                await server.session.received.reaches(place + 10)
                behind.cut()
                await behind.reaches(carried + 1)
            await exactly_once(client, server, up, [])
