"""A proxy between a raw upstream and raw clients, for tests of what passes in heads and bodies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from reconnect_proxy.events import Event
from reconnect_proxy.net.handshake import accept_key
from reconnect_proxy.proxy import Proxy

from .raw_http import Answer, Conversation, RawUpstream, ask

HELLO = b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX-Up: stream\r\n\r\nhello"


async def hello(request: Conversation) -> None:
    """Answer any request without a body."""
    await request.send(HELLO)


class Rig:
    """An upstream, a proxy in front of it, and what the proxy has told of its life."""

    def __init__(self, upstream: RawUpstream, proxy: Proxy, events: list[Event]) -> None:
        self.upstream = upstream
        self.proxy = proxy
        self.events = events
        self.clients: list[Conversation] = []

    async def ask(self, request: bytes) -> Conversation:
        """Send bytes to the proxy on a connection of their own."""
        client = await ask(self.proxy.url, request)
        self.clients.append(client)
        return client

    async def answered(self, request: bytes) -> tuple[Conversation, bytes]:
        """Send a request, and read its answer."""
        client = await (await self.ask(request)).head()
        return client, await client.body()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition on the proxy's own state, without an event; bounded by the test's timeout."""
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def relayed(answer: Answer, base: str = "", **options: Any) -> AsyncIterator[Rig]:
    """Run a proxy in front of an upstream that does `answer`; at the end nothing may be left of any exchange."""
    events: list[Event] = []
    async with RawUpstream(answer) as upstream:
        options = {"upstream": upstream.url + base, "listen": "127.0.0.1:0", **options}
        async with Proxy(observe=events.append, **options) as proxy:
            rig = Rig(upstream, proxy, events)
            yield rig
            for client in rig.clients:
                await client.closed()
            await rig.until(lambda: not proxy.http.busy and not proxy.http.connections)


def error_of(body: bytes) -> str:
    """Return the short name in a refusal's body."""
    return str(json.loads(body)["error"])


#: The headers of a handshake, for `raw_http.get`.
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def accept(request: Conversation, *lines: str) -> None:
    """Answer a handshake with 101 and these headers, and wait until the peer ends the connection."""
    key = request.get("sec-websocket-key")
    assert key is not None
    answer = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    answer += [f"Sec-WebSocket-Accept: {accept_key(key)}", *lines, "", ""]
    await request.send("\r\n".join(answer).encode("latin-1"))
    await request.left()
