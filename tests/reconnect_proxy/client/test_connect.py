"""The aware client without faults: it feels like `websockets`, and says what it cannot do."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import (
    ConcurrencyError,
    InvalidStatus,
)
from websockets.typing import Subprotocol

from reconnect_proxy.client.connect import connect

from .aware_server import PATIENCE
from .client_rig import Link, echo, eventually, numbered, take


async def test_messages_of_both_kinds_go_both_ways_in_order(link: Link) -> None:
    """Text stays text and bytes stay bytes, at any size, in the order in which they were sent."""
    server, _, url = link
    server.on_message = echo
    messages = [*numbered(1, 50), "", b"", "x" * 300_000, bytes(300_000)]
    async with connect(url, max_size=None) as ws:
        for message in messages:
            await ws.send(message)
        assert await take(ws, len(messages)) == messages
    assert server.session.received == messages


async def test_bytes_like_messages_are_copied_when_sent(link: Link) -> None:
    """A buffer that is changed after send() arrives as it was."""
    server, relay, url = link
    async with connect(url) as ws:
        buffer = bytearray(b"before")
        relay.hold()
        await ws.send(buffer)
        await ws.send(memoryview(buffer))
        buffer[:] = b"behind"
        relay.release()
    assert server.session.received == [b"before", b"before"]


async def test_awaited_connection_is_closed_by_its_user(link: Link) -> None:
    """`await connect()` opens a session that lives until close(), whose code and reason reach the server."""
    server, _, url = link
    ws = await connect(url)
    await ws.send("hello")
    await ws.close(4321, "had enough")
    assert server.session.received == ["hello"]
    await server.session.until(lambda session: session.link is None)
    assert server.session.end == (4321, "had enough")
    assert ws.close_code == 4321
    assert ws.close_reason == "had enough"


async def test_iteration_ends_with_the_session(link: Link) -> None:
    """`async for` yields everything and ends where the server closes with 1000."""
    server, _, url = link
    async with connect(url) as ws:
        server.session.push("one", b"two")
        await server.session.until(lambda session: session.confirmed == 2)
        assert server.session.link is not None
        await server.session.link.close()
        assert [message async for message in ws] == ["one", b"two"]
        assert ws.close_code == 1000


async def test_handshake_arguments_are_passed_on(link: Link) -> None:
    """Headers and subprotocols of the user travel with the first handshake and with every resume."""
    server, relay, url = link
    async with connect(
        url,
        additional_headers={"Authorization": "Bearer x", "X-Trace": "17"},
        subprotocols=[Subprotocol("other"), Subprotocol("chat")],
    ) as ws:
        assert ws.subprotocol == "chat"
        await relay.cut()
        await eventually(lambda: ws.resumes == 1)
        assert ws.subprotocol == "chat"
    assert len(server.requests) == 2
    for request in server.requests:
        assert request.path == "/some/path?and=query"
        assert request.headers["Authorization"] == "Bearer x"
        assert request.headers["X-Trace"] == "17"
        assert request.headers["Sec-WebSocket-Protocol"] == "other, chat"


async def test_first_handshake_states_that_nothing_was_received(link: Link) -> None:
    """A client that names no id opens a session with a count of 0 and takes the id of the answer."""
    server, _, url = link
    async with connect(url) as ws:
        assert ws.session_id == server.session.id
        assert ws.resumable
    (request,) = server.requests
    assert request.headers["X-Reconnect-Received"] == "0"
    assert "X-Connection-Id" not in request.headers
    assert "X-Reconnect-Id" not in request.headers


async def test_chosen_id_names_the_session_and_resumes_it(link: Link) -> None:
    """connection_id goes into the first handshake; resumes name it in X-Reconnect-Id alone."""
    server, relay, url = link
    async with connect(url, connection_id="chosen-by-the-client") as ws:
        assert ws.session_id == "chosen-by-the-client"
        await relay.cut()
        await eventually(lambda: ws.resumes == 1)
    first, second = server.requests
    assert first.headers["X-Connection-Id"] == "chosen-by-the-client"
    assert second.headers["X-Reconnect-Id"] == "chosen-by-the-client"
    assert "X-Connection-Id" not in second.headers


@pytest.mark.parametrize("bad", ["short", "x" * 129, "sixteen characters", "sechzehn-zeichenä"])
def test_illegal_id_is_refused_before_anything_is_dialled(bad: str) -> None:
    """An id that the proxy would refuse raises at once and is not repeated in the error: it may be a secret."""
    with pytest.raises(ValueError, match="an id is 16 to 128") as raised:
        connect("ws://127.0.0.1:1", connection_id=bad)
    assert bad not in str(raised.value)


@pytest.mark.parametrize("name", ["X-Connection-Id", "x-reconnect-id", "X-Reconnect-Received", "X-Reconnect"])
def test_headers_of_the_protocol_are_not_the_users(name: str) -> None:
    """A header that the client itself sets is refused among additional_headers."""
    with pytest.raises(ValueError, match="which the client sets"):
        connect("ws://127.0.0.1:1", additional_headers={name: "0"})


def test_control_messages_cannot_be_asked_for() -> None:
    """X-Replay-Id would bring messages that are not counted, and the client's count would be wrong."""
    with pytest.raises(ValueError, match="must not get control messages"):
        connect("ws://127.0.0.1:1", additional_headers={"X-Replay-Id": "any"})


@pytest.mark.parametrize("option", ["sock", "create_connection"])
def test_options_that_cannot_outlive_a_link_are_refused(option: str) -> None:
    """An option of websockets.connect that makes no sense here is an error that says why."""
    with pytest.raises(TypeError, match=f"does not take {option}="):
        connect("ws://127.0.0.1:1", **{option: None})  # type: ignore[arg-type]


def test_queue_limit_below_one_byte_is_refused() -> None:
    """A queue that can hold nothing would never take a message."""
    with pytest.raises(ValueError, match="max_queue is 0 bytes"):
        connect("ws://127.0.0.1:1", max_queue=0)


async def test_what_is_no_message_is_refused(link: Link) -> None:
    """send() takes str and bytes-like objects; anything else raises TypeError, and the session goes on."""
    server, _, url = link
    async with connect(url) as ws:
        with pytest.raises(TypeError, match="not int"):
            await ws.send(17)  # type: ignore[arg-type]
        await ws.send("fine")
    assert server.session.received == ["fine"]


async def test_first_connection_fails_as_with_websockets(link: Link) -> None:
    """A server that is not there raises OSError, one that refuses raises InvalidStatus; nothing is retried."""
    server, relay, url = link
    server.refuse = 503
    with pytest.raises(InvalidStatus):
        await connect(url)
    assert relay.accepted == 1
    await relay.close()
    with pytest.raises(ConnectionRefusedError):
        await connect(url)


async def test_recv_times_out_and_loses_nothing(link: Link) -> None:
    """recv(timeout) raises TimeoutError, and the message that comes later is the next one received."""
    server, _, url = link
    async with connect(url) as ws:
        with pytest.raises(TimeoutError):
            await ws.recv(0.001)
        server.session.push("late")
        assert await ws.recv(PATIENCE) == "late"


async def test_two_tasks_cannot_receive_at_once(link: Link) -> None:
    """A second recv() while one waits raises ConcurrencyError, as with websockets."""
    server, _, url = link
    async with connect(url) as ws:
        waiting = asyncio.create_task(ws.recv())
        await asyncio.sleep(0)
        with pytest.raises(ConcurrencyError):
            await ws.recv()
        server.session.push("for the first")
        assert await waiting == "for the first"
