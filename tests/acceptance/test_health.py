"""Clients whose requests fail at a server do not keep other clients from it, not even while it restarts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from http import HTTPStatus

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from .conftest import Serve
from .frames import Refused
from .hostile.attack import head, shout
from .ordinary import echo, ordinary_client
from .process import Serving
from .rawsocket import dial
from .waiting import PATIENCE

#: Clients that are connected for long, and requests a second of others.
LIVE = 10
RATE = 200


async def misbehave(connection: ServerConnection, request: Request) -> Response | None:
    """Fail in the way that the path names."""
    match request.path:
        case "/fails":
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "not now\n")
        case "/secret":
            return connection.respond(HTTPStatus.FORBIDDEN, "no\n")
        case "/drops":
            connection.transport.abort()
        case "/hangs":
            await connection.wait_closed()
    return None


async def converse(connection: ServerConnection) -> None:
    """Echo, or drop the connection."""
    if connection.request is not None and connection.request.path == "/crashes":
        connection.transport.abort()
    else:
        await echo(connection)


async def listening(port: int = 0) -> Server:
    """Start the server."""
    return await serve(converse, "127.0.0.1", port, process_request=misbehave, compression=None)


async def stop(server: Server) -> None:
    """Close a server, but first let it finish what it accepts.

    CPython 3.11 leaves a connection open that it accepts while its server closes (python/cpython#109564).
    """
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)
    server.close()
    await server.wait_closed()


async def failing(serving: Serving, path: str) -> None:
    """Ask for a path that fails, and stay."""
    host, _, port = serving.base.rpartition(":")
    if path.startswith("GET "):
        request = f"{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    else:
        request = head(first=f"GET {path} HTTP/1.1")
    with contextlib.suppress(OSError, TimeoutError):
        await shout((host, int(port)), request)


@contextlib.asynccontextmanager
async def at_rate(make: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Run many of these, so many a second."""
    tasks: set[asyncio.Task[None]] = set()

    async def start() -> None:
        began = time.monotonic()
        for number in range(10**6):
            tasks.add(task := asyncio.create_task(make()))
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))

    starting = asyncio.create_task(start())
    try:
        yield
    finally:
        starting.cancel()
        for task in [*tasks]:
            task.cancel()
        await asyncio.gather(starting, *tasks, return_exceptions=True)


async def hears_after(client: ClientConnection) -> None:
    """Wait for the message of after the restart. On a busy machine the one before may come again: at least once."""
    async with asyncio.timeout(PATIENCE):
        while await client.recv() != "after":
            pass


@pytest.mark.parametrize("path", ["/fails", "/crashes", "/drops", "/hangs", "GET /fails", "GET /drops"])
async def test_sessions_resume_while_others_fail(path: str, serve: Serve) -> None:
    """Two hundred failing requests a second do not keep those waiting whose server has restarted."""
    server = await listening()
    port = server.sockets[0].getsockname()[1]
    serving = await serve(f"ws://127.0.0.1:{port}")
    async with contextlib.AsyncExitStack() as stack:
        live = [await stack.enter_async_context(ordinary_client(f"{serving.url}/live")) for _ in range(LIVE)]
        await stack.enter_async_context(at_rate(lambda: failing(serving, path)))
        for client in live:
            await client.send("before")
            assert await client.recv() == "before"
        await asyncio.sleep(0.5)
        for connection in server.connections:
            connection.transport.abort()
        await stop(server)
        for client in live:
            await client.send("after")
        await asyncio.sleep(0.5)
        server = await listening(port)
        began = time.monotonic()
        await asyncio.gather(*map(hears_after, live))
        # 0.1 s on an idle machine. In the order in which all have asked it was 28 s behind requests that hang.
        assert time.monotonic() - began < 2
    await stop(server)


@pytest.mark.parametrize(("option", "ejected"), [("connect", False), ("5xx", True)])
async def test_whether_a_path_that_fails_takes_a_server_from_others(option: str, ejected: bool, serve: Serve) -> None:
    """By default an answer of any status proves that the server is there."""
    async with await listening() as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        serving = await serve(url, "--eject-on", option)
        for _ in range(5):
            await (await dial(f"{serving.url}/fails")).detach()
        assert ("upstream ejected" in serving.log) is ejected


async def test_a_path_that_crashes_takes_no_answers_from_others(serve: Serve) -> None:
    """A 101 is an answer too, even if its connection ends at once. Of a server that is down, all would get a 101."""
    async with await listening() as server:
        serving = await serve(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(5):
            await (await dial(f"{serving.url}/crashes")).detach()
        assert "upstream ejected" not in serving.log
        with pytest.raises(Refused) as refused:
            await dial(f"{serving.url}/secret")
        assert (refused.value.status, refused.value.body) == (403, b"no\n")
