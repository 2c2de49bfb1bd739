"""What peers of the admin listener may do to it: nothing that harms the next one."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from http import HTTPStatus
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from reconnect_proxy.admin import server as admin_http
from reconnect_proxy.admin.routes import Admin
from reconnect_proxy.admin.server import AdminRequest, AdminResponse, AdminServer
from reconnect_proxy.admin.view import ProxyView
from reconnect_proxy.observe.metrics import Metrics
from reconnect_proxy.proxy import Proxy

from .admin_rig import ANY_PORT, admin_of, ask, ask_json, echo, exchange, proxy_in_front_of, until


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A running proxy in front of an echoing server."""
    async with proxy_in_front_of(echo) as running:
        yield running


@pytest.fixture
async def admin(proxy: Proxy) -> AsyncIterator[Admin]:
    """The admin listener of that proxy."""
    async with admin_of(proxy, []) as running:
        yield running


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


@pytest.mark.parametrize("target", ["http://localhost/healthz", "HTTP://127.0.0.1:1/healthz?x=1"])
async def test_a_whole_url_is_a_target(admin: Admin, target: str) -> None:
    """Its host is checked, and not that of the Host header (RFC 9112 section 3.2.2)."""
    request = f"GET {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n".encode()
    assert (await exchange(admin, request)).startswith(b"HTTP/1.1 200 ")
    request = b"GET http://a.example/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert (await exchange(admin, request)).startswith(b"HTTP/1.1 421 ")


async def test_a_request_that_stalls_is_given_up(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that sends half a head and waits is answered 408 when its time is over."""
    monkeypatch.setattr(admin_http, "PATIENCE", 0.05)
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
    """The listener ends with its block, even while peers are connected."""
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(
            Admin(ANY_PORT, ProxyView(proxy), Metrics(CollectorRegistry()), [].append)
        )
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
    """The error is raised on entering the block."""
    with pytest.raises(OSError, match="in use"):
        async with Admin(admin.address, ProxyView(proxy), Metrics(CollectorRegistry()), [].append):
            pytest.fail("it cannot have started")


async def test_a_body_is_read_and_of_no_consequence(admin: Admin) -> None:
    """The next request of the connection begins behind it."""
    first = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello"
    second = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    answers = await exchange(admin, first + second)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert answers.endswith(b'{"status": "ready"}\n')


async def test_a_body_without_end_is_refused(admin: Admin) -> None:
    """What would have to be read to get behind it is bounded."""
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
    assert (await exchange(admin, head + bytes(100_000))).startswith(b"HTTP/1.1 413 ")


async def test_a_connection_carries_one_request_after_the_other(admin: Admin) -> None:
    """Prometheus keeps its connection from one scrape to the next."""
    reader, writer = await asyncio.open_connection(*admin.address)
    for _ in range(3):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close" not in head.lower()
        assert await reader.readexactly(17) == b'{"status": "ok"}\n'
    writer.close()
    await writer.wait_closed()


async def test_a_connection_that_asks_nothing_more_is_closed_in_time(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word: nothing was asked."""
    monkeypatch.setattr(admin_http, "IDLE", 0.05)
    reader, writer = await asyncio.open_connection(*admin.address)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (await reader.read()).endswith(b'{"status": "ok"}\n')
    writer.close()
    await writer.wait_closed()


async def test_an_idle_connection_is_closed_for_a_request_on_a_new_one(admin: Admin) -> None:
    """Connections that ask nothing, however many, do not keep a health probe out; the oldest of them go."""
    async with AsyncExitStack() as stack:
        idle = []
        for _ in range(2 * admin_http.MAX_CONNECTIONS):
            reader, writer = await asyncio.open_connection(*admin.address)
            stack.callback(writer.close)
            idle.append((reader, writer))
        assert await ask_json(admin, "/healthz") == (200, {"status": "ok"})
        with suppress(ConnectionResetError):
            assert await idle[0][0].read() == b""
        reader, writer = idle[-1]
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b'{"status": "ok"}\n')


def nothing(status: HTTPStatus, detail: str) -> AdminResponse:
    """An answer to what cannot be read."""
    return AdminResponse(status, detail.encode())


async def test_a_house_full_of_questions_turns_further_ones_away() -> None:
    """While all connections have requests under way, a new connection gets no answer; afterwards it does."""
    release = asyncio.Event()
    waiting = 0

    async def wait(request: AdminRequest) -> AdminResponse:
        nonlocal waiting
        waiting += 1
        await release.wait()
        return AdminResponse(HTTPStatus.OK, b"late")

    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    async with AdminServer(ANY_PORT, wait, nothing) as server, asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(exchange(server, request)) for _ in range(admin_http.MAX_CONNECTIONS)]
        await until(lambda: waiting == admin_http.MAX_CONNECTIONS)
        with suppress(ConnectionResetError):
            assert await exchange(server, request) == b""
        release.set()
        for each in asking:
            assert (await each).endswith(b"late")
        assert (await exchange(server, request)).endswith(b"late")


async def test_a_peer_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is held for so long and no longer, and no socket of ours stays behind."""
    monkeypatch.setattr(admin_http, "SENDING", 0.1)
    answered = asyncio.Event()

    async def answer(request: AdminRequest) -> AdminResponse:
        answered.set()
        return AdminResponse(HTTPStatus.OK, bytes(32 * 1024 * 1024))

    async with AdminServer(ANY_PORT, answer, nothing) as server:
        # asyncio's reader would read; a plain socket does not.
        with socket.create_connection(server.address) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await answered.wait()
            await until(lambda: not server.connections)


async def test_what_a_peer_sends_is_never_a_fault_of_the_program(admin: Admin) -> None:
    """For all bytes, the connection ends with an answer or without one, and the next request is served."""
    for seed in range(200):
        random = Random(seed)
        parts = [b"GET ", b"/sessions", b"%", b"?limit=", b" HTTP/1.1", b"\r\n", b"Host: ", b"127.0.0.1", b"\r\n\r\n"]
        parts += [b"Authorization: Bearer ", b"Transfer-Encoding: chunked", b"Content-Length: ", b"5", b"\xff", b"\0"]
        request = b"".join(random.choices(parts, k=20)) + b"\r\n\r\n"
        reader, writer = await asyncio.open_connection(*admin.address)
        with suppress(ConnectionError):
            writer.write(request)
            writer.write_eof()
            await reader.read()
        writer.close()
    assert await ask_json(admin, "/healthz") == (200, {"status": "ok"})


async def turns_between_answers(requests: int) -> list[int]:
    """Return how many turns the event loop makes between the answers to requests that come in one piece."""
    loop = asyncio.get_running_loop()
    turns, answered_at = 0, []

    def turn() -> None:
        nonlocal turns
        turns += 1
        if len(answered_at) < requests:
            loop.call_soon(turn)

    async def answer(request: AdminRequest) -> AdminResponse:
        answered_at.append(turns)
        return AdminResponse(HTTPStatus.OK, b"{}")

    async with AdminServer(ANY_PORT, answer, lambda status, detail: AdminResponse(status, detail.encode())) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        loop.call_soon(turn)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * requests)
        for _ in range(requests):
            await reader.readuntil(b"{}")
        writer.close()
    return [later - earlier for earlier, later in itertools.pairwise(answered_at)]


async def test_requests_that_come_at_once_are_answered_in_as_many_turns_of_the_loop() -> None:
    """So the messages of sessions pass between them."""
    assert min(await turns_between_answers(200)) >= 1


async def test_without_a_yield_they_would_be_answered_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test before."""

    async def at_once(seconds: float) -> None:
        pass

    monkeypatch.setattr(admin_http.asyncio, "sleep", at_once)
    assert min(await turns_between_answers(200)) == 0
