"""Which worker a session is in, and how a client that connected to another one gets there."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Awaitable, Callable

import pytest

from ...certificates import Authority
from ..aware import AwareClient, AwareServer
from ..conftest import Serve
from ..frames import Frame, Head, Opcode, encode, read_head
from ..ordinary import echo, ordinary_client, ordinary_server
from ..rawserver import RawServer
from ..rawsocket import RawSocket, dial
from ..test_admin import ADMIN, admin_of
from ..waiting import Message, eventually, numbered
from .group import HANDED_ON, RELAYED, TWO, Workers, eventually_is, id_of, sample, shown

#: The worker that a client comes to, and the other one.
PAIRS = ((0, 1), (1, 0))


async def test_a_client_comes_back_to_its_session_whichever_worker_it_is_given_to(serve: Serve) -> None:
    """Every other of its connections is to the other worker; what waited for it, and what it says, goes on."""
    async with AwareServer() as upstream, contextlib.AsyncExitStack() as stack:
        proxy = await serve(upstream.url, *TWO, *ADMIN)
        workers = Workers(proxy)
        clients = [AwareClient(f"{proxy.url}/", connect=by_turns(workers, pair)) for pair in PAIRS * 2]
        for client in clients:
            await stack.enter_async_context(client)
        for turn in range(4):
            await eventually(lambda: {client.links for client in clients} == {turn + 1}, "all are back")  # noqa: B023
            for client in clients:
                client.push(*numbered("c2u", 5, 1 + 5 * turn))
                assert client.session_id is not None
                upstream.sessions[client.session_id].push(*numbered("u2c", 5, 1 + 5 * turn))
                if turn < 3:
                    assert client.socket is not None
                    client.socket.reset()
        for client in clients:
            assert client.session_id is not None
            assert await client.received.reaches(20) == numbered("u2c", 20)
            assert await upstream.sessions[client.session_id].received.reaches(20) == numbered("c2u", 20)
            assert not client.complaints
        admin = await admin_of(proxy)
        assert sorted(str(session["worker"]) for session in await shown(admin)) == ["0", "0", "1", "1"]
        assert await sample(admin, HANDED_ON) == 2 * len(clients)
        assert await sample(admin, "reconnect_proxy_sessions_opened_total") == len(clients)


def by_turns(workers: Workers, numbers: tuple[int, int]) -> Callable[[], Awaitable[socket.socket]]:
    """Return what connects to the one worker, to the other, to the one, and so on."""
    turns = itertools.cycle(numbers)
    return lambda: workers.connect(next(turns))


async def test_under_tls_a_client_is_relayed_to_its_session(serve: Serve, authority: Authority) -> None:
    """The worker that it connected to decrypts; small and large messages arrive whole, and so do close codes."""
    cert, key = authority.issue()
    large = "x" * 3_000_000
    async with ordinary_server(echo) as port:
        tls = ("--tls-cert", str(cert), "--tls-key", str(key))
        proxy = await serve(f"ws://127.0.0.1:{port}", *TWO, *ADMIN, *tls)
        workers, context = Workers(proxy), authority.client()
        admin = await admin_of(proxy)
        ids = [await workers.id_on(number, context) for number in (0, 0, 1, 1)]
        before = await sample(admin, RELAYED)
        for identity, came_to in zip(ids, (0, 1, 0, 1), strict=True):
            headers = {"X-Connection-Id": identity}
            sock = await workers.connect(came_to)
            async with ordinary_client(proxy.url, sock=sock, ssl=context, additional_headers=headers) as client:
                for message in ("small", large, "small again"):
                    await client.send(message)
                    assert await client.recv() == message
                await (await client.ping())
                await client.close(3999, "enough")
            assert (client.close_code, client.close_reason) == (3999, "")
        assert await sample(admin, RELAYED) - before == len(PAIRS)
        await eventually(lambda: proxy.log.count("code=3999") == 4, "each session has heard how its client left")
        peers = {session["client_address"] for session in await shown(admin)}
        assert peers == {None}
        async with ordinary_client(
            proxy.url, sock=await workers.connect(0), ssl=context, additional_headers=headers
        ) as client:
            await (await client.ping())
            peers = {session["client_address"] for session in await shown(admin)}
            assert peers == {None, "127.0.0.1"}


async def test_under_tls_what_a_client_does_not_read_is_held_back(serve: Serve, authority: Authority) -> None:
    """The upstream is stopped when the queue is full, however many processes are in between; then all arrives."""
    cert, key = authority.issue()
    async with RawServer() as upstream:
        tls = ("--tls-cert", str(cert), "--tls-key", str(key))
        proxy = await serve(upstream.url, *TWO, *ADMIN, *tls, "--max-queue", "256KiB")
        workers, context = Workers(proxy), authority.client()
        admin = await admin_of(proxy)
        async with ordinary_client(proxy.url, sock=await workers.connect(0), ssl=context) as client:
            assert client.response is not None
            headers = {"X-Reconnect-Id": client.response.headers["X-Connection-Id"]}
        server = await upstream.accept()
        async with ordinary_client(
            proxy.url, sock=await workers.connect(1), ssl=context, additional_headers=headers, max_queue=1
        ) as client:
            assert await sample(admin, RELAYED) == 1
            messages = numbered("u2c", 400, pad=100_000)
            saying = asyncio.create_task(server.send(*messages))
            await eventually_is(admin, "reconnect_proxy_queues_full", 1)
            for message in messages:
                assert await client.recv() == message
            await saying


async def test_an_id_that_a_worker_makes_falls_on_that_worker(serve: Serve, upstream: RawServer) -> None:
    """So a client that brings no id is never handed on, and one that brings such an id to the other worker is."""
    proxy = await serve(upstream.url, *TWO, *ADMIN)
    workers = Workers(proxy)
    admin = await admin_of(proxy)
    for came_to, other in PAIRS * 4:
        before = await sample(admin, HANDED_ON)
        client = await workers.dial(came_to)
        assert (await shown(admin))[-1]["worker"] == came_to
        assert await sample(admin, HANDED_ON) == before
        again = await dial(f"{proxy.url}/?reconnect-id={id_of(client)}", sock=await workers.connect(other))
        assert (await client.ended()).code == 4000
        assert id_of(again) == id_of(client)
        assert await sample(admin, HANDED_ON) == before + 1


@pytest.mark.parametrize("pad", [10, 60_000], ids=["little", "much"])
async def test_what_comes_behind_the_head_goes_with_the_client(serve: Serve, upstream: RawServer, pad: int) -> None:
    """The first messages of a client that does not wait for its 101: in a message between workers, or in a file."""
    proxy = await serve(upstream.url, *TWO, *ADMIN)
    workers = Workers(proxy)
    ids = [await workers.id_on(number) for number in (0, 1)]
    sent = numbered("c2u", 3, pad=pad)
    admin = await admin_of(proxy)
    before = await sample(admin, HANDED_ON)
    for came_to, lives_in in PAIRS:
        client = await dial_and_talk(await workers.connect(came_to), ids[lives_in], sent)
        assert await upstream.sockets[-1].take(3) == sent
        await client.detach()
    assert await sample(admin, HANDED_ON) - before == len(PAIRS)


async def dial_and_talk(sock: socket.socket, identity: str, messages: list[Message]) -> RawSocket:
    """Open a WebSocket connection, and send messages in the same write as the handshake."""
    reader, writer = await asyncio.open_connection(sock=sock)
    head = (
        "GET / HTTP/1.1\r\nHost: proxy\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        f"X-Connection-Id: {identity}\r\n\r\n"
    )
    frames = b"".join(
        encode(
            Frame(Opcode.TEXT, message.encode()) if isinstance(message, str) else Frame(Opcode.BINARY, message),
            mask=True,
        )
        for message in messages
    )
    writer.write(head.encode() + frames)
    response = await read_head(reader)
    assert response.status == 101
    return RawSocket((reader, writer), Head("GET / HTTP/1.1", []), response, client=True)


async def test_receiver_clients_share_one_session_over_all_workers(serve: Serve, upstream: RawServer) -> None:
    """Whichever worker they come to: there is one upstream connection, and all hear what it says."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--mode", "receiver")
    workers = Workers(proxy)
    clients = [await workers.dial(number) for number in (1, 0, 1, 0)]
    server = await upstream.accept()
    await server.send("to all")
    for client in clients:
        assert await client.recv() == "to all"
    assert len(upstream.sockets) == 1
    assert [session["clients"] for session in await shown(await admin_of(proxy))] == [len(clients)]


async def test_a_receiver_that_dials_at_its_start_has_one_upstream(serve: Serve, upstream: RawServer) -> None:
    """Not one for each worker."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--mode", "receiver", "--dial", "start")
    server = await upstream.accept()
    await server.send("said before anybody was there")
    client = await dial(f"{proxy.url}/")
    assert await client.recv() == "said before anybody was there"
    assert len(upstream.sockets) == 1
