"""PROTOCOL section 4: a steady trickle is confirmed as it goes, so ordinary programs get little of it again."""

import asyncio

from websockets.asyncio.server import ServerConnection

from .conftest import Serve
from .ordinary import Talker, conversation, ordinary_server
from .relay import Relay
from .waiting import number_of, numbered, without_repeats

#: Twenty messages a second, and when the link is cut: after so many.
RATE, COUNT, CUTS = 20, 50, (15, 35)
#: In 150 ms and a round trip three or four messages are sent, and a busy machine may take its time. A proxy that asks
#: behind every 64 messages repeats all those before each cut: 50.
REPEATED = 12


def repeated(heard: Talker) -> int:
    """Return how many messages an ordinary program has got again, and check that it has got the others in order."""
    items = heard.heard.items
    assert [number_of(item) for item in without_repeats(items)] == list(range(1, COUNT + 1))
    return len(items) - COUNT


async def test_a_server_gets_little_of_a_trickle_again(serve: Serve) -> None:
    """Its link is cut twice; the client goes on talking, and notices nothing."""
    server, client = Talker(), Talker(numbered("c2u", COUNT), RATE)
    async with ordinary_server(server.converse) as port, Relay(port) as relay:
        proxy = await serve(relay.url)
        async with conversation(proxy.url, client):
            for cut in CUTS:
                await server.heard.reaches(cut)
                relay.cut()
            await server.heard.until(lambda items: bool(items) and number_of(items[-1]) == COUNT)
            assert client.connections == 1
    assert server.connections == 1 + len(CUTS)
    assert repeated(server) <= REPEATED


async def test_a_client_that_comes_back_gets_little_of_a_trickle_again(serve: Serve) -> None:
    """Its link is cut twice; it comes back under its id, and the server notices nothing."""
    server, client = Talker(numbered("u2c", COUNT), RATE), Talker()
    closed = asyncio.Event()

    async def serve_one(connection: ServerConnection) -> None:
        await server.converse(connection)
        closed.set()

    async with ordinary_server(serve_one) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}")
        async with Relay(int(proxy.url.rpartition(":")[2])) as relay:
            for cut in (*CUTS, None):
                async with conversation(f"{relay.url}/?connection-id=a-client-chosen-id", client):
                    if cut is None:
                        await client.heard.until(lambda items: number_of(items[-1]) == COUNT)
                    else:
                        await client.heard.until(lambda items, cut=cut: len(set(items)) >= cut)  # type: ignore[misc]
                        relay.cut()
        assert not closed.is_set()
    assert server.connections == 1
    assert repeated(client) <= REPEATED
