"""The judges judged: the relay and the aware peers on a direct connection, without any proxy."""

import asyncio

import pytest

from .aware import AwareClient, AwareServer
from .frames import Closed, Opcode
from .nemesis import harass
from .ordinary import Talker, conversation, echo, ordinary_client, ordinary_server
from .rawserver import RawServer
from .rawsocket import dial
from .relay import Cut, Relay, Way
from .waiting import numbered


async def test_raw_client_and_ordinary_server_understand_each_other() -> None:
    """What the hand-written client sends, of any length, comes back from a server of another make."""
    async with ordinary_server(echo) as port:
        client = await dial(f"ws://127.0.0.1:{port}/")
        for size in (0, 1, 125, 126, 65535, 65536, 1 << 20):
            await client.send("x" * size, b"y" * size)
            assert await client.take(2) == ["x" * size, b"y" * size]
        await client.close(4001, "done")
        assert client.end is not None
        assert client.end.code == 4001


async def test_raw_server_and_ordinary_client_understand_each_other(upstream: RawServer) -> None:
    """The hand-written server serves a client of another make, fragments and close code included."""
    async with ordinary_client(upstream.url) as client:
        server = await upstream.accept()
        await client.send("hello")
        assert await server.recv() == "hello"
        await server.send_frame(Opcode.TEXT, b"a", fin=False)
        await server.fence()
        await server.send_frame(Opcode.CONTINUATION, b"b")
        assert await client.recv() == "ab"
        await server.close(4002, "enough")
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (4002, "enough")


@pytest.mark.parametrize("how", list(Cut))
async def test_relay_cuts_after_exactly_so_many_bytes(upstream: RawServer, how: Cut) -> None:
    """A cut in mid-frame lets the first frame through whole and ends in the second."""
    async with Relay(upstream.port) as relay:
        client = await dial(f"{relay.url}/")
        server = await upstream.accept()
        # A masked frame of 10 bytes takes 16.
        relay.cut_after(Way.OUT, 16 + 7, how)
        await client.send(b"0123456789", b"0123456789")
        assert await server.recv() == b"0123456789"
        with pytest.raises(Closed, match="1006"):
            await server.recv()
        assert (await client.ended()).code == 1006


async def test_relay_refuses_and_heals(upstream: RawServer) -> None:
    """A relay that is down refuses on the same port that serves again later."""
    async with Relay(upstream.port) as relay:
        await relay.refuse()
        with pytest.raises(ConnectionRefusedError):
            await dial(f"{relay.url}/")
        await relay.heal()
        await dial(f"{relay.url}/")
        await upstream.accept()


@pytest.mark.parametrize("seed", [1, 2])
async def test_aware_peers_lose_nothing_over_a_bad_link(seed: int) -> None:
    """The two aware ends, face to face over a relay that cuts at random, receive everything exactly once."""
    down, up = numbered("u2c", 2000, pad=50), numbered("c2u", 2000, pad=50)
    async with AwareServer() as server, Relay(server.port) as relay:
        client = AwareClient(f"{relay.url}/", chosen="an-id-of-our-choice")
        async with client:
            trouble = asyncio.create_task(harass(relay, seed, seconds=3))
            for place in range(0, 2000, 20):
                client.push(*up[place : place + 20])
                server.session.push(*down[place : place + 20])
                await asyncio.sleep(0.02)
            assert await trouble > 3
            await server.session.received.reaches(2000)
            await client.received.reaches(2000)
            assert client.resumed > 0
        assert server.session.received.items == up
        assert client.received.items == down
        assert not client.complaints and not server.session.complaints


async def test_aware_client_leaves_a_silent_link() -> None:
    """A link that carries nothing and stays open is replaced."""
    async with AwareServer() as server, Relay(server.port) as relay:
        client = AwareClient(f"{relay.url}/", chosen="an-id-of-our-choice", silence=0.3)
        async with client:
            relay.silence()
            client.push("still here")
            assert await server.session.received.reaches(1) == ["still here"]
            assert server.session.resumed == 1


async def test_talkers_converse() -> None:
    """Two ordinary programs say all they have to say."""
    server, client = Talker(numbered("u2c", 100)), Talker(numbered("c2u", 100))
    async with ordinary_server(server.converse) as port, conversation(f"ws://127.0.0.1:{port}", client):
        await server.heard.reaches(100)
        await client.heard.reaches(100)
    assert (server.heard.items, client.heard.items) == (client.to_say, server.to_say)
