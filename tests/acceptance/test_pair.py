"""Sender in front of Receiver: ordinary programs at both ends of a bad network get exactly once."""

import asyncio

import pytest

from .conftest import Serve
from .nemesis import flap, harass
from .ordinary import Talker, conversation, ordinary_server
from .rawserver import RawServer
from .rawsocket import dial
from .relay import Relay
from .waiting import numbered

RATE = 500


@pytest.mark.parametrize("trouble", ["flap", "random", "silence"])
async def test_the_bad_network_between_two_proxies_is_invisible(serve: Serve, trouble: str) -> None:
    """Both directions complete, in order, exactly once; neither program is ever disconnected."""
    server, client = Talker(numbered("u2c", 2000, pad=100), RATE), Talker(numbered("c2u", 2000, pad=100), RATE)
    patience = ("--ping-interval", "400ms", "--ping-timeout", "400ms")
    async with ordinary_server(server.converse) as port:
        receiver = await serve(f"ws://127.0.0.1:{port}", "--mode", "receiver", *patience)
        async with Relay(int(receiver.url.rpartition(":")[2])) as network:
            sender = await serve(network.url, "--mode", "sender", *patience)
            async with conversation(sender.url, client) as connection:
                match trouble:
                    case "flap":
                        assert max(await flap(network, times=4)) < 2.0
                    case "random":
                        assert await harass(network, seed=7, seconds=4.5) > 5
                    case _:
                        for round_number in range(3):
                            await asyncio.sleep(0.3)
                            network.silence()
                            await network.reaches(round_number + 2)
                await server.heard.reaches(2000)
                await client.heard.reaches(2000)
                assert connection.close_code is None
            assert network.accepted >= 4
    assert (server.connections, client.connections) == (1, 1)
    assert server.heard.items == client.to_say
    assert client.heard.items == server.to_say


async def test_several_clients_of_a_pair_are_kept_apart(serve: Serve) -> None:
    """Each client of the Sender has its own server connection behind the Receiver."""
    async with RawServer() as upstream:
        receiver = await serve(upstream.url, "--mode", "receiver")
        async with Relay(int(receiver.url.rpartition(":")[2])) as network:
            sender = await serve(network.url, "--mode", "sender")
            clients = [await dial(f"{sender.url}/{n}") for n in range(3)]
            sockets = [await upstream.accept() for _ in range(3)]
            network.cut()
            for n, client in enumerate(clients):
                await client.send(f"from {n}")
            for server in sockets:
                name = server.request.target.removeprefix("/")
                assert await server.recv() == f"from {name}"
                await server.send(f"to {name}")
            for n, client in enumerate(clients):
                assert await client.recv() == f"to {n}"


async def test_a_sender_ends_with_its_client(serve: Serve, upstream: RawServer) -> None:
    """In sender mode a lost client ends the session: the upstream is closed with the client's code at once."""
    proxy = await serve(upstream.url, "--mode", "sender")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.send("last words")
    await client.close(4321, "bye")
    assert await server.recv() == "last words"
    assert (await server.ended()).code == 4321


async def test_a_sender_redials_its_upstream(serve: Serve, upstream: RawServer) -> None:
    """Towards the upstream a Sender is as patient as a duplex proxy."""
    proxy = await serve(upstream.url, "--mode", "sender")
    client = await dial(f"{proxy.url}/")
    (await upstream.accept()).reset()
    await client.send("still here")
    again = await upstream.accept()
    assert await again.recv() == "still here"
    assert again.request.get("x-reconnect-id") == client.response.get("x-connection-id")
    assert again.request.get("x-reconnect") == "true"
