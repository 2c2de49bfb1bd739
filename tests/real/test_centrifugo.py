"""Centrifugo with centrifuge-js."""

from __future__ import annotations

import json

import pytest

from .install import go_binary
from .network import cut_while_it_works
from .testbed import Server, Testbed

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
    route = await testbed.pair(server.netloc)
    path = "/connection/websocket"
    client = await testbed.run("centrifugo_client.js", url=route.url(path), direct=server.url(path))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    for stream in ("calls", "answers", "ticks"):
        assert client.numbers(stream) == everything, stream
    assert (client.count("lost"), client.count("error")) == (0, 0)
