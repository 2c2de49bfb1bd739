"""Socket.IO over WebSocket, both sides in Node."""

from __future__ import annotations

import pytest

from .network import cut_and_come_back, cut_while_it_works, told_and_back
from .testbed import Testbed

pytestmark = pytest.mark.needs("Socket.IO")


@pytest.mark.parametrize("transports", [["websocket"], ["polling", "websocket"]], ids="-".join)
async def test_pair(testbed: Testbed, transports: list[str]) -> None:
    """Calls, acknowledgements and the server's own messages arrive once and in order; no client is disconnected."""
    port = testbed.port()
    server = await testbed.run("socketio_server.js", port=port)
    route = await testbed.pair(f"127.0.0.1:{port}", preset="stateful")
    client = await testbed.run("socketio_client.js", url=route.url("", "http"), transports=transports)
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    assert server.numbers("calls") == everything
    assert client.numbers("answers") == everything
    assert client.numbers("ticks") == list(range(1, client.sent("ticks") + 1))
    assert (server.count("opened"), client.count("lost")) == (1, 0)


async def test_one_proxy(testbed: Testbed) -> None:
    """A cut between proxy and server disconnects the client at once, and it connects again: no call is made twice."""
    port = testbed.port()
    server = await testbed.run("socketio_server.js", port=port)
    route = await testbed.single(f"127.0.0.1:{port}", preset="stateful")
    client = await testbed.run("socketio_client.js", url=route.url("", "http"), owed=[])
    await cut_and_come_back(route.link, client, "answers")
    await client.finish()
    calls = server.numbers("calls")
    assert calls == sorted(set(calls))


async def test_restart(testbed: Testbed) -> None:
    """When the server is killed the client is told, and is connected to the next one by itself."""
    port = testbed.port()
    first = await testbed.run("socketio_server.js", port=port)
    route = await testbed.pair(f"127.0.0.1:{port}", preset="stateful")
    client = await testbed.run("socketio_client.js", url=route.url("", "http"), owed=[])
    await client.further("answers")
    await first.kill()
    second = await testbed.run("socketio_server.js", port=port)
    await told_and_back(client, "answers")
    await client.finish()
    calls = first.numbers("calls") + second.numbers("calls")
    assert calls == sorted(set(calls))
