"""A planned stop: what goes on, who is told what, and that nothing is lost which could have been delivered."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from .absence import have_gone
from .aware import AwareClient, AwareEnd
from .conftest import Serve
from .frames import Closed, Opcode, Refused
from .process import Serving, environment
from .rawserver import Answer, RawServer
from .rawsocket import RawSocket, dial
from .waiting import eventually, numbered

SESSIONS = 200
CHOSEN = "a-client-chosen-id"
NONE_UNCERTAIN = "uncertain_c2u=0 uncertain_u2c=0"
ALL_DELIVERED = f"undelivered_c2u=0 undelivered_u2c=0 {NONE_UNCERTAIN}"


class TalkingServer(RawServer):
    """An ordinary upstream with one end for each session, by the name in its path."""

    def __init__(self) -> None:
        super().__init__(on_socket=self._start)
        self.ends: dict[str, AwareEnd] = {}
        self._carriers: list[asyncio.Task[None]] = []

    def _start(self, link: RawSocket) -> None:
        end = self.ends[link.request.target] = AwareEnd()
        link.on_message = end.received.add
        link.on_pong = end.confirm
        self._carriers.append(asyncio.create_task(end.carry(link, 0)))

    async def carried(self) -> None:
        """Wait until all conversations are over."""
        await asyncio.gather(*self._carriers)


@asynccontextmanager
async def talking(*ends: AwareEnd) -> AsyncIterator[None]:
    """Let a tenth of `ends` talk without a lull, and the others now and then, until the block is left."""

    async def talk() -> None:
        for turn in itertools.count():
            for place, end in enumerate(ends):
                if place % 10 == 0 or (place + turn) % 10 == 0:
                    end.push(*numbered("x", 2, len(end.outbox) + 1))
            await asyncio.sleep(0.03)

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def stopped(proxy: Serving) -> str:
    """Return what the proxy said last: how many sessions it ended, and what they could not deliver."""
    (line,) = [line for line in proxy.lines if " stopped " in line]
    return line.split(" ", 2)[2]


async def test_a_stop_under_load_loses_nothing_and_is_not_held_up_by_talk(serve: Serve) -> None:
    """200 clients and their ordinary upstream talk on: all that the proxy has promised either of them has arrived."""
    async with TalkingServer() as upstream, contextlib.AsyncExitStack() as stack:
        proxy = await serve(upstream.url, drain="1h")
        clients = [AwareClient(f"{proxy.url}/{number}") for number in range(SESSIONS)]
        for client in clients:
            await stack.enter_async_context(client)
        async with talking(*clients, *upstream.ends.values()):
            for end in (*clients, *upstream.ends.values()):
                await end.received.reaches(4)
            proxy.signal()
            # It would wait for an hour, if the talk held it up.
            assert await proxy.exit_code() == 0
        await upstream.carried()
        for number, client in enumerate(clients):
            server = upstream.ends[f"/{number}"]
            assert client.socket is not None
            assert client.socket.end is not None
            assert (client.socket.end.code, client.socket.end.reason) == (1012, "service restart")
            assert server.socket is not None
            assert server.socket.end is not None
            assert server.socket.end.code == 1001
            for said, heard in ((client, server), (server, client)):
                # What was promised has arrived, once and in order; a little more may have.
                assert said.confirmed <= len(heard.received.items)
                assert heard.received.items == said.outbox[: len(heard.received.items)]
        assert stopped(proxy) == f"INFO stopped sessions={SESSIONS} {ALL_DELIVERED}"


async def test_while_it_drains_clients_come_back_to_their_sessions_and_nobody_new_is_let_in(
    serve: Serve, upstream: RawServer
) -> None:
    """A stop waits for what is kept for a client that is away; a new one is told when to try again."""
    proxy = await serve(upstream.url, drain="1h")
    await have_gone(proxy, upstream, [CHOSEN], *numbered("u2c", 10))
    proxy.signal()
    await eventually(lambda: " stopping " in proxy.log, "the proxy drains")
    with pytest.raises(Refused) as refused:
        await dial(f"{proxy.url}/")
    assert refused.value.status == 503
    assert refused.value.head.get("retry-after") == "1"
    assert json.loads(refused.value.body)["error"] == "stopping"
    again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN)])
    assert await again.take(10) == numbered("u2c", 10)
    assert (await again.ended()).code == 1012
    assert await proxy.exit_code() == 0
    assert stopped(proxy) == f"INFO stopped sessions=1 {ALL_DELIVERED}"


@pytest.mark.parametrize("drain", ["0", "300ms"])
async def test_what_cannot_be_delivered_in_time_is_said(serve: Serve, upstream: RawServer, drain: str) -> None:
    """A drain ends in time, although clients stay away; how much is lost is in the log."""
    proxy = await serve(upstream.url, drain=drain)
    (server,) = await have_gone(proxy, upstream, [CHOSEN], *numbered("u2c", 10))
    proxy.signal()
    assert await proxy.exit_code() == 0
    assert (await server.ended()).code == 1001
    assert stopped(proxy) == f"WARNING stopped sessions=1 undelivered_c2u=0 undelivered_u2c=10 {NONE_UNCERTAIN}"
    await proxy.logged("code=1012")


async def test_what_a_client_says_too_late_is_not_promised(serve: Serve) -> None:
    """What arrives when nothing is taken any more gets no Pong: an aware client knows that it did not arrive."""
    # It does not answer Pings, so the proxy waits a little for it before it closes; that is when the client talks on.
    async with RawServer(lambda _: Answer(answer_pings=False)) as upstream:
        proxy = await serve(upstream.url, drain="0")
        client = await dial(f"{proxy.url}/", [("X-Reconnect-Received", "0")])
        server = await upstream.accept()
        await client.send("in time")
        await client.fence()
        assert await server.recv() == "in time"
        proxy.signal()
        await eventually(lambda: " stopping " in proxy.log, "the proxy stops")
        sent: list[bytes] = []
        with contextlib.suppress(Closed, ConnectionError):
            while client.end is None:
                sent.append(b"%08d" % (len(sent) + 1))
                await client.send(sent[-1])
                await client.send_frame(Opcode.PING, sent[-1])
                await asyncio.sleep(0.01)
        assert (await client.ended()).code == 1012
        await server.ended()
        promised = [pong for pong in client.pongs if not pong.startswith(b"fence")]
        assert len(promised) < len(sent)
        assert [each for each in server.left() if isinstance(each, bytes)][: len(promised)] == promised
        assert await proxy.exit_code() == 0


async def test_a_client_that_waits_for_its_upstream_is_told(serve: Serve) -> None:
    """Its upstream has not answered yet: it gets a 503, as if it had come a moment later."""
    arrived: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    silent = await asyncio.start_server(lambda _, writer: arrived.put_nowait(writer), "127.0.0.1", 0)
    async with silent:
        proxy = await serve(f"ws://127.0.0.1:{silent.sockets[0].getsockname()[1]}", "--connect-timeout", "1h")
        waiting = asyncio.create_task(dial(f"{proxy.url}/"))
        writer = await arrived.get()
        proxy.signal()
        with pytest.raises(Refused) as refused:
            await waiting
        assert refused.value.status == 503
        assert await proxy.exit_code() == 0
        writer.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_before_there_is_anything_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    """While it still reads its configuration a signal ends it at once, with 0 and in silence."""
    fifo = tmp_path / "proxy.toml"
    os.mkfifo(fifo)
    arguments = ("-m", "reconnect_proxy.cli", "serve", "--upstream", "ws://127.0.0.1:1", "--config", str(fifo))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stderr=asyncio.subprocess.PIPE, env=environment("1s")
    )
    try:
        # Opens when the proxy opens it to read; it waits there for what is never written.
        writer = await asyncio.to_thread(fifo.open, "w")
        process.send_signal(number)
        _, stderr = await process.communicate()
        writer.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, stderr) == (0, b"")
