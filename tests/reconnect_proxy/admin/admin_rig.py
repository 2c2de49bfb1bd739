"""A real proxy with its admin listener, and a client for that which knows nothing but HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import h11
from prometheus_client import CollectorRegistry
from websockets.asyncio.server import ServerConnection, serve

from reconnect_proxy.admin.routes import Admin
from reconnect_proxy.admin.server import AdminServer
from reconnect_proxy.admin.view import ProxyView
from reconnect_proxy.config.model import Config
from reconnect_proxy.config.values import Address
from reconnect_proxy.events import Event
from reconnect_proxy.observe.metrics import Metrics
from reconnect_proxy.proxy import Proxy

ANY_PORT = Address("127.0.0.1", 0)
ID = "abcdef-0123456789-0123456789"
TOKEN = "a-token.of~operators"


async def echo(connection: ServerConnection) -> None:
    """Send everything back."""
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def proxy_in_front_of(
    behave: Callable[[ServerConnection], Awaitable[None]], observe: Callable[[Event], None] = lambda event: None
) -> AsyncIterator[Proxy]:
    """A running proxy in front of a server that behaves so."""
    async with serve(behave, "127.0.0.1", 0) as upstream:
        port = next(iter(upstream.sockets)).getsockname()[1]
        config = Config(upstream=f"ws://127.0.0.1:{port}", listen="127.0.0.1:0")
        async with Proxy(config, observe) as running:
            yield running


@asynccontextmanager
async def admin_of(proxy: Proxy, seen: list[Event], token: str | None = None) -> AsyncIterator[Admin]:
    """The admin listener of `proxy`, with metrics that watch it."""
    metrics = Metrics(CollectorRegistry())
    metrics.watch(proxy.config.mode, lambda: proxy.contexts)
    async with Admin(ANY_PORT, ProxyView(proxy), metrics, seen.append, token) as running:
        yield running


async def exchange(admin: Admin | AdminServer, request: bytes) -> bytes:
    """Send raw bytes, and return all that comes back until the connection ends."""
    reader, writer = await asyncio.open_connection(*admin.address)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def ask(admin: Admin, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return the status, headers and body of the answer to one request; the answer must be proper HTTP."""
    http = h11.Connection(h11.CLIENT)
    fields = {"Host": str(admin.address), "Connection": "close"}
    fields |= {name.replace("_", "-").title(): value for name, value in headers.items()}
    request = http.send(
        h11.Request(method=method, target=path, headers=[(name, value.encode()) for name, value in fields.items()])
    )
    end = http.send(h11.EndOfMessage())
    assert request is not None
    assert end is not None
    http.receive_data(await exchange(admin, request + end))
    response = http.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return response.status_code, {name.decode(): value.decode() for name, value in response.headers}, body


async def ask_json(admin: Admin, path: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
    """Return the status of an answer and its body as JSON."""
    status, answered, body = await ask(admin, path, method, **headers)
    assert answered["content-type"] == "application/json"
    return status, json.loads(body)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`; the test's own time limit bounds the wait."""
    while not condition():  # noqa: ASYNC110  # a proxy announces nothing of this; it is looked at
        await asyncio.sleep(0.005)
