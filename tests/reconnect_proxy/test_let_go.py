"""What a session was made of is gone when it ends: nothing waits for the collector of circles, which looks seldom."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from reconnect_proxy import Hooks, Proxy
from reconnect_proxy import connect as aware_connect
from reconnect_proxy.core.clients import Clients
from reconnect_proxy.core.context import Context
from reconnect_proxy.core.stream import Stream
from reconnect_proxy.core.upstream import Upstream
from reconnect_proxy.net.incoming import IncomingWebSocket
from reconnect_proxy.net.outgoing import OutgoingWebSocket

PARTS = (Context, Stream, Clients, Upstream, IncomingWebSocket, OutgoingWebSocket)


class Passing(Hooks):
    """A filter that lets everything pass."""

    def on_message(self, session: Any, message: Any) -> Any:
        """Let it pass."""
        return message


def _parts() -> list[str]:
    # Not isinstance: it asks proxies of what is gone for their class.
    return [type(found).__name__ for found in gc.get_objects() if type(found) in PARTS]


@pytest.fixture
def _uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """An ordinary server that echoes, and drops the first connection that says so."""
    dropped: list[str] = []

    async def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)
                if message == "drop" and not dropped:
                    dropped.append(message)
                    connection.transport.abort()

    async with serve(echo, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def _come_and_go(url: str) -> None:
    """Have one session of each kind: closed, aware, vanished, and with an upstream that was dialled again."""
    async with connect(url, proxy=None) as client:
        await client.send("one")
        await client.recv()
    async with aware_connect(url) as client:
        await client.send("two")
        await client.recv()
    vanishing = await connect(url, proxy=None)
    await vanishing.send("three")
    await vanishing.recv()
    vanishing.transport.abort()
    async with connect(url, proxy=None) as client:
        for word in ("drop", "four"):
            await client.send(word)
            while await client.recv() != word:
                pass


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_rate": 1000, "idle_timeout": "60s", "max_held": "100MiB"},
        {"hooks": Passing()},
        {"mode": "sender"},
        {"compression": "off"},
    ],
    ids=lambda options: ",".join(options) or "defaults",
)
@pytest.mark.usefixtures("_uncollected")
async def test_a_session_that_is_over_is_gone(server: str, options: dict[str, Any]) -> None:
    """Without a collection; so memory does not grow with the sessions between two of them."""
    async with Proxy(upstream=server, listen="127.0.0.1:0", grace="50ms", grace_on="abnormal", **options) as proxy:
        await _come_and_go(proxy.url)
        deadline = asyncio.get_running_loop().time() + 30
        # What is gone says nothing.
        while _parts() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert _parts() == []
