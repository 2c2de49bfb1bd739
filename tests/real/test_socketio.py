"""Socket.IO over WebSocket, both sides in Node."""

from __future__ import annotations

import pytest

from .network import cut_while_it_works
from .testbed import Testbed

pytestmark = pytest.mark.needs("Socket.IO")


async def test_pair(testbed: Testbed) -> None:
    """Calls, their acknowledgements and the server's own messages arrive once and in order; nobody is disconnected."""
    port = testbed.port()
    server = await testbed.run("socketio_server.js", port=port)
    route = await testbed.pair(f"127.0.0.1:{port}")
    client = await testbed.run("socketio_client.js", url=route.url("", "http"))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    assert server.numbers("calls") == everything
    assert client.numbers("answers") == everything
    assert client.numbers("ticks") == list(range(1, client.sent("ticks") + 1))
    assert (server.count("opened"), client.count("lost")) == (1, 0)
