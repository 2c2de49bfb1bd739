"""Ordinary mock upstreams, in a process of their own, seen by a plain websockets client."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction, MessageKind, decode, encode
from tests.reconnect_harness.peers.upstream_rig import Start, upstreams_in

ID = "an-id-of-the-client-0123"


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts upstreams."""
    async with upstreams_in(tmp_path) as start:
        yield start


def _dial(url: str, headers: dict[str, str] | None = None) -> connect:
    return connect(url, proxy=None, compression=None, additional_headers=headers)


async def _numbers(connection: ClientConnection, count: int) -> list[int]:
    return [decode(await connection.recv()).number for _ in range(count)]


async def test_a_recording_upstream_records_what_it_receives(start: Start, tmp_path: Path) -> None:
    """And reports the number of distinct messages."""
    actor, url = await start("record", 0)
    async with _dial(url) as connection:
        for number in (1, 2, 2, 3):
            await connection.send(encode("c01", "c2u", number, 100, MessageKind.BINARY))
        await (await connection.ping())
        assert (await actor.ask("count"))["arrived"] == 3
    await actor.stop()
    found = History.merge([tmp_path / "history"])
    assert [(event.stream, event.number, event.kind) for event in found.messages] == [
        ("c01", number, MessageKind.BINARY) for number in (1, 2, 2, 3)
    ]
    assert [(event.event, event.code) for event in found.links] == [("connected", None), ("disconnected", 1000)]


@pytest.mark.parametrize("compress", [False, True])
async def test_an_upstream_accepts_compression_if_it_is_told(start: Start, compress: bool) -> None:
    """The messages that it sends are the same."""
    _, url = await start("echo", 0, compress=compress)
    async with connect(url, proxy=None) as connection:
        assert connection.response is not None
        assert ("Sec-WebSocket-Extensions" in connection.response.headers) is compress
        whole = encode("c01", "c2u", 1, 5000, MessageKind.TEXT)
        await connection.send(whole)
        assert await connection.recv() == whole


async def test_an_echo_is_unchanged(start: Start) -> None:
    """Text comes back as text, binary as binary, with the same bytes."""
    _, url = await start("echo", 0)
    async with _dial(url) as connection:
        for kind in MessageKind:
            whole = encode("c01", "c2u", 1, 5000, kind)
            await connection.send(whole)
            assert await connection.recv() == whole


async def test_a_push_continues_its_numbers_over_the_links_of_a_session(start: Start) -> None:
    """With either header; messages in flight on the dead link are not resent."""
    _, url = await start("push", 200)
    async with _dial(url, {"X-Connection-Id": ID}) as connection:
        first = [decode(await connection.recv()) for _ in range(10)]
    async with _dial(url, {"X-Reconnect-Id": ID}) as connection:
        second = [decode(await connection.recv()) for _ in range(10)]
    assert [label.number for label in first] == list(range(1, 11))
    assert second[0].number > 10
    assert {label.stream for label in first + second} == {"u1.1"}


async def test_a_push_is_a_stream_for_each_connection_without_an_id(start: Start) -> None:
    """Two clients get streams of their own, each from 1."""
    _, url = await start("push", 200)
    async with _dial(url) as one, _dial(url) as two:
        labels = [decode(await connection.recv()) for connection in (one, two)]
    assert [(label.stream, label.number, label.direction) for label in labels] == [
        ("u1.1", 1, Direction.U2C),
        ("u1.2", 1, Direction.U2C),
    ]


async def test_a_push_ends_on_the_command_quiet(start: Start) -> None:
    """From then on the number of sent messages does not grow, and the client receives all of them."""
    actor, url = await start("push", 200)
    async with _dial(url) as connection:
        await _numbers(connection, 5)
        await actor.ask("quiet")
        sent = (await actor.ask("count"))["sent"]
        assert await _numbers(connection, sent - 5) == list(range(6, sent + 1))
        assert (await actor.ask("count"))["sent"] == sent


async def test_an_upstream_closes_its_connections_on_sigterm(start: Start, tmp_path: Path) -> None:
    """With 1012, after the messages that it has pushed; then it ends with status 0."""
    actor, url = await start("push", 200)
    async with _dial(url) as connection:
        await connection.recv()
        actor.send_signal(signal.SIGTERM)
        numbers = [1]
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                numbers.append(decode(await connection.recv()).number)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "service restart")
    assert await actor.wait() == 0
    found = History.merge([tmp_path / "history"])
    (stream,) = found.streams[Direction.U2C]
    assert [event.number for event in stream.owed] == numbers == list(range(1, len(numbers) + 1))
    assert [(event.event, event.asked, event.code) for event in found.links][1:] == [("disconnected", True, 1012)]


async def test_the_next_upstream_continues_the_record_of_a_killed_one(start: Start, tmp_path: Path) -> None:
    """It continues the counts, and its streams are new ones."""
    actor, url = await start("push", 200)
    async with _dial(url, {"X-Connection-Id": ID}) as connection:
        assert decode(await connection.recv()).stream == "u1.1"
        await connection.send(encode("c01", "c2u", 1, 100, MessageKind.TEXT))
        await (await connection.ping())
    actor.send_signal(signal.SIGKILL)
    await actor.wait()
    actor, url = await start("push", 200)
    assert (await actor.ask("count"))["arrived"] == 1
    async with _dial(url, {"X-Reconnect-Id": ID}) as connection:
        label = decode(await connection.recv())
    assert (label.stream, label.number) == ("u1.2", 1)


async def test_messages_before_a_pong_are_in_the_record_of_a_killed_upstream(start: Start, tmp_path: Path) -> None:
    """Even if the kill follows the Pong at once: every message that a proxy counts as delivered is recorded."""
    actor, url = await start("record", 0)
    async with _dial(url) as connection:
        for number in range(1, 201):
            await connection.send(encode("c01", "c2u", number, 100, MessageKind.TEXT))
        await (await connection.ping())
        actor.send_signal(signal.SIGKILL)
    assert len(History.merge([tmp_path / "history"]).messages) == 200
