"""Peers that read and take their time, or answer no Ping: what of theirs is lost, and what is counted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from .broken import with_harm
from .conftest import Serve
from .frames import Opcode, Refused
from .process import Serving
from .rawserver import Answer, RawServer
from .rawsocket import RawSocket, dial
from .relay import Relay, Way
from .waiting import Message, eventually, numbered

BRISK = ("--ping-interval", "300ms", "--ping-timeout", "300ms")
#: What the client sends. A server that takes 100 ms for each message is killed long before it has worked them off.
MESSAGES = 60


class SlowServer(RawServer):
    """Works messages and Pings off in order, each message for `each` seconds, and keeps sending ticks meanwhile."""

    def __init__(self) -> None:
        super().__init__(answer=lambda _: Answer(answer_pings=False), on_socket=self._start)
        self.each = 0.1
        self.done: list[Message] = []
        self._tasks: list[asyncio.Task[None]] = []

    def _start(self, link: RawSocket) -> None:
        self._tasks += [asyncio.create_task(self._work(link)), asyncio.create_task(_tick(link))]

    async def _work(self, link: RawSocket) -> None:
        for place in range(10_000):
            await link.until(lambda place=place: len(link.journal) > place or link.end is not None, 60.0)  # type: ignore[misc]
            if link.end is not None:
                return
            opcode, what = link.journal[place]
            if opcode is Opcode.PING and isinstance(what, bytes):
                await link.send_frame(Opcode.PONG, what)
            elif opcode < Opcode.CLOSE:
                await asyncio.sleep(self.each)
                self.done.append(await link.recv())

    async def stop(self) -> None:
        """Stop working."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _tick(link: RawSocket) -> None:
    with contextlib.suppress(ConnectionError):
        while link.end is None:
            await link.send("tick")
            await asyncio.sleep(0.05)


@pytest.fixture
async def slow() -> AsyncIterator[SlowServer]:
    async with SlowServer() as server:
        yield server
        await server.stop()


async def killed_at_work(proxy: Serving, slow: SlowServer) -> set[Message]:
    """Let a client speak, kill the server's connection after 12 messages, and go on fast; return what is missing."""
    client = await dial(f"{proxy.url}/")
    link = await slow.accept()
    await client.send(*numbered("c2u", MESSAGES))
    await eventually(lambda: len(slow.done) >= 12, "some of it is done", 60.0)
    slow.each = 0.0
    link.reset()
    again = await slow.accept()
    last = "the last"
    await client.send(last)
    await eventually(lambda: last in slow.done, "the rest is done", 60.0)
    assert again.end is None and client.end is None
    return set(numbered("c2u", MESSAGES)) - set(slow.done)


async def test_a_slow_server_that_is_killed_loses_nothing(serve: Serve, slow: SlowServer) -> None:
    """It answers a Ping when it comes to it, long after its time, and is heard meanwhile."""
    proxy = await serve(slow.url, *BRISK)
    assert await killed_at_work(proxy, slow) == set()
    assert "mute" not in proxy.log


async def test_a_proxy_that_takes_slow_servers_for_mute_ones_loses_messages(serve: Serve, slow: SlowServer) -> None:
    """The control of the test before."""
    proxy = await serve(slow.url, *BRISK, prefix=with_harm("mute-at-once"))
    assert len(await killed_at_work(proxy, slow)) > 20
    await proxy.logged("messages uncertain")


@pytest.mark.parametrize("patience", ["10m", "300ms"])
async def test_a_client_that_does_not_read_keeps_its_link(serve: Serve, upstream: RawServer, patience: str) -> None:
    """Its program does other work for six times as long as a silent peer is given. Without the patience it is lost."""
    proxy = await serve(upstream.url, *BRISK, "--unread-timeout", patience)
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.send("hello")
    assert await server.recv() == "hello"
    client.pause()
    for number in range(1, 19):
        await server.send(*numbered("u2c", 1, start=number))
        # What makes it last: 3.6 s.
        await asyncio.sleep(0.2)
    client.resume()
    if patience == "10m":
        assert await client.take(18) == numbered("u2c", 18)
        assert client.end is None
        assert "leg lost" not in proxy.log
    else:
        await eventually(lambda: "leg lost" in proxy.log, "it was lost")


@pytest.mark.parametrize("patience", ["1m", "1s"])
async def test_a_client_that_never_reads_is_lost_although_it_pings(
    serve: Serve, upstream: RawServer, patience: str
) -> None:
    """With one second it is; with a minute it keeps its link for longer than that."""
    proxy = await serve(upstream.url, *BRISK, "--stall-timeout", patience)
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    client.pause()
    speech = asyncio.create_task(server.send(*[bytes(1024 * 1024)] * 24))
    for _ in range(15):
        with contextlib.suppress(ConnectionError):
            await client.send_frame(Opcode.PING, b"still here")
        await asyncio.sleep(0.2)
    if patience == "1m":
        assert "leg lost" not in proxy.log
    else:
        await proxy.logged('leg=client code=1006 reason="no byte was accepted for 1 s"')
    speech.cancel()
    await asyncio.wait([speech])


@pytest.mark.parametrize("harm", [None, "mute-at-once"])
async def test_a_relay_that_stalls_one_direction_loses_nothing(
    serve: Serve, upstream: RawServer, harm: str | None
) -> None:
    """The server's messages still come, and what it is sent waits in the relay until that dies. With a control."""
    async with Relay(upstream.port) as relay:
        proxy = await serve(relay.url, *BRISK, prefix=with_harm(harm) if harm else ())
        client = await dial(f"{proxy.url}/")
        server = await upstream.accept()
        ticks = asyncio.create_task(_tick(server))
        relay.stall(Way.OUT)
        await client.send(*numbered("c2u", MESSAGES))
        # Twice as long as a silent peer is given.
        await client.take(24)
        relay.cut()
        again = await upstream.accept()
        await client.send("the last")
        arrived = []
        while (message := await again.recv()) != "the last":
            arrived.append(message)
        await ticks
        assert arrived == ([] if harm else numbered("c2u", MESSAGES))


async def test_clients_that_never_read_do_not_keep_others_out(serve: Serve, upstream: RawServer) -> None:
    """They fill all that sessions may hold, and Ping on; ten seconds later the larger of them makes room."""
    proxy = await serve(upstream.url, "--max-held", "8MiB", "--max-queue", "6MiB")
    honest = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    hoarders = [await dial(f"{proxy.url}/") for _ in range(2)]
    for hoarder in hoarders:
        hoarder.pause()
    speakers = [await upstream.accept() for _ in hoarders]
    speeches = [asyncio.create_task(speaker.send(*[bytes(1024 * 1024)] * 16)) for speaker in speakers]
    await eventually(lambda: "held limit reached" in proxy.log, "all is taken")
    refused = 0
    async with asyncio.timeout(30.0):
        while True:
            await honest.send("ask")
            assert await server.recv() == "ask"
            await server.send("answer")
            assert await honest.recv() == "answer"
            for hoarder in hoarders:
                with contextlib.suppress(ConnectionError):
                    await hoarder.send_frame(Opcode.PING, b"still here")
            try:
                await dial(f"{proxy.url}/")
            except Refused:
                refused += 1
                # How often a new client tries.
                await asyncio.sleep(0.5)
            else:
                break
    assert refused
    await proxy.logged("too much is held for a peer that does not read")
    assert honest.end is None
    for speech in speeches:
        speech.cancel()
    await asyncio.gather(*speeches, return_exceptions=True)
