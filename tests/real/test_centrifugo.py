"""Centrifugo with centrifuge-js."""

from __future__ import annotations

import json

import pytest

from .install import go_binary
from .network import cut_and_come_back, cut_while_it_works, told_and_back
from .testbed import Server, Testbed

PATH = "/connection/websocket"

pytestmark = pytest.mark.needs("Centrifugo")


async def start_centrifugo(testbed: Testbed) -> Server:
    """Start a server whose clients need no token, and may subscribe and publish."""
    port = testbed.port()
    channel = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
    config = {
        "http_server": {"address": "127.0.0.1", "port": str(port)},
        "client": {"insecure": True, "allowed_origins": ["*"]},
        "channel": {"without_namespace": channel},
    }
    file = testbed.folder / "centrifugo.json"
    file.write_text(json.dumps(config))
    return await testbed.serve("centrifugo", [str(go_binary("centrifugo")), "--config", str(file)], port)


async def test_pair(testbed: Testbed) -> None:
    """What is published and what is subscribed to arrives once and in order; the client is not disconnected."""
    server = await start_centrifugo(testbed)
    route = await testbed.pair(server.netloc, preset="stateful")
    client = await testbed.run("centrifugo_client.js", url=route.url(PATH), direct=server.url(PATH))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    for stream in ("calls", "answers", "ticks"):
        assert client.numbers(stream) == everything, stream
    assert (client.count("lost"), client.count("error")) == (0, 0)


async def test_one_proxy(testbed: Testbed) -> None:
    """A cut between proxy and server disconnects the client at once; it connects and subscribes again."""
    server = await start_centrifugo(testbed)
    route = await testbed.single(server.netloc, preset="stateful")
    client = await testbed.run("centrifugo_client.js", url=route.url(PATH), direct=server.url(PATH), owed=[])
    await cut_and_come_back(route.link, client, "answers")
    await client.finish()
    calls = client.numbers("calls")
    assert calls == sorted(set(calls))


async def test_restart(testbed: Testbed) -> None:
    """When the server is killed the client is told; it connects to the next one and subscribes again."""
    server = await start_centrifugo(testbed)
    route = await testbed.pair(server.netloc, preset="stateful")
    client = await testbed.run("centrifugo_client.js", url=route.url(PATH), direct=server.url(PATH), owed=[])
    await client.further("answers")
    await server.restart()
    await told_and_back(client, "answers")
    await client.finish()
    calls = client.numbers("calls")
    assert calls == sorted(set(calls))
