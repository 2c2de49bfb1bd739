"""Plain client libraries of three languages, and a FastAPI application that keeps nothing of a connection."""

from __future__ import annotations

import pytest

from .network import Fault, cut, cut_while_it_works, told
from .program import Program
from .testbed import Testbed

CLIENTS = [
    pytest.param("websocket_client.py", marks=pytest.mark.needs("websocket-client")),
    pytest.param("aiohttp_client.py", marks=pytest.mark.needs("aiohttp")),
    pytest.param("websockets_client.py", marks=pytest.mark.needs("websockets")),
    pytest.param("ws_client.js", marks=pytest.mark.needs("ws")),
    pytest.param("undici_client.js", marks=pytest.mark.needs("undici")),
    pytest.param("gorilla", marks=pytest.mark.needs("gorilla/websocket")),
    pytest.param("coder", marks=pytest.mark.needs("coder/websocket")),
]

pytestmark = pytest.mark.needs("FastAPI")


async def serve(testbed: Testbed, port: int) -> Program:
    """Start the application, and wait until it listens."""
    server = await testbed.run("fastapi_server.py", port=port)
    await testbed.accepts(port, server)
    return server


@pytest.mark.parametrize("script", CLIENTS)
async def test_pair(testbed: Testbed, script: str) -> None:
    """Both directions arrive whole, once and in order, and neither program is disconnected."""
    server = await serve(testbed, port := testbed.port())
    route = await testbed.pair(f"127.0.0.1:{port}")
    client = await testbed.run(script, url=route.url("/ticks"))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    assert server.numbers("calls") == everything
    assert client.numbers("answers") == everything
    assert client.numbers("ticks") == list(range(1, client.sent("ticks") + 1))
    assert (server.count("opened"), client.count("lost")) == (1, 0)


@pytest.mark.needs("ws")
async def test_pair_over_a_link_that_falls_silent(testbed: Testbed) -> None:
    """Nothing tells the proxies that the link is lost; they find out by their Pings."""
    pings = {"ping_interval": "1s", "ping_timeout": "1s"}
    server = await serve(testbed, port := testbed.port())
    route = await testbed.pair(f"127.0.0.1:{port}", sender=pings, **pings)
    client = await testbed.run("ws_client.js", url=route.url("/ticks"))
    await client.further("answers")
    route.link.silence()
    await route.link.reaches(2)
    await client.further("answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    assert server.numbers("calls") == everything
    assert client.numbers("answers") == everything
    assert client.numbers("ticks") == list(range(1, client.sent("ticks") + 1))
    assert (server.count("opened"), client.count("lost")) == (1, 0)


@pytest.mark.needs("ws")
async def test_pair_ends_with_its_client(testbed: Testbed) -> None:
    """When the client is killed the server is told at once: no other client can resume the session of a sender."""
    server = await serve(testbed, port := testbed.port())
    route = await testbed.pair(f"127.0.0.1:{port}", preset="stateless")
    client = await testbed.run("ws_client.js", url=route.url("/calls"))
    await client.further("answers")
    await client.kill()
    await server.until(lambda lines: {"closed": True} in lines, "the connection ends", within=10)


@pytest.mark.parametrize("script", CLIENTS)
async def test_one_proxy(testbed: Testbed, script: str) -> None:
    """The client is not disconnected; each call gets there at least once, in order."""
    server = await serve(testbed, port := testbed.port())
    route = await testbed.single(f"127.0.0.1:{port}", preset="stateless")
    client = await testbed.run(script, url=route.url("/calls"))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    assert client.count("lost") == 0
    assert_whole(server.numbers("calls"), client.called())
    assert server.count("opened") == 7


@pytest.mark.parametrize("script", CLIENTS)
@pytest.mark.parametrize("topology", ["pair", "single"])
async def test_restart(testbed: Testbed, script: str, topology: str) -> None:
    """The client is not disconnected when the server is killed, and its calls wait for the next one."""
    first = await serve(testbed, port := testbed.port())
    make = testbed.pair if topology == "pair" else testbed.single
    route = await make(f"127.0.0.1:{port}", preset="stateless")
    client = await testbed.run(script, url=route.url("/calls"))
    await client.further("answers")
    await first.kill()
    second = await serve(testbed, port)
    await client.further("answers")
    await client.finish()
    assert client.count("lost") == 0
    assert_whole(first.numbers("calls") + second.numbers("calls"), client.called())


@pytest.mark.needs("ws")
@pytest.mark.parametrize("fault", Fault)
async def test_a_client_without_a_proxy_is_told_of_each_cut(testbed: Testbed, fault: Fault) -> None:
    """The control: what the other tests cut is what the client depends on."""
    await serve(testbed, port := testbed.port())
    route = await testbed.direct(f"127.0.0.1:{port}")
    client = await testbed.run("ws_client.js", url=route.url("/calls"))
    await client.further("answers")
    await cut(route.link, fault)
    await told(client)


def assert_whole(numbers: list[int], count: int) -> None:
    """Check that the messages 1 to `count` are all there, in order but for repeats of what came before."""
    assert list(dict.fromkeys(numbers)) == list(range(1, count + 1))
