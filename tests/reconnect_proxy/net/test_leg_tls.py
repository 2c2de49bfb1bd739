"""A leg over TLS is a leg: large messages, backpressure, silence, and every way in which a connection can end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import reconnect_proxy
from reconnect_proxy.events import Event, LegLost, LegMute, LegName, Resumed
from reconnect_proxy.net.outgoing import OutgoingWebSocket
from reconnect_proxy.proxy import Proxy

from ...certificates import Authority
from ..cuttable_relay import CuttableRelay

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
Loop = Callable[[], asyncio.AbstractEventLoop]
Handler = Callable[[ServerConnection], Awaitable[None]]
ID = "a-session-over-tls"


@asynccontextmanager
async def relayed(
    authority: Authority, handler: Handler, *, observe: Callable[[Event], None] | None = None, **options: object
) -> AsyncIterator[tuple[Proxy, CuttableRelay]]:
    """Start a proxy with TLS on both legs before a server of `handler`, with a link that can be cut in between."""
    cert, key = authority.issue()
    async with (
        serve(
            handler, "127.0.0.1", 0, ssl=authority.server(), compression=None, max_size=None, write_limit=2**26
        ) as server,
        CuttableRelay(server.sockets[0].getsockname()[1]) as relay,
        Proxy(
            upstream=f"wss://localhost:{relay.port}",
            upstream_ca=authority.file,
            listen="127.0.0.1:0",
            tls_cert=cert,
            tls_key=key,
            observe=observe,
            **options,
        ) as proxy,
    ):
        yield proxy, relay


def client(proxy: Proxy, authority: Authority, path: str = "/", **options: object) -> connect:
    """Connect as an ordinary client."""
    return connect(f"{proxy.url}{path}", ssl=authority.client(), compression=None, max_size=None, **options)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition without an event; bounded by the test's timeout."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def echo(connection: ServerConnection) -> None:
    """Send everything back until the connection ends."""
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


def run_with(loop: Loop, work: Awaitable[None]) -> None:
    """Run a test in a loop of this kind."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work)  # type: ignore[arg-type]


@pytest.mark.parametrize("loop", LOOPS)
def test_messages_of_all_sizes_pass_both_ways(loop: Loop, authority: Authority) -> None:
    """From nothing to 8 MiB, text and binary, around the sizes of a TLS record."""
    draw = random.Random(1)
    sizes = [0, 1, 125, 126, 8191, 8193, 16383, 16384, 16385, 65536, 1_000_000, 8 * 1024 * 1024]
    messages: list[str | bytes] = [draw.randbytes(size) for size in sizes] + ["", "ü" * 30_000, "x" * 16384]

    async def test() -> None:
        async with relayed(authority, echo) as (proxy, _), client(proxy, authority) as ws:
            for message in messages:
                await ws.send(message)
                assert await ws.recv() == message

    run_with(loop, test())


async def test_the_aware_client_speaks_tls(authority: Authority) -> None:
    """`connect` takes `ssl` like that of websockets, and resumes its session over TLS: each message comes once."""
    events: list[Event] = []
    async with (
        relayed(authority, echo, observe=events.append) as (proxy, _),
        CuttableRelay(int(proxy.url.rpartition(":")[2])) as link,
    ):
        url = f"wss://localhost:{link.port}"
        async with reconnect_proxy.connect(url, ssl=authority.client(), max_size=None) as ws:
            sent = [random.Random(n).randbytes(n * 997 % 50_000) for n in range(300)]
            heard: list[str | bytes] = []
            for number, message in enumerate(sent):
                await ws.send(message)
                if number % 100 == 50:
                    await link.cut()
            while len(heard) < len(sent):
                heard.append(await ws.recv())
            assert heard == sent
    assert [event for event in events if isinstance(event, Resumed) and event.leg is LegName.CLIENT and event.aware]


@pytest.mark.parametrize("loop", LOOPS)
def test_large_frames_for_a_slow_reader_stay_whole(loop: Loop, authority: Authority) -> None:
    """What waits for a client that hardly reads is what was sent, and the upstream is held back meanwhile."""
    draw = random.Random(1)
    messages = [draw.randbytes(draw.choice([9_000, 12_000, 20_000, 70_000])) for _ in range(600)]

    async def push(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)
        await connection.wait_closed()

    async def test() -> None:
        async with relayed(authority, push, max_queue="1MiB") as (proxy, _):
            slow = socket.socket()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            slow.setblocking(False)
            address = urlsplit(proxy.url)
            await asyncio.get_running_loop().sock_connect(slow, (address.hostname, address.port))
            async with client(proxy, authority, sock=slow, max_queue=1, server_hostname="localhost") as ws:
                (context,) = proxy.contexts
                await until(lambda: context.upstream.link is not None and context.upstream.link.paused)
                assert proxy.sessions()[0].u2c_bytes_held < 4 * 1024 * 1024
                assert [await ws.recv() for _ in messages] == messages

    run_with(loop, test())


def reset(ws: ClientConnection | ServerConnection) -> None:
    """End a connection with an RST."""
    ws.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ws.transport.abort()


def end_tcp(ws: ClientConnection | ServerConnection) -> None:
    """Say at the level of TCP that nothing more comes; TLS would say close_notify first."""
    # uvloop's sockets do not let themselves be shut down.
    with socket.socket(fileno=os.dup(ws.transport.get_extra_info("socket").fileno())) as plain:
        plain.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("polite", [True, False], ids=["close frame", "TCP alone"])
@pytest.mark.parametrize("loop", LOOPS)
def test_an_upstream_that_leaves_is_heard_to_its_end(loop: Loop, polite: bool, authority: Authority) -> None:
    """It is not read, for backpressure, when it ends TCP without a close_notify: all that it said is delivered."""
    messages = [random.Random(n).randbytes(20_000) for n in range(40)]
    alone, left = asyncio.Event(), asyncio.Event()

    async def push(connection: ServerConnection) -> None:
        await alone.wait()
        plain = connection.transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * 1024 * 1024)
        for message in messages:
            await connection.send(message)
        if polite:
            connection.protocol.send_close(1000, "all said")
            connection.send_data()
        while connection.transport.get_write_buffer_size():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        end_tcp(connection)
        left.set()
        await connection.wait_closed()

    async def test() -> None:
        ends: list[Event] = []
        async with relayed(authority, push, max_queue="64KiB", observe=ends.append) as (proxy, _):
            async with client(proxy, authority, f"/?connection-id={ID}"):
                pass
            await until(lambda: not proxy.sessions()[0].client_connected)
            # No client reads: the upstream fills the sockets, and leaves.
            alone.set()
            await left.wait()
            async with client(proxy, authority, f"/?connection-id={ID}") as ws:
                heard = [await ws.recv() for _ in messages]
                assert heard == messages
                lost = [event for event in ends if isinstance(event, LegLost) and event.leg is LegName.UPSTREAM]
                while not lost:
                    await asyncio.sleep(0.005)
                    lost = [event for event in ends if isinstance(event, LegLost) and event.leg is LegName.UPSTREAM]
                assert lost[0].code == (1000 if polite else 1006)
                if polite:
                    await ws.wait_closed()
                    assert (ws.close_code, ws.close_reason) == (1000, "all said")

    run_with(loop, test())


@pytest.mark.parametrize("how", ["RST", "close_notify", "FIN"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_goes_without_a_close_frame_is_lost_and_comes_back(
    loop: Loop, how: str, authority: Authority
) -> None:
    """However TLS or TCP ends it is 1006, and what came meanwhile waits."""

    async def test() -> None:
        events: list[Event] = []
        connections: list[ServerConnection] = []

        async def keep(connection: ServerConnection) -> None:
            connections.append(connection)
            await echo(connection)

        async with relayed(authority, keep, observe=events.append) as (proxy, _):
            async with client(proxy, authority, f"/?connection-id={ID}") as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"
                if how == "RST":
                    reset(ws)
                elif how == "FIN":
                    end_tcp(ws)
                else:
                    ws.transport.close()
                await until(lambda: not proxy.sessions()[0].client_connected)
            await connections[0].send("late")
            async with client(proxy, authority, f"/?connection-id={ID}") as ws:
                while await ws.recv() != "late":
                    pass
        lost = [event for event in events if isinstance(event, LegLost)]
        assert (lost[0].leg, lost[0].code) == (LegName.CLIENT, 1006)

    run_with(loop, test())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_upstream_that_is_reset_or_silent_is_dialled_again(loop: Loop, authority: Authority) -> None:
    """An RST at once; a link that is dead and open when the peer was silent for too long. The client sees neither."""

    async def test() -> None:
        events: list[Event] = []
        connections: list[ServerConnection] = []

        async def keep(connection: ServerConnection) -> None:
            connections.append(connection)
            await echo(connection)

        async with (
            relayed(authority, keep, observe=events.append, ping_interval=1, ping_timeout=1) as (proxy, relay),
            client(proxy, authority) as ws,
        ):
            await ws.send("one")
            assert await ws.recv() == "one"
            reset(connections[0])
            await ws.send("two")
            while await ws.recv() != "two":
                pass
            relay.hold()
            await ws.send("three")
            await until(lambda: len([event for event in events if isinstance(event, LegLost)]) >= 2)
            relay.release()
            while await ws.recv() != "three":
                pass
        lost = [event for event in events if isinstance(event, LegLost) and event.leg is LegName.UPSTREAM]
        assert [event.code for event in lost[:2]] == [1006, 1006]
        assert "nothing was heard for 2 s" in lost[1].reason

    run_with(loop, test())


@pytest.mark.parametrize("loop", LOOPS)
def test_what_waits_in_sockets_is_not_flushed(loop: Loop, authority: Authority) -> None:
    """A peer that does not read is not judged by its Pongs: encrypted bytes on their way count as on their way."""

    async def test() -> None:
        reading = asyncio.Event()
        events: list[Event] = []

        async def deaf(connection: ServerConnection) -> None:
            connection.transport.pause_reading()
            while not reading.is_set():
                # It talks all the same, so it is not silent.
                await connection.send("tick")
                await asyncio.sleep(0.02)
            connection.transport.resume_reading()
            async for _ in connection:
                pass

        async with (
            relayed(authority, deaf, observe=events.append, max_queue="100MiB", ping_interval=1, ping_timeout=1) as (
                proxy,
                _,
            ),
            client(proxy, authority) as ws,
        ):
            leg = next(leg for leg in proxy.legs if isinstance(leg, OutgoingWebSocket))
            await until(lambda: not leg.acceptance().waiting)
            # More than the sockets on the way can hold, however far the system lets them grow.
            for _ in range(64):
                await ws.send(bytes(1024 * 1024))
            await until(lambda: not leg.writable)
            ticks = 0
            # Some three seconds of them: it would have been judged after two.
            while ticks < 150:
                ticks += await ws.recv() == "tick"
            assert leg.acceptance().waiting
            reading.set()
            await until(lambda: not leg.acceptance().waiting)
        assert not [
            event for event in events if isinstance(event, (LegMute, LegLost)) and event.leg is LegName.UPSTREAM
        ]

    run_with(loop, test())


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_is_left_behind(loop: Loop, authority: Authority) -> None:
    """No session, leg or task outlives the proxy, for every way in which peers leave, also during a handshake."""

    async def test() -> None:
        before = asyncio.all_tasks()
        async with relayed(authority, echo) as (proxy, _):
            clients = [await client(proxy, authority) for _ in range(6)]
            reset(clients[0])
            await clients[1].close()
            clients[2].transport.close()
            _, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
            writer.write(b"\x16\x03\x01\x02\x00\x01")
        assert not proxy.sessions()
        assert not proxy.legs
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        for ws in clients:
            await ws.wait_closed()
        assert clients[5].close_code == 1012
        assert asyncio.all_tasks() == before

    run_with(loop, test())
