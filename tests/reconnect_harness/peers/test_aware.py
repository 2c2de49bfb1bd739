"""The aware upstream, compared with PROTOCOL.md by a plain websockets client that sends the headers itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from reconnect_harness.history.message import decode
from reconnect_harness.history.record import End
from reconnect_harness.history.recorder import Recorder
from reconnect_harness.peers.aware import AwareUpstream
from reconnect_harness.peers.unconfirmed import PING_AFTER_MESSAGES
from reconnect_harness.peers.upstream_connection import UpstreamConnection
from reconnect_harness.peers.workload import Workload

ID = "an-id-of-the-client-0123"
FIRST = {"X-Connection-Id": ID, "X-Reconnect-Received": "0"}


class Watching(ClientConnection):
    """A client that keeps the payloads of the Pings that it receives."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pings: list[int] = []

    def process_event(self, event: Event) -> None:
        """Keep Pings, and process the event."""
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            assert len(event.data) == 8
            self.pings.append(int.from_bytes(event.data, "big"))
        super().process_event(event)


class Server:
    """A running aware upstream."""

    def __init__(self, url: str, upstream: AwareUpstream) -> None:
        self.url = url
        self.upstream = upstream

    async def dial(self, headers: dict[str, str]) -> Watching:
        """Connect with these headers; the caller closes."""
        connection = await connect(
            self.url, additional_headers=headers, proxy=None, compression=None, create_connection=Watching
        )
        assert isinstance(connection, Watching)
        return connection

    async def resume(self, count: int) -> Watching:
        """Resume the session, having received `count` messages."""
        return await self.dial({"X-Reconnect-Id": ID, "X-Reconnect-Received": str(count)})

    async def refusal(self, headers: dict[str, str]) -> int:
        """Return the status with which a handshake is refused."""
        with pytest.raises(InvalidStatus) as refused:
            await self.dial(headers)
        assert refused.value.response.headers["Content-Type"] == "application/json"
        return refused.value.response.status_code


def _serve(upstream: AwareUpstream) -> Callable[[ServerConnection], Awaitable[None]]:
    async def serve_one(connection: ServerConnection) -> None:
        assert isinstance(connection, UpstreamConnection)
        await upstream.serve(connection)

    return serve_one


@asynccontextmanager
async def _serving(folder: Path, rate: float, keep: float | None = None) -> AsyncIterator[Server]:
    recorder = Recorder(folder / "history", End.UPSTREAM)
    upstream = AwareUpstream("u1", Workload(rate, 40, 40), recorder, "1", keep=keep)
    async with serve(
        _serve(upstream),
        "127.0.0.1",
        0,
        process_request=upstream.admit,
        process_response=upstream.greet,
        create_connection=UpstreamConnection,
        compression=None,
    ) as server:
        yield Server(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/", upstream)
    await upstream.close()
    recorder.close()


@pytest.fixture
async def pushing(tmp_path: Path) -> AsyncIterator[Server]:
    """An upstream that pushes 500 messages a second."""
    async with _serving(tmp_path, 500) as server:
        yield server


@pytest.fixture
async def silent(tmp_path: Path) -> AsyncIterator[Server]:
    """An upstream that pushes nothing."""
    async with _serving(tmp_path, 0) as server:
        yield server


def _header(connection: ClientConnection, name: str) -> str | None:
    assert connection.response is not None
    return connection.response.headers.get(name)


async def _read(connection: ClientConnection, count: int) -> list[int]:
    return [decode(await connection.recv()).number for _ in range(count)]


async def _lose(connection: ClientConnection) -> None:
    """Abort the connection, without a close frame."""
    connection.transport.abort()
    await connection.wait_closed()


async def test_a_new_session_gets_its_id_and_the_count_0(silent: Server) -> None:
    """Section 3: the 101 has the id and, for an aware peer, the count."""
    async with await silent.dial(FIRST) as connection:
        assert _header(connection, "X-Connection-Id") == ID
        assert _header(connection, "X-Reconnect-Received") == "0"


async def test_a_session_without_an_id_gets_one(silent: Server) -> None:
    """The server makes a legal id."""
    async with await silent.dial({"X-Reconnect-Received": "0"}) as connection:
        assert len(_header(connection, "X-Connection-Id") or "") >= 16


async def test_a_resume_continues_after_the_stated_count(pushing: Server) -> None:
    """Messages that the peer has are not resent; all others are, in order, even if the dead link had sent them."""
    connection = await pushing.dial(FIRST)
    assert await _read(connection, 20) == list(range(1, 21))
    await _lose(connection)
    async with await pushing.resume(13) as connection:
        assert await _read(connection, 100) == list(range(14, 114))


async def test_messages_that_are_pushed_without_a_link_wait(pushing: Server) -> None:
    """The session outlives its link: it makes messages without one, and delivers them on the next."""
    connection = await pushing.dial(FIRST)
    await _read(connection, 1)
    await _lose(connection)
    waiting = asyncio.get_running_loop().time() + 0.3
    async with await pushing.resume(1) as connection:
        assert await _read(connection, 200) == list(range(2, 202))
        assert asyncio.get_running_loop().time() > waiting


async def test_a_count_ping_follows_a_burst(pushing: Server) -> None:
    """Section 4: at the latest after 64 messages, with the number of the last one before it."""
    async with await pushing.dial(FIRST) as connection:
        await _read(connection, 3 * PING_AFTER_MESSAGES)
        steps = [b - a for a, b in zip([0, *connection.pings], connection.pings, strict=False)]
        assert len(steps) >= 2
        assert all(0 < step <= PING_AFTER_MESSAGES for step in steps)


async def test_a_count_ping_follows_the_last_message(pushing: Server) -> None:
    """Section 4: when no more messages follow, a Ping asks for the confirmation."""
    async with await pushing.dial(FIRST) as connection:
        await _read(connection, 5)
        await pushing.upstream.quiet()
        last = 5
        while True:
            async with asyncio.timeout(20):
                if connection.pings and connection.pings[-1] >= last:
                    break
                try:
                    async with asyncio.timeout(0.05):
                        (last,) = await _read(connection, 1)
                except TimeoutError:
                    continue
        assert connection.pings[-1] == last


async def test_a_count_below_what_was_confirmed_is_refused(pushing: Server) -> None:
    """A peer that has answered a Ping cannot state a lower count: 409."""
    connection = await pushing.dial(FIRST)
    await _read(connection, 2 * PING_AFTER_MESSAGES)
    assert connection.pings
    confirmed = connection.pings[0]
    # The Pong for the first Ping is on its way; the answer to a Ping of this side shows that it has arrived.
    await (await connection.ping())
    await asyncio.sleep(0)
    await _lose(connection)
    headers = {"X-Reconnect-Id": ID, "X-Reconnect-Received": str(confirmed - 1)}
    assert await pushing.refusal(headers) == 409


async def test_a_count_above_what_was_sent_is_refused(pushing: Server) -> None:
    """A peer cannot have received what was never sent: 409."""
    connection = await pushing.dial(FIRST)
    await _lose(connection)
    assert await pushing.refusal({"X-Reconnect-Id": ID, "X-Reconnect-Received": "1000000"}) == 409


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Reconnect-Id": "nobody-has-this-id-00", "X-Reconnect-Received": "0"}, 410),
        ({"X-Reconnect-Id": "short", "X-Reconnect-Received": "0"}, 400),
        ({"X-Connection-Id": "has a blank in it 0000", "X-Reconnect-Received": "0"}, 400),
        ({"X-Connection-Id": ID, "X-Reconnect-Received": "-1"}, 400),
        ({"X-Connection-Id": ID, "X-Reconnect-Received": "many"}, 400),
    ],
)
async def test_malformed_and_unknown_ids_are_refused(silent: Server, headers: dict[str, str], status: int) -> None:
    """Section 3: the statuses of refusals."""
    assert await silent.refusal(headers) == status


async def test_received_messages_are_counted_even_if_the_link_dies_at_once(silent: Server) -> None:
    """Section 4: it counts every message before its Pong: it reads its buffer first, and then states its count."""
    received = 0
    connection = await silent.dial(FIRST)
    for _ in range(20):
        for _ in range(200):
            await connection.send("x")
        answer = await connection.ping()
        await answer
        await _lose(connection)
        received += 200
        connection = await silent.resume(0)
        assert _header(connection, "X-Reconnect-Received") == str(received)
    await connection.close()


async def test_a_resume_takes_a_session_over_from_a_link_that_looks_open(silent: Server) -> None:
    """All messages of the old link are counted, and it is closed."""
    old = await silent.dial(FIRST)
    await old.send("one")
    await (await old.ping())
    async with await silent.resume(0) as new:
        assert _header(new, "X-Reconnect-Received") == "1"
        with pytest.raises(ConnectionClosed):
            await old.recv()


async def test_a_repeated_first_dial_finds_its_session(silent: Server) -> None:
    """Section 3: a known id resumes its session, with either header. The first 101 may have been lost."""
    connection = await silent.dial(FIRST)
    await connection.send("one")
    await (await connection.ping())
    await _lose(connection)
    async with await silent.dial(FIRST) as connection:
        assert _header(connection, "X-Reconnect-Received") == "1"


@pytest.mark.parametrize(("code", "lives"), [(1000, False), (3000, False), (1001, True), (1012, True)])
async def test_a_session_ends_with_a_final_close_code(silent: Server, code: int, lives: bool) -> None:
    """After a retryable code it can be resumed, after any other it cannot: 410."""
    connection = await silent.dial(FIRST)
    await connection.close(code)
    if lives:
        async with await silent.resume(0):
            pass
    else:
        assert await silent.refusal({"X-Reconnect-Id": ID, "X-Reconnect-Received": "0"}) == 410


async def test_a_peer_that_is_not_aware_gets_no_count_and_no_resume(pushing: Server) -> None:
    """Its session ends with its connection."""
    connection = await pushing.dial({"X-Connection-Id": ID})
    assert _header(connection, "X-Reconnect-Received") is None
    assert await _read(connection, 3) == [1, 2, 3]
    await _lose(connection)
    assert await pushing.refusal({"X-Reconnect-Id": ID, "X-Reconnect-Received": "0"}) == 410


async def test_random_cuts_lose_and_repeat_nothing(pushing: Server) -> None:
    """Thirty links of one session, each cut after a few messages: the numbers are those of one long link."""
    seen: list[int] = []
    headers = FIRST
    for cut in range(30):
        connection = await pushing.dial(headers)
        seen += await _read(connection, 1 + cut * 7 % 40)
        # Pongs have confirmed the messages that are still in the buffer, so they are taken too.
        connection.transport.abort()
        try:
            while True:
                seen += await _read(connection, 1)
        except ConnectionClosed:
            pass
        headers = {"X-Reconnect-Id": ID, "X-Reconnect-Received": str(len(seen))}
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) > 500


async def test_a_session_is_kept_for_a_given_time(tmp_path: Path) -> None:
    """Without a link for longer than that it is forgotten."""
    async with _serving(tmp_path, 0, keep=0.05) as server:
        upstream = server.upstream
        await _lose(await server.dial(FIRST))
        async with asyncio.timeout(30):
            while upstream._sessions:  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0.01)
        assert await server.refusal({"X-Reconnect-Id": ID, "X-Reconnect-Received": "0"}) == 410
