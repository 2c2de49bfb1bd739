"""NATS over WebSocket, with clients in Python and in Node."""

from __future__ import annotations

import pytest

from .install import go_binary
from .network import cut_while_it_works
from .testbed import Server, Testbed

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
    route = await testbed.pair(server.netloc)
    client = await testbed.run(script, url=route.url(""), direct=server.url(""))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    assert client.numbers("calls") == everything
    assert client.numbers("answers") == everything
    assert client.numbers("ticks") == everything
    assert (client.count("lost"), client.count("error")) == (0, 0)
