"""Each limit, hit from outside: who passes it gets the answer that is written down, and the others lose nothing."""

import asyncio
import json
import re
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedError, InvalidMessage, InvalidStatus

from .conftest import Serve
from .frames import Refused
from .ordinary import echo, ordinary_client, ordinary_server
from .process import WORKERS, Serving, one_process
from .rawserver import RawServer
from .rawsocket import RawSocket, dial
from .waiting import PATIENCE, Message, eventually, numbered

MIB = 1 << 20
BYSTANDERS = 10


class Bystander:
    """A session that has nothing to do with a limit: it says numbers, and each must come back in its turn."""

    def __init__(self) -> None:
        self.echoed = 0

    async def talk(self, client: ClientConnection) -> None:
        """Talk without an end."""
        while True:
            await client.send(str(self.echoed))
            answer = await client.recv()
            assert answer == str(self.echoed)
            self.echoed += 1
            await asyncio.sleep(0.005)


@asynccontextmanager
async def bystanders(proxy: Serving, count: int = BYSTANDERS) -> AsyncIterator[None]:
    """Keep so many sessions talking; by the end each has gone on to the last, and none has failed."""
    crowd = [Bystander() for _ in range(count)]
    clients = [await ordinary_client(f"{proxy.url}/bystander").__aenter__() for _ in crowd]
    talks = [asyncio.create_task(one.talk(client)) for one, client in zip(crowd, clients, strict=True)]
    try:
        yield
        before = [one.echoed for one in crowd]
        await eventually(
            lambda: (
                any(talk.done() for talk in talks)
                or all(one.echoed > then + 3 for one, then in zip(crowd, before, strict=True))
            ),
            "every bystander goes on",
        )
    finally:
        for talk in talks:
            talk.cancel()
        results = await asyncio.gather(*talks, return_exceptions=True)
        for client in clients:
            await client.close()
    assert [result for result in results if not isinstance(result, asyncio.CancelledError)] == []


async def refusal(proxy: Serving, path: str = "/", headers: list[tuple[str, str]] | None = None) -> tuple[int, str]:
    """Return the status and short name with which a new client is refused; a 503 must say when to come again."""
    with pytest.raises(Refused) as refused:
        await dial(f"{proxy.url}{path}", headers or [])
    if refused.value.status == 503:
        assert refused.value.head.get("retry-after") == "1"
    return refused.value.status, json.loads(refused.value.body)["error"]


async def metrics(proxy: Serving) -> dict[str, float]:
    """Return all series of a proxy with an admin listener."""
    await eventually(lambda: "admin listening" in proxy.log, "it says where its admin listener is")
    match = re.search(r"admin listening url=(\S+)", proxy.log)
    assert match is not None

    def read() -> str:
        with urllib.request.urlopen(f"{match[1]}/metrics", timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    lines = (await asyncio.to_thread(read)).splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name.removeprefix("reconnect_proxy_"): float(value) for name, _, value in pairs}


@asynccontextmanager
async def speaking(proxy: Serving, request: bytes = b"") -> AsyncIterator[asyncio.StreamReader]:
    """Open a bare TCP connection to the proxy and send the begin of something."""
    host, _, port = proxy.base.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        yield reader
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """Read an answer to its end; a connection that is shut with bytes of ours unread may end in a reset."""
    received = b""
    with suppress(ConnectionError):
        while chunk := await reader.read(65536):
            received += chunk
    return received


@one_process
async def test_sessions(serve: Serve) -> None:
    """503 beyond `--max-sessions`; an attack on it is a few lines of log, and exact in the metrics."""
    async with ordinary_server(echo) as port:
        options = ("--max-sessions", str(BYSTANDERS), "--admin", "127.0.0.1:0")
        proxy = await serve(f"ws://127.0.0.1:{port}", *options)
        async with bystanders(proxy):
            for _ in range(60):
                assert await refusal(proxy) == (503, "too-many-sessions")
            seen = await metrics(proxy)
        assert seen['refusals_total{error="too-many-sessions",status="503"}'] == 60
        assert seen['limit_used{limit="sessions"}'] == seen['limit{limit="sessions"}'] == BYSTANDERS
    await proxy.stop()
    lines = [line for line in proxy.lines if " refused status=" in line or " refused error=" in line]
    assert len(lines) == 11
    assert lines[-1].endswith("refused error=too-many-sessions more=50 seconds=10.0")


async def test_sessions_of_an_address(serve: Serve) -> None:
    """503 for the one address that has as many as it may; one that ends makes room for the next."""
    async with ordinary_server(echo) as port:
        proxy = await serve(
            f"ws://127.0.0.1:{port}",
            *("--max-sessions-per-address", "2", "--trust-forwarded-for", "127.0.0.1", "--grace", "0s"),
        )
        mine, others = [("X-Forwarded-For", "192.0.2.1")], [("X-Forwarded-For", "192.0.2.1, 192.0.2.2")]
        first, _ = await dial(proxy.url + "/", mine), await dial(proxy.url + "/", mine)
        assert await refusal(proxy, headers=mine) == (503, "too-many-sessions-of-address")
        await dial(proxy.url + "/", others)
        await first.close()
        await eventually(lambda: "session ended" in proxy.log, "the session has ended")
        await dial(proxy.url + "/", mine)
        assert await refusal(proxy, headers=mine) == (503, "too-many-sessions-of-address")


async def test_a_head_that_is_too_long_or_too_late(serve: Serve) -> None:
    """431 and 408, and the time limit is for the whole head, however slowly it arrives."""
    async with ordinary_server(echo) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}", "--max-head", "1KiB", "--head-timeout", "300ms")
        async with bystanders(proxy):
            async with speaking(proxy, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 1024) as reader:
                assert (await answer_of(reader)).startswith(b"HTTP/1.1 431 ")
            async with speaking(proxy, b"GET / HTTP/1.1\r\nHost:") as reader:
                assert (await answer_of(reader)).startswith(b"HTTP/1.1 408 ")
        await proxy.logged("status=431")
        await proxy.logged("status=408")


async def test_handshakes_that_never_end_lock_nobody_out(serve: Serve) -> None:
    """Those that have waited longest are shut for newcomers, who are served as ever."""
    async with ordinary_server(echo) as port:
        options = ("--max-handshakes", "10", "--head-timeout", "60s", "--admin", "127.0.0.1:0")
        proxy = await serve(f"ws://127.0.0.1:{port}", *options)
        async with bystanders(proxy, 3):
            host, _, number = proxy.base.rpartition(":")
            slow = [await asyncio.open_connection(host, int(number)) for _ in range(10)]
            for _, writer in slow:
                writer.write(b"GET / HTTP/1.1\r\n")
            evicted = asyncio.create_task(answer_of(slow[0][0]))
            # Fresh connections are left in peace; these are fresh for a moment.
            async with asyncio.timeout(PATIENCE):
                while not evicted.done():
                    async with ordinary_client(proxy.url) as client:
                        await client.send("hello")
                        assert await client.recv() == "hello"
            assert evicted.result().startswith(b"HTTP/1.1 503 ")
            seen = await metrics(proxy)
            for _, writer in slow:
                writer.close()
        assert seen['refusals_total{error="handshake-evicted",status="503"}'] >= 1
        assert seen['limit_used{limit="handshakes"}'] <= 10


@one_process
async def test_no_file_descriptors_left(serve: Serve) -> None:
    """New connections are refused or shut, sessions go on, nothing spins, and when there are some again all is well."""
    async with ordinary_server(echo) as port:
        prefix = ("sh", "-c", 'ulimit -n 128; exec "$@"', "sh")
        proxy = await serve(f"ws://127.0.0.1:{port}", "--head-timeout", "60s", prefix=prefix)
        async with bystanders(proxy):
            host, _, number = proxy.base.rpartition(":")
            hogs = [await asyncio.open_connection(host, int(number)) for _ in range(300)]
            await eventually(lambda: "too-few-descriptors" in proxy.log, "it says what is wrong")
            with pytest.raises((Refused, ConnectionError)) as shut_out:
                await dial(proxy.url + "/")
            if isinstance(shut_out.value, Refused):
                assert shut_out.value.status == 503
            spent = sum(psutil.Process(proxy.process.pid).cpu_times()[:2])
            # Not for something to happen: this is the time in which nothing much must.
            await asyncio.sleep(1.0)
            spent = sum(psutil.Process(proxy.process.pid).cpu_times()[:2]) - spent
            assert spent < 0.7, "it spins"
            for _, writer in hogs:
                writer.close()

            async def served() -> bool:
                with suppress(InvalidStatus, ConnectionError, InvalidMessage):
                    async with ordinary_client(proxy.url) as client:
                        await client.send("hello")
                        return await client.recv() == "hello"
                return False

            async with asyncio.timeout(PATIENCE):
                while not await served():  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.05)
        assert len([line for line in proxy.lines if "too-few-descriptors" in line]) <= 11


#: Linux: the number of CAP_SYS_RESOURCE, and how a process gives one up permanently.
SYS_RESOURCE, CAPBSET_DROP = 24, 24
#: Runs a command that may have 1000 descriptors, and one that may not even raise that as root.
LIMITED = ("sh", "-c", 'ulimit -n 1000; exec "$@"', "sh")
HELD_DOWN = (
    *LIMITED,
    sys.executable,
    "-c",
    "import ctypes, os, sys; "
    f"ctypes.CDLL(None).prctl({CAPBSET_DROP}, {SYS_RESOURCE}, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])",
)


def may_raise_limits() -> bool:
    """Tell whether this process may raise its hard limits, and so may those that it starts."""
    (effective,) = re.findall(r"^CapEff:\s*(\S+)", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    return bool(int(effective, 16) >> SYS_RESOURCE & 1)


def descriptors_of(process: psutil.Process) -> tuple[int, int]:
    """Return the limits of a process' descriptors, soft and hard."""
    limits: tuple[int, int] = process.rlimit(psutil.RLIMIT_NOFILE)
    return limits


@pytest.mark.skipif(not may_raise_limits(), reason="it takes CAP_SYS_RESOURCE")
async def test_the_descriptors_of_all_sessions_are_taken_where_that_is_allowed(
    serve: Serve, upstream: RawServer
) -> None:
    """By all processes; and nothing is said, since all is well."""
    proxy = await serve(upstream.url, "--max-sessions", "600", prefix=LIMITED)
    family = psutil.Process(proxy.process.pid)
    for process in (family, *family.children()):
        soft, hard = descriptors_of(process)
        assert soft == hard >= 2 * 600 + 1000
    assert "too few descriptors" not in proxy.log


async def test_that_there_are_too_few_descriptors_is_said_at_the_start(serve: Serve, upstream: RawServer) -> None:
    """Once, with how many sessions there can be and what would help; it serves all the same."""
    proxy = await serve(upstream.url, "--max-sessions", "3000", prefix=HELD_DOWN)
    assert descriptors_of(psutil.Process(proxy.process.pid)) == (1000, 1000)
    (line,) = [line for line in proxy.lines if "too few descriptors" in line]
    assert f" WARNING too few descriptors limit=1000 sessions={444 * WORKERS} wanted=3000 remedy=" in line
    client = await dial(f"{proxy.url}/")
    await client.send("served")
    assert await (await upstream.accept()).recv() == "served"


async def test_what_descriptors_are_needed_for_is_what_was_asked_for(serve: Serve, upstream: RawServer) -> None:
    """Where the sessions fit nothing is said; without --max-sessions the limit is left as it was given."""
    for options in (("--max-sessions", "400"), ()):
        proxy = await serve(upstream.url, *options, prefix=HELD_DOWN if options else LIMITED)
        assert descriptors_of(psutil.Process(proxy.process.pid)) == (1000, 1000)
        assert "too few descriptors" not in proxy.log


def kibibytes(count: int) -> list[Message]:
    """Return so many messages of 1 KiB that say their place."""
    return numbered("u2c", count, pad=1014)


async def test_bytes_held_in_all(serve: Serve) -> None:
    """Sessions that hold much are held back, new ones refused; what was said arrives, and then all is as before."""
    async with RawServer() as server:
        options = ("--max-held", "2MiB", "--admin", "127.0.0.1:0", "--grace", "60s")
        proxy = await serve(server.url, *options)
        clients, speakers = [], []
        for _ in range(8):
            # Above a segment of loopback: below, TCP's persist timer may wait a minute for a client that reads on.
            clients.append(await dial(proxy.url + "/", receive_buffer=128 * 1024))
            speakers.append(await server.accept())
            clients[-1].pause()
        calm, other = await dial(proxy.url + "/"), await server.accept()
        start, messages = proxy.rss(), kibibytes(6000)

        async def press(speaker: RawSocket) -> None:
            for place in range(0, len(messages), 100):
                await speaker.send(*messages[place : place + 100])

        pressing = [asyncio.create_task(press(speaker)) for speaker in speakers]
        try:
            await eventually(lambda: "held limit reached" in proxy.log, "the limit is reached")
            assert await refusal(proxy) == (503, "too-many-bytes-held")
            for number in range(200):
                await calm.send(f"c{number}")
                assert await other.recv() == f"c{number}"
                await other.send(f"u{number}")
                assert await calm.recv() == f"u{number}"
            seen = await metrics(proxy)
            assert seen['limit_used{limit="held"}'] < 6 * MIB, "what one read brings may come on top for each"
            assert seen['limit{limit="held"}'] == 2 * MIB
            assert seen['limits_reached_total{limit="held"}'] >= 1
            assert proxy.rss() - start < 40 * MIB, "48 MB were said"
            for client in clients:
                client.resume()
            for client in clients:
                assert await client.take(len(messages), within=60) == messages
            await asyncio.gather(*pressing)
        finally:
            for task in pressing:
                task.cancel()
            await asyncio.gather(*pressing, return_exceptions=True)
        await eventually(lambda: "held limit relieved" in proxy.log, "the limit is relieved")
        await dial(proxy.url + "/")
        await eventually_none_held(proxy)


async def eventually_none_held(proxy: Serving) -> None:
    """Wait until all that was held has been given back."""
    async with asyncio.timeout(PATIENCE):
        while (await metrics(proxy))['limit_used{limit="held"}'] > 0:  # noqa: ASYNC110 - it is asked for
            await asyncio.sleep(0.05)


async def test_bytes_of_sessions_that_end_are_given_back(serve: Serve) -> None:
    """When clients do not return, what was held for them is released."""
    async with RawServer() as server:
        proxy = await serve(server.url, "--max-held", "1MiB", "--grace", "500ms", "--admin", "127.0.0.1:0")
        clients, speakers = [], []
        for _ in range(20):
            clients.append(await dial(proxy.url + "/"))
            speakers.append(await server.accept())
        for client in clients:
            client.reset()
        for speaker in speakers:
            await speaker.send(*kibibytes(100))
        await eventually(lambda: "held limit reached" in proxy.log, "the limit is reached")
        await eventually(lambda: "held limit relieved" in proxy.log, "the limit is relieved")
        await eventually_none_held(proxy)
        await dial(proxy.url + "/")


async def test_idle_time(serve: Serve) -> None:
    """A session over which nothing moves ends with 1000 on both legs; those that talk go on."""
    async with ordinary_server(echo) as port, RawServer() as server:
        quiet = await serve(server.url, "--idle-timeout", "400ms", "--admin", "127.0.0.1:0")
        client, upstream = await dial(quiet.url + "/"), await server.accept()
        await client.send("a last word")
        assert await upstream.recv() == "a last word"
        for end in (client, upstream):
            closed = await end.ended()
            assert (closed.code, closed.reason) == (1000, "idle")
        assert (await metrics(quiet))['limits_reached_total{limit="idle-time"}'] == 1
        assert "limit=idle-time" in quiet.log
        # Those that talk do so every few milliseconds; on a busy machine that may be a second.
        busy = await serve(f"ws://127.0.0.1:{port}", "--idle-timeout", "3s")
        async with bystanders(busy):
            await dial(busy.url + "/")
            await eventually(lambda: "limit=idle-time" in busy.log, "the silent one has ended")


async def test_message_size(serve: Serve) -> None:
    """1009 to both legs, a line and a number."""
    async with ordinary_server(echo) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}", "--max-message", "1KiB", "--admin", "127.0.0.1:0")
        async with bystanders(proxy):
            async with ordinary_client(proxy.url) as client:
                with pytest.raises(ConnectionClosedError) as closed:
                    await client.send("x" * 1025)
                    await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
            await eventually(lambda: "limit=message-size" in proxy.log, "it says so")
            assert (await metrics(proxy))['limits_reached_total{limit="message-size"}'] == 1


async def test_message_rate(serve: Serve) -> None:
    """A client that is too fast is read more slowly, and all that it says arrives in order."""
    async with RawServer() as server:
        proxy = await serve(server.url, "--max-rate", "200/s", "--admin", "127.0.0.1:0")
        hasty, upstream = await dial(proxy.url + "/"), await server.accept()
        calm, other = await dial(proxy.url + "/"), await server.accept()
        loop = asyncio.get_running_loop()
        start, messages = loop.time(), numbered("c2u", 1000, pad=1000)
        await hasty.send(*messages)
        for number in range(50):
            await calm.send(f"{number}")
            assert await other.recv() == f"{number}"
        assert await upstream.take(len(messages)) == messages
        # 200 may come at once, and what the last read brings (256 KiB at the most) is not waited for: that leaves 540,
        # or 2.7 s. A slow machine makes it only longer.
        assert loop.time() - start > 1.5
        await proxy.logged("limit=message-rate")
        assert (await metrics(proxy))['limits_reached_total{limit="message-rate"}'] >= 1
        await hasty.fence()


@pytest.mark.parametrize("how", ["takeovers", "handshakes"])
async def test_floods_of_new_connections_leave_nothing(serve: Serve, how: str) -> None:
    """A thousand resumes of one session, and as many heads that are cut: afterwards as many descriptors as before."""
    async with ordinary_server(echo) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}", "--admin", "127.0.0.1:0")
        async with bystanders(proxy):
            before = proxy.descriptors()
            headers = [("X-Connection-Id", "one-id-for-everybody")]
            if how == "takeovers":
                loop = asyncio.get_running_loop()
                began = loop.time()
                for _ in range(10):
                    clients = await asyncio.gather(*(dial(proxy.url + "/", headers) for _ in range(100)))
                    for client in clients:
                        await client.detach()
                # Ten lines and a sum in ten seconds, which is more than this takes but on a busy machine.
                periods = 1 + (loop.time() - began) // 10
                assert len([line for line in proxy.lines if "taken over" in line]) <= 11 * periods
                assert (await metrics(proxy))["takeovers_total"] >= 900
            else:
                for _ in range(1000):
                    async with speaking(proxy, b"GET / HT"):
                        pass
            settled: Callable[[], bool] = lambda: proxy.descriptors() <= before + 2  # noqa: E731
            await eventually(settled, "the descriptors are given back")
