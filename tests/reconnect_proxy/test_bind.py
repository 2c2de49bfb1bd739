"""`bind`: a session is resumed only with the credentials that opened it (PROTOCOL.md sections 3 and 7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus

from reconnect_proxy.proxy import Proxy

ID = "a-session-of-mine"
MINE = [("Authorization", "Bearer mine"), ("Cookie", "a=1; b=2"), ("Cookie", "c=3")]
BIND = ["authorization", "cookie"]

#: What attackers send instead, and clients that have lost something.
OTHERS = [
    [],
    [("Authorization", "Bearer mine")],
    [("Cookie", "a=1; b=2"), ("Cookie", "c=3")],
    [("Authorization", ""), *MINE[1:]],
    [("Authorization", "bearer mine"), *MINE[1:]],
    [("Authorization", "Bearer stolen"), *MINE[1:]],
    [*MINE, ("Authorization", "Bearer mine")],
    [("Authorization", "Bearer stolen"), *MINE],
    [*MINE, ("Authorization", "Bearer stolen")],
    [MINE[0], MINE[2], MINE[1]],
    [MINE[0], MINE[1]],
    [MINE[0], ("Cookie", "a=1; b=2, c=3")],
    [MINE[0], ("Cookie", "b=2; a=1"), MINE[2]],
    [("Authorization", "a=1; b=2"), ("Cookie", "Bearer mine"), MINE[2]],
]


class Upstream:
    """An echo server that may keep a handshake waiting."""

    def __init__(self) -> None:
        self.url = ""
        self.go = asyncio.Event()
        self.go.set()
        self.dialled = asyncio.Event()
        self.handshakes: list[Headers] = []

    async def hold(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer the handshake when told to."""
        self.handshakes.append(request.headers)
        self.dialled.set()
        await self.go.wait()
        return None

    async def echo(self, connection: ServerConnection) -> None:
        """Echo until the connection ends."""
        async for message in connection:
            await connection.send(message)


@asynccontextmanager
async def bound(**options: str) -> AsyncIterator[tuple[Upstream, Proxy]]:
    """Run a proxy that binds sessions, in front of an upstream."""
    upstream = Upstream()
    async with serve(upstream.echo, "127.0.0.1", 0, process_request=upstream.hold) as server:
        upstream.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Proxy(upstream=upstream.url, listen="127.0.0.1:0", bind=BIND, **options) as proxy:
            yield upstream, proxy


async def refused(url: str, headers: list[tuple[str, str]]) -> int:
    """Connect, which must be refused, and return the status."""
    with pytest.raises(InvalidStatus) as refusal:
        await connect(url, additional_headers=headers)
    assert b"Bearer" not in (refusal.value.response.body or b"")
    return refusal.value.response.status_code


async def echoes(client: ClientConnection) -> bool:
    """Tell whether a client's session works."""
    await client.send("still mine")
    return await client.recv() == "still mine"


@pytest.mark.parametrize("name", ["connection-id", "reconnect-id"])
@pytest.mark.parametrize("mode", ["duplex", "receiver"])
async def test_other_credentials_do_not_resume(mode: str, name: str) -> None:
    """Missing, repeated, reordered, swapped or changed: 403, and the session goes on untouched for its owner."""
    async with bound(mode=mode) as (upstream, proxy):
        async with connect(f"{proxy.url}/?connection-id={ID}", additional_headers=MINE) as client:
            for headers in OTHERS:
                assert await refused(f"{proxy.url}/?{name}={ID}", headers) == HTTPStatus.FORBIDDEN
            assert await echoes(client)
        # The order among other headers does not matter.
        reordered = [MINE[1], ("X-Other", "1"), MINE[2], MINE[0]]
        async with connect(f"{proxy.url}/?{name}={ID}", additional_headers=reordered) as client:
            assert await echoes(client)
        assert len(upstream.handshakes) == 1


async def test_a_session_without_credentials_is_not_resumed_with_some() -> None:
    """A missing header is a value like any other, and an empty header is not missing."""
    async with bound() as (_, proxy):
        url = f"{proxy.url}/?connection-id={ID}"
        async with connect(url):
            assert await refused(url, [("Cookie", "")]) == HTTPStatus.FORBIDDEN
            assert await refused(url, MINE) == HTTPStatus.FORBIDDEN
        async with connect(url) as client:
            assert await echoes(client)


async def test_a_sender_resumes_no_session() -> None:
    """Its sessions belong to their sockets: a client that names one gets 410, or a session of its own."""
    async with bound(mode="sender") as (upstream, proxy):
        async with connect(f"{proxy.url}/?connection-id={ID}", additional_headers=MINE) as client:
            for headers in (MINE, *OTHERS):
                assert await refused(f"{proxy.url}/?reconnect-id={ID}", headers) == HTTPStatus.GONE
            async with connect(f"{proxy.url}/?connection-id={ID}", additional_headers=OTHERS[5]) as other:
                assert await echoes(other)
            assert await echoes(client)
        ids = [handshake["X-Connection-Id"] for handshake in upstream.handshakes]
        assert len(set(ids)) == 2


@pytest.mark.parametrize("mode", ["duplex", "receiver"])
async def test_a_client_is_checked_while_the_first_dial_is_in_progress(mode: str) -> None:
    """The session exists from its first request on, so an attacker does not get in before its owner."""
    async with bound(mode=mode, connect_timeout="60s") as (upstream, proxy):
        upstream.go.clear()
        url = f"{proxy.url}/?connection-id={ID}"
        owner = asyncio.create_task(connect(url, additional_headers=MINE, open_timeout=None).__aenter__())
        await upstream.dialled.wait()
        try:
            statuses = [await refused(url, headers) for headers in OTHERS]
        finally:
            upstream.go.set()
        assert statuses == [HTTPStatus.FORBIDDEN] * len(OTHERS)
        client = await owner
        assert await echoes(client)
        await client.close()
        assert len(upstream.handshakes) == 1


async def test_the_shared_session_of_a_receiver_is_bound_to_the_client_that_opened_it() -> None:
    """Its clients name no id, but the upstream has answered the credentials of the first."""
    async with bound(mode="receiver") as (_, proxy), connect(proxy.url, additional_headers=MINE) as first:
        for headers in OTHERS:
            assert await refused(proxy.url, headers) == HTTPStatus.FORBIDDEN
        async with connect(proxy.url, additional_headers=MINE) as second:
            await first.send("to all")
            assert await first.recv() == await second.recv() == "to all"


async def test_a_session_that_no_client_has_opened_is_bound_to_nothing() -> None:
    """With `dial = start` the shared session is dialled before the first client."""
    async with bound(mode="receiver", dial="start") as (_, proxy):
        for headers in (MINE, OTHERS[5]):
            async with connect(proxy.url, additional_headers=headers) as client:
                assert await echoes(client)
