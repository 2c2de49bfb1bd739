"""NATS over WebSocket, with clients in Python and in Node."""

from __future__ import annotations

import pytest

from .install import go_binary
from .network import cut_and_come_back, cut_while_it_works, told_and_back
from .testbed import Server, Testbed

#: The first messages of each client: CONNECT, PING, and its subscriptions, each followed by a PING or with one. The
#: server answers them in one message or more; of these only the first, INFO, is for the proxy. The client ignores the
#: others.
PREAMBLES = {"nats_client.py": "replay:6/1", "nats_client.js": "replay:3/1"}

pytestmark = [pytest.mark.needs("NATS"), pytest.mark.parametrize("script", ["nats_client.py", "nats_client.js"])]


async def start_nats(testbed: Testbed) -> Server:
    """Start a server that speaks WebSocket."""
    port = testbed.port()
    file = testbed.folder / "nats.conf"
    file.write_text(f'listen: "127.0.0.1:{testbed.port()}"\nwebsocket {{ listen: "127.0.0.1:{port}", no_tls: true }}\n')
    return await testbed.serve("nats-server", [str(go_binary("nats-server")), "--config", str(file)], port)


async def test_pair(testbed: Testbed, script: str) -> None:
    """What is published and what is subscribed to arrives once and in order; the client is not disconnected."""
    server = await start_nats(testbed)
    route = await testbed.pair(server.netloc, preset="stateful")
    client = await testbed.run(script, url=route.url(""), direct=server.url(""))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    assert client.numbers("calls") == everything
    assert client.numbers("answers") == everything
    assert client.numbers("ticks") == everything
    assert (client.count("lost"), client.count("error")) == (0, 0)


async def test_one_proxy(testbed: Testbed, script: str) -> None:
    """A cut between proxy and server disconnects the client at once, and its library connects again."""
    server = await start_nats(testbed)
    route = await testbed.single(server.netloc, preset="stateful")
    client = await testbed.run(script, url=route.url(""), direct=server.url(""), owed=[])
    await cut_and_come_back(route.link, client, "ticks")
    await client.further("answers")
    await client.finish()
    calls = client.numbers("calls")
    assert calls == sorted(set(calls))


async def test_one_proxy_that_logs_in_again(testbed: Testbed, script: str) -> None:
    """The client is not disconnected, since the proxy logs in and subscribes again; each call gets there, in order."""
    server = await start_nats(testbed)
    route = await testbed.single(server.netloc, gate=PREAMBLES[script])
    client = await testbed.run(script, url=route.url(""), direct=server.url(""), owed=["calls"])
    await cut_while_it_works(route.link, client, "ticks")
    await client.further("answers")
    await client.finish()
    assert list(dict.fromkeys(client.numbers("calls"))) == list(range(1, client.called() + 1))
    assert (client.count("lost"), client.count("error")) == (0, 0)


async def test_restart(testbed: Testbed, script: str) -> None:
    """When the server is killed the client is told, and its library is connected to the next one."""
    server = await start_nats(testbed)
    route = await testbed.pair(server.netloc, preset="stateful")
    client = await testbed.run(script, url=route.url(""), direct=server.url(""), owed=[])
    await client.further("answers")
    await server.restart()
    await told_and_back(client, "answers")
    await client.finish()
    calls = client.numbers("calls")
    assert calls == sorted(set(calls))
