"""The aware client through `reconnect-proxy serve` in a process of its own, an ordinary server behind it.

The link between client and proxy is the bad one.
"""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from reconnect_proxy.client.connect import SessionLost, connect

from ..cuttable_relay import CuttableRelay, cut_at_random
from .aware_server import PATIENCE, Data


@dataclass
class Upstream:
    """An ordinary echo server: what it received, and how its connections ended."""

    received: list[Data] = field(default_factory=list)
    open: list[ServerConnection] = field(default_factory=list)
    ends: asyncio.Queue[tuple[int | None, str | None]] = field(default_factory=asyncio.Queue)

    async def handle(self, connection: ServerConnection) -> None:
        """Echo until the connection ends."""
        self.open.append(connection)
        try:
            while True:
                message = await connection.recv()
                self.received.append(message)
                await connection.send(message)
        except ConnectionClosed:
            await self.ends.put((connection.close_code, connection.close_reason))


async def ready_port(process: Process) -> int:
    """Return the port in the line with which the proxy says that it listens."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        while line := (await process.stderr.readline()).decode():
            if line.startswith("listening on ws://"):
                return int(line.split()[2].rpartition(":")[2])
    raise AssertionError("the proxy ended without listening")


@asynccontextmanager
async def topology(*options: str) -> AsyncIterator[tuple[Upstream, CuttableRelay, Process]]:
    """Start an echo server, a proxy before it, and a relay before that; end them all."""
    upstream = Upstream()
    async with serve(upstream.handle, "127.0.0.1", 0, max_size=None, close_timeout=1) as server:
        address = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        command = ["-m", "reconnect_proxy.cli", "serve", "--listen", "127.0.0.1:0", "--upstream", address, *options]
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=PIPE)
        logs: asyncio.Task[bytes] | None = None
        try:
            port = await ready_port(process)
            assert process.stderr is not None
            # Read on, so that the proxy does not block in its log.
            logs = asyncio.create_task(process.stderr.read())
            async with CuttableRelay(port) as relay:
                yield upstream, relay, process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            if logs is not None:
                await logs


def messages(count: int) -> list[Data]:
    """`count` messages of both kinds, each recognizable, up to a few KiB."""
    return [f"{n}:" + "é" * (n % 977) if n % 2 else f"{n}:".encode() + bytes(n % 3001) for n in range(count)]


@pytest.mark.parametrize("seed", range(4))
async def test_echoes_are_complete_and_in_order_through_random_cuts(seed: int) -> None:
    """What is sent arrives at the server once, and its echo at the client once, however the link is cut."""
    dice = random.Random(seed)
    sent = messages(600)

    async with asyncio.timeout(2 * PATIENCE), topology("--grace-on", "abnormal") as (upstream, relay, _):
        # Not compressed, so that there are as many bytes as the cuts are made for.
        async with connect(f"ws://127.0.0.1:{relay.port}/chat", close_timeout=PATIENCE, compression=None) as ws:
            assert ws.resumable
            received: list[Data] = []
            async with cut_at_random(relay, dice, pause=(0.01, 0.08), within=30_000):
                for n, message in enumerate(sent):
                    await ws.send(message)
                    if n % 2:
                        received.append(await ws.recv())
                    if n % 20 == 0:
                        await asyncio.sleep(dice.uniform(0, 0.03))
                while len(received) < len(sent):
                    received.append(await ws.recv())
            assert ws.resumes > 0
        assert received == sent
        assert upstream.received == sent
        assert len(upstream.open) == 1
        assert await upstream.ends.get() == (1000, "")


async def test_silent_link_is_replaced_within_the_session() -> None:
    """A link that goes silent without closing is found out by the client, and its session goes on over another."""
    async with topology() as (upstream, relay, _):
        url = f"ws://127.0.0.1:{relay.port}"
        async with connect(url, ping_interval=0.1, ping_timeout=0.2, open_timeout=0.3) as ws:
            await ws.send("before")
            assert await ws.recv(PATIENCE) == "before"
            relay.hold()
            await ws.send("into the void")
            async with asyncio.timeout(PATIENCE):
                while relay.accepted < 2:  # noqa: ASYNC110 (there is no event for it)
                    await asyncio.sleep(0.01)
            await relay.cut()
            relay.release()
            assert await ws.recv(PATIENCE) == "into the void"
            assert ws.resumes >= 1
        assert upstream.received == ["before", "into the void"]


async def test_link_that_comes_back_late_finds_all_handshakes_of_the_past() -> None:
    """Handshakes that were given up and arrive all at once do not cost the session, nor any message."""
    async with topology() as (upstream, relay, _):
        url = f"ws://127.0.0.1:{relay.port}"
        async with connect(url, ping_interval=0.1, ping_timeout=0.1, open_timeout=0.1) as ws:
            await ws.send("before")
            assert await ws.recv(PATIENCE) == "before"
            relay.hold()
            await ws.send("into the void")
            async with asyncio.timeout(PATIENCE):
                while relay.accepted < 4:  # noqa: ASYNC110 (there is no event for it)
                    await asyncio.sleep(0.01)
            relay.release()
            assert await ws.recv(PATIENCE) == "into the void"
            for n in range(50):
                await ws.send(f"{n}")
                assert await ws.recv(PATIENCE) == f"{n}"
        assert upstream.received == ["before", "into the void", *(f"{n}" for n in range(50))]


async def test_close_of_the_server_comes_through_behind_its_messages() -> None:
    """A server's final close ends the session: its last messages, its code, its reason."""
    async with topology() as (upstream, relay, _), connect(f"ws://127.0.0.1:{relay.port}") as ws:
        await ws.send("hello")
        assert await ws.recv(PATIENCE) == "hello"
        await upstream.open[0].send("goodbye")
        await upstream.open[0].close(4321, "final")
        assert await ws.recv(PATIENCE) == "goodbye"
        with pytest.raises(ConnectionClosedError) as raised:
            await ws.recv(PATIENCE)
        assert raised.value.rcvd is not None
        assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (4321, "final")


async def test_close_of_the_client_reaches_the_server_over_a_new_link() -> None:
    """close() while the link is down delivers what is queued, then code and reason."""
    async with topology("--grace", "1s") as (upstream, relay, _):
        ws = await connect(f"ws://127.0.0.1:{relay.port}", close_timeout=PATIENCE)
        relay.down = True
        await relay.cut()
        await ws.send("last words")
        closing = asyncio.create_task(ws.close(4002, "had enough"))
        await asyncio.sleep(0)
        relay.down = False
        await closing
        async with asyncio.timeout(PATIENCE):
            assert await upstream.ends.get() == (4002, "had enough")
        assert upstream.received == ["last words"]
        assert ws.unconfirmed == ()


async def test_session_that_outlived_its_grace_is_lost() -> None:
    """A client that stays away for longer than the proxy waits gets SessionLost, with the 410 and what it still had."""
    async with topology("--grace", "100ms") as (upstream, relay, _), connect(f"ws://127.0.0.1:{relay.port}") as ws:
        relay.down = True
        await relay.cut()
        await ws.send("too late")
        async with asyncio.timeout(PATIENCE):
            await upstream.ends.get()
        relay.down = False
        with pytest.raises(SessionLost) as raised:
            await ws.recv(PATIENCE)
        assert raised.value.status == 410
        assert raised.value.unconfirmed == ("too late",)


async def test_drop_ends_a_session_in_sender_mode() -> None:
    """A proxy in sender mode keeps no session for a client that is gone: a drop raises, and the server is closed."""
    async with (
        topology("--mode", "sender") as (upstream, relay, _),
        connect(f"ws://127.0.0.1:{relay.port}") as ws,
    ):
        await ws.send("hello")
        assert await ws.recv(PATIENCE) == "hello"
        await relay.cut()
        with pytest.raises(ConnectionClosedError):
            await ws.recv(PATIENCE)
        async with asyncio.timeout(PATIENCE):
            await upstream.ends.get()


async def test_shared_session_of_a_receiver_is_not_resumed_but_one_with_an_id_is() -> None:
    """In receiver mode a client without an id shares a session and is a plain client; one with an id has its own."""
    async with topology("--mode", "receiver") as (_, relay, _process):
        url = f"ws://127.0.0.1:{relay.port}"
        async with connect(url) as shared, connect(url, connection_id="a-session-of-ones-own") as owned:
            assert not shared.resumable
            assert owned.resumable
            await relay.cut()
            with pytest.raises(ConnectionClosedError):
                await shared.recv(PATIENCE)
            await owned.send("still there")
            assert await owned.recv(PATIENCE) == "still there"


async def test_id_in_use_is_not_taken_over_with_another_history() -> None:
    """A second client under the id of a session with a past is refused, and the first one goes on."""
    async with topology() as (_, relay, _process):
        url = f"ws://127.0.0.1:{relay.port}"
        async with connect(url, connection_id="one-id-for-two-clients") as ws:
            assert ws.session_id == "one-id-for-two-clients"
            await ws.send("hello")
            assert await ws.recv(PATIENCE) == "hello"
            # The count of a new session, 0, is not that of this one: the proxy has received a message.
            with pytest.raises(SessionLost):
                await connect(url, connection_id="one-id-for-two-clients")


async def test_proxy_that_stops_and_stays_away_spends_the_budget() -> None:
    """A proxy that is told to stop closes with 1012: the client looks for it for as long as its budget lasts."""
    async with topology() as (_, relay, process), connect(f"ws://127.0.0.1:{relay.port}", retry_for=0.5) as ws:
        await ws.send("hello")
        assert await ws.recv(PATIENCE) == "hello"
        process.terminate()
        with pytest.raises(SessionLost, match="no link for"):
            await ws.recv(PATIENCE)
        with pytest.raises(ConnectionClosed):
            await ws.send("too late")


async def test_clean_end_of_the_server_ends_the_iteration() -> None:
    """`async for` through the proxy ends where the server closes with 1000."""
    async with topology() as (upstream, relay, _), connect(f"ws://127.0.0.1:{relay.port}") as ws:
        await ws.send("hello")
        received = []
        async with asyncio.timeout(PATIENCE):
            async for message in ws:
                received.append(message)
                await upstream.open[0].close()
        assert received == ["hello"]
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
