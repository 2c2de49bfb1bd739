"""The admin listener over real HTTP, beside a real proxy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import h11
import pytest
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from reconnect_proxy import admin as admin_module
from reconnect_proxy.admin import Admin
from reconnect_proxy.config import Address, Config
from reconnect_proxy.metrics import Metrics
from reconnect_proxy.proxy import Proxy

ANY_PORT = Address("127.0.0.1", 0)
ID = "abcdef-0123456789-0123456789"


async def echo(connection: ServerConnection) -> None:
    """Send everything back."""
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def proxy_in_front_of(behave: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[Proxy]:
    """A running proxy in front of a server that behaves so."""
    async with serve(behave, "127.0.0.1", 0) as upstream:
        port = next(iter(upstream.sockets)).getsockname()[1]
        async with Proxy(Config(upstream=f"ws://127.0.0.1:{port}", listen="127.0.0.1:0")) as running:
            yield running


@asynccontextmanager
async def admin_of(proxy: Proxy) -> AsyncIterator[Admin]:
    """The admin listener of `proxy`, with metrics that watch it."""
    metrics = Metrics(CollectorRegistry())
    metrics.watch(proxy.config.mode, lambda: proxy.contexts)
    async with Admin(ANY_PORT, proxy, metrics.registry) as running:
        yield running


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A running proxy in front of an echoing server."""
    async with proxy_in_front_of(echo) as running:
        yield running


@pytest.fixture
async def admin(proxy: Proxy) -> AsyncIterator[Admin]:
    """The admin listener of that proxy."""
    async with admin_of(proxy) as running:
        yield running


async def exchange(admin: Admin, request: bytes) -> bytes:
    """Send raw bytes, and return all that comes back until the connection ends."""
    reader, writer = await asyncio.open_connection(*admin.address)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def ask(admin: Admin, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Return the status, headers and body of the answer to one request; the answer must be proper HTTP."""
    http = h11.Connection(h11.CLIENT)
    request = http.send(h11.Request(method=method, target=path, headers=[("Host", "admin")]))
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


async def ask_json(admin: Admin, path: str, method: str = "GET") -> tuple[int, Any]:
    """Return the status of an answer and its body as JSON."""
    status, headers, body = await ask(admin, path, method)
    assert headers["content-type"] == "application/json"
    return status, json.loads(body)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`; the test's own time limit bounds the wait."""
    while not condition():  # noqa: ASYNC110  # a proxy announces nothing of this; it is looked at
        await asyncio.sleep(0.005)


async def test_a_serving_proxy_is_healthy_and_ready(admin: Admin) -> None:
    """Both probes answer 200 while the proxy serves."""
    assert await ask_json(admin, "/healthz") == (200, {"status": "ok"})
    assert await ask_json(admin, "/readyz") == (200, {"status": "ready"})


async def test_a_draining_proxy_is_healthy_but_not_ready(admin: Admin, proxy: Proxy) -> None:
    """A load balancer stops sending clients, and nobody restarts the process meanwhile."""
    await proxy.drain(0)
    assert await ask_json(admin, "/readyz") == (503, {"status": "draining"})
    assert await ask_json(admin, "/healthz") == (200, {"status": "ok"})


async def test_sessions_are_listed_with_their_ids_cut_short(admin: Admin, proxy: Proxy) -> None:
    """An operator sees what a session holds and who is there, but not the secret that resumes it."""
    assert await ask_json(admin, "/sessions") == (200, {"sessions": []})
    async with connect(proxy.url, additional_headers={"X-Connection-Id": ID}) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        _, _, body = await ask(admin, "/sessions?pretty=1")
    (session,) = json.loads(body)["sessions"]
    assert ID not in body.decode()
    assert (session["id_short"], session["mode"], session["client_connected"]) == ("abcdef…", "duplex", True)
    assert (session["c2u_messages"], session["u2c_messages"], session["upstream_connected"]) == (1, 1, True)


async def test_metrics_add_up_the_living_sessions(admin: Admin, proxy: Proxy) -> None:
    """A scrape sees the sessions of that moment, and none when they have ended."""
    async with connect(proxy.url) as first, connect(proxy.url) as second:
        for client in (first, second):
            await client.send("hello")
            assert await client.recv() == "hello"
        status, headers, body = await ask(admin, "/metrics")
    lines = body.decode().splitlines()
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    assert 'reconnect_proxy_legs_connected{leg="client"} 2.0' in lines
    assert 'reconnect_proxy_legs_connected{leg="upstream"} 2.0' in lines
    assert 'reconnect_proxy_messages_total{direction="c2u"} 2.0' in lines
    assert 'reconnect_proxy_messages_undelivered_total{direction="u2c"} 0.0' in lines
    assert any(line.startswith("reconnect_proxy_sessions{state=") and line.endswith(" 2.0") for line in lines)


async def test_metrics_count_what_a_client_that_is_away_is_owed() -> None:
    """While a client is gone its messages are queued, and both their number and their bytes are to be seen."""
    client_is_gone = asyncio.Event()

    async def push(connection: ServerConnection) -> None:
        await client_is_gone.wait()
        for _ in range(3):
            await connection.send(b"12345")
        await connection.wait_closed()

    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxy_in_front_of(push))
        admin = await stack.enter_async_context(admin_of(proxy))
        async with connect(proxy.url, additional_headers={"X-Connection-Id": ID}) as client:
            client.transport.abort()
        await until(lambda: not proxy.sessions()[0].client_connected)
        client_is_gone.set()
        await until(lambda: proxy.sessions()[0].u2c_messages == 3)
        lines = (await ask(admin, "/metrics"))[2].decode().splitlines()
        held = float(proxy.sessions()[0].u2c_bytes_held)
    assert held >= 15
    assert 'reconnect_proxy_queue_messages{direction="u2c"} 3.0' in lines
    assert f'reconnect_proxy_queue_bytes{{direction="u2c"}} {held}' in lines
    assert 'reconnect_proxy_legs_connected{leg="client"} 0.0' in lines


async def test_an_unknown_path_is_a_404_that_names_the_known_ones(admin: Admin) -> None:
    """The answer is JSON with what would have been right."""
    status, body = await ask_json(admin, "/sesions")
    assert (status, body["error"]) == (404, "not found")
    assert body["detail"] == "there is no /sesions; there are /healthz, /readyz, /metrics, /sessions"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_another_method_is_a_405_that_names_the_right_ones(admin: Admin, method: str) -> None:
    """RFC 9110 section 15.5.6: a 405 carries Allow."""
    status, headers, body = await ask(admin, "/sessions", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert json.loads(body)["detail"] == f"{method} is not for /sessions: use GET, HEAD"


async def test_head_is_get_without_the_body(admin: Admin) -> None:
    """The length is that of the body that GET would bring."""
    http = await exchange(admin, b"HEAD /healthz HTTP/1.1\r\nHost: admin\r\n\r\n")
    head, _, body = http.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 17" in head
    assert body == b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000, b"431 Request Header Fields Too Large"),
    ],
)
async def test_what_is_no_request_is_refused(admin: Admin, request_bytes: bytes, status: bytes) -> None:
    """Broken and oversized heads get an answer in JSON, and the next request is served as ever."""
    assert (await exchange(admin, request_bytes)).startswith(b"HTTP/1.1 " + status)
    assert await ask_json(admin, "/healthz") == (200, {"status": "ok"})


async def test_a_request_that_stalls_is_given_up(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that sends half a head and waits is answered 408 when its time is over."""
    monkeypatch.setattr(admin_module, "PATIENCE", 0.05)
    answer = await exchange(admin, b"GET /healthz HT")
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"the request did not arrive within 0.05 s" in answer


async def test_a_connection_without_a_request_is_simply_closed(admin: Admin) -> None:
    """A port scan, or a TCP health check, is not an error."""
    reader, writer = await asyncio.open_connection(*admin.address)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_stopping_drops_a_request_under_way(proxy: Proxy) -> None:
    """The listener ends with its block, whoever is still connected."""
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Admin(ANY_PORT, proxy, CollectorRegistry()))
        reader, writer = await asyncio.open_connection(*admin.address)
        writer.write(b"GET /healthz HT")
        await ask(admin, "/healthz")
        await stack.aclose()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*admin.address)


async def test_an_address_in_use_is_an_oserror(admin: Admin, proxy: Proxy) -> None:
    """Whoever starts it learns so at once."""
    with pytest.raises(OSError, match="in use"):
        async with Admin(admin.address, proxy, CollectorRegistry()):
            pytest.fail("it cannot have started")
