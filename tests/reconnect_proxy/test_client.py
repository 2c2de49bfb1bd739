"""The aware client against a small aware server, over real sockets and a link that is cut, held and taken down."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidStatus,
    ProtocolError,
)
from websockets.typing import Subprotocol

from reconnect_proxy.client import Connection, SessionLost, connect

from .aware_server import PATIENCE, AwareServer, Data, ServerSession
from .cuttable_relay import CuttableRelay, Way

Link = tuple[AwareServer, CuttableRelay, str]


def echo(session: ServerSession, message: Data) -> None:
    """Send back what came."""
    session.push(message)


def numbered(first: int, last: int) -> list[Data]:
    """Messages first..last, of both kinds, of sizes from a few bytes to a few KiB, each one recognizable."""
    return [f"{n}:" + "é" * (n % 977) if n % 2 else f"{n}:".encode() + bytes(n % 3001) for n in range(first, last + 1)]


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds; for what has no event to wait for."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(0.001)


async def take(ws: Connection, count: int) -> list[Data]:
    """Receive `count` messages."""
    return [await ws.recv(PATIENCE) for _ in range(count)]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """An aware server that pushes nothing, the link to it, and the URL of that link."""
    async with AwareServer() as server, CuttableRelay(server.port) as relay:
        yield server, relay, f"ws://127.0.0.1:{relay.port}/some/path?and=query"


# Without faults.


async def test_messages_of_both_kinds_go_both_ways_in_order(link: Link) -> None:
    """Text stays text and bytes stay bytes, whatever their size, in the order in which they were sent."""
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
    """X-Replay-Id would bring messages that nobody counts, and the client's count would be wrong."""
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


# Drops.


@pytest.mark.parametrize("seed", range(6))
async def test_every_message_arrives_once_through_random_cuts(link: Link, seed: int) -> None:
    """Both directions are complete, in order and without a repetition, however the link is cut, in mid-frame too."""
    server, relay, url = link
    dice = random.Random(seed)
    up, down = numbered(1, 400), numbered(1001, 1400)

    async def cut_at_random() -> None:
        while True:
            await asyncio.sleep(dice.uniform(0, 0.05))
            match dice.randrange(4):
                case 0:
                    await relay.cut()
                case 1:
                    relay.cut_after(Way.UP, dice.randrange(20_000))
                case 2:
                    relay.cut_after(Way.DOWN, dice.randrange(20_000))
                case 3:
                    relay.down = True
                    await relay.cut()
                    await asyncio.sleep(dice.uniform(0, 0.05))
                    relay.down = False

    async def speak(say: Callable[[Data], Awaitable[None]], messages: list[Data]) -> None:
        for message in messages:
            await say(message)
            if dice.random() < 0.1:
                await asyncio.sleep(dice.uniform(0, 0.01))

    async def push(message: Data) -> None:
        server.session.push(message)

    async with asyncio.timeout(PATIENCE), connect(url, close_timeout=PATIENCE) as ws:
        cutting = asyncio.create_task(cut_at_random())
        async with asyncio.TaskGroup() as group:
            group.create_task(speak(ws.send, up))
            group.create_task(speak(push, down))
            received = await take(ws, len(down))
            await server.session.until(lambda session: len(session.received) >= len(up))
        cutting.cancel()
        await asyncio.wait([cutting])
        relay.down = False
        assert ws.resumes > 0
    assert received == down
    assert server.session.received == up


@pytest.mark.parametrize("way", Way)
async def test_message_cut_in_mid_frame_arrives_whole_and_once(link: Link, way: Way) -> None:
    """A link that dies within a frame leaves no part of it behind: the whole message comes over the next link."""
    server, relay, url = link
    server.on_message = echo
    big = bytes(range(256)) * 400
    async with connect(url) as ws:
        await ws.send("before")
        assert await ws.recv(PATIENCE) == "before"
        relay.cut_after(way, 50_000)
        await ws.send(big)
        await ws.send("behind")
        assert await take(ws, 2) == [big, "behind"]
        assert ws.resumes == 1
    assert server.session.received == ["before", big, "behind"]


async def test_fragments_of_a_message_cut_short_are_not_counted(link: Link) -> None:
    """Of a fragmented message that never ended nothing is delivered, and the count stated next is without it."""
    server, relay, url = link
    async with connect(url) as ws:
        await server.session.until(lambda session: session.link)
        assert server.session.link is not None
        server.session.push("first")
        await server.session.until(lambda session: session.confirmed == 1)

        async def never_ends() -> AsyncIterator[str]:
            yield "a wh"
            yield "ole"
            await server.session.until(lambda session: len(session.stated) > 1)

        sending = asyncio.create_task(server.session.link.send(never_ends()))
        await asyncio.sleep(0)
        server.session.push("a whole one")
        # The client has read the fragments when it answers what comes behind them.
        await (await server.session.link.ping())
        await relay.cut()
        assert await take(ws, 2) == ["first", "a whole one"]
        assert server.session.stated == [0, 1]
        with pytest.raises(ConnectionClosed):
            await sending


async def test_silent_link_is_given_up_and_replaced(link: Link) -> None:
    """A link that says nothing for ping_interval + ping_timeout is lost, and what was said into it comes again."""
    server, relay, url = link
    async with connect(url, ping_interval=0.1, ping_timeout=0.1, open_timeout=0.3) as ws:
        server.session.push("heard")
        assert await ws.recv(PATIENCE) == "heard"
        relay.hold()
        await ws.send("into the void")
        server.session.push("out of the void")
        await eventually(lambda: relay.accepted > 1)
        await relay.cut()
        relay.release()
        assert await ws.recv(PATIENCE) == "out of the void"
        await server.session.until(lambda session: session.received)
    assert server.session.received == ["into the void"]


async def test_quiet_link_that_answers_pings_is_kept(link: Link) -> None:
    """Silence of the server's application is not silence of the link: Pongs keep it."""
    server, relay, url = link
    async with connect(url, ping_interval=0.02, ping_timeout=0.5) as ws:
        with pytest.raises(TimeoutError):
            await ws.recv(0.7)
        assert relay.accepted == 1
        assert ws.resumes == 0
    assert server.session.received == []


async def test_without_ping_interval_and_timeout_silence_is_never_judged(link: Link) -> None:
    """None switches the watch off, as with websockets; what is sent is confirmed all the same."""
    server, relay, url = link
    async with connect(url, ping_interval=None, ping_timeout=None) as ws:
        await ws.send("hello")
        await server.session.until(lambda session: session.received)
        await eventually(lambda: not ws._outbox.bytes_held)
        assert relay.accepted == 1


async def test_link_that_the_user_does_not_read_is_kept(link: Link) -> None:
    """A full inbox is not silence: the link is not judged while nothing is read, and nothing is lost on it."""
    server, relay, url = link
    messages = [bytes([n % 256]) * 10_000 for n in range(300)]
    async with connect(url, max_queue=20_000, ping_interval=0.05, ping_timeout=0.05) as ws:
        server.session.push(*messages)
        await ws.send("sent while nothing is read")
        await server.session.until(lambda session: session.received)
        await asyncio.sleep(0.5)
        assert relay.accepted == 1
        assert await take(ws, len(messages)) == messages
    assert server.session.received == ["sent while nothing is read"]


async def test_what_was_answered_with_a_pong_is_counted_when_the_link_dies(link: Link) -> None:
    """What the client has answered with a Pong it counts, even where its user has taken nothing and the link is gone.

    The messages come in one piece with the Ping behind them. websockets parses it at one go and answers the Ping; the
    inbox is full with the first few messages, the others lie in the buffer of websockets, which has stopped reading. So
    it is the client's next message that finds the link dead, and the count stated then must be that of the Pong.
    """
    server, relay, url = link
    messages: list[Data] = [f"message {n}" for n in range(500)]
    server.ping_every = 500
    async with connect(url, max_queue=1000) as ws:
        await server.session.until(lambda session: session.link)
        relay.hold()
        server.session.push(*messages)
        # A frame has two bytes before its payload, and the Ping is ten bytes.
        await eventually(lambda: relay.held == sum(len(message) + 2 for message in messages) + 10)
        relay.release()
        await server.session.until(lambda session: session.confirmed == 500)
        await relay.cut()
        sent: list[Data] = []
        while len(server.session.stated) < 2:
            await ws.send(f"are you there {len(sent)}")
            sent.append(f"are you there {len(sent)}")
            await asyncio.sleep(0.001)
        assert server.session.stated == [0, 500]
        assert await take(ws, 500) == messages
    assert server.session.received == sent


async def test_draining_goes_past_the_limit_of_the_inbox(link: Link) -> None:
    """Where the inbox fills up again while a dead link is drained, the rest is counted all the same."""
    server, _, url = link
    messages: list[Data] = [f"message {n}" for n in range(500)]
    server.ping_every = 500
    async with connect(url, max_queue=1000) as ws:
        server.session.push(*messages)
        await eventually(lambda: ws._inbox.full)
        received = [await ws.recv()]
        # The connection is lost first, and then there is room again: so that the drain meets the limit once more.
        ws._connection.transport.abort()
        while ws._inbox.full:
            received.append(await ws.recv())
        await server.session.until(lambda session: len(session.stated) == 2)
        assert server.session.stated[1] >= server.session.confirmed
        assert received + await take(ws, 500 - len(received)) == messages


async def test_what_was_not_confirmed_is_sent_from_where_the_proxy_is(link: Link) -> None:
    """A proxy that has more than it confirmed is sent only what comes after it."""
    server, relay, url = link
    async with connect(url) as ws:
        await server.session.until(lambda session: session.link)
        for n in range(30):
            await ws.send(f"{n}")
        # All are there, and the Ping that would confirm them comes 100 ms later.
        await server.session.until(lambda session: len(session.received) == 30)
        await relay.cut()
        await ws.send("30")
        await server.session.until(lambda session: len(session.received) > 30)
    assert server.session.received == [f"{n}" for n in range(31)]


# The end of a session.


async def test_unknown_session_is_lost_with_what_was_unconfirmed(link: Link) -> None:
    """A 410 ends the session: what was received is delivered, then recv and send raise SessionLost."""
    server, relay, url = link
    async with connect(url) as ws:
        server.session.push("received before")
        await server.session.until(lambda session: session.confirmed == 1)
        server.sessions.clear()
        relay.hold()
        await ws.send("perhaps")
        await ws.send(b"perhaps not")
        await relay.cut()
        relay.release()
        await ws.wait_closed()
        assert await ws.recv() == "received before"
        with pytest.raises(SessionLost, match="410") as raised:
            await ws.recv()
        assert raised.value.status == 410
        assert raised.value.unconfirmed == ("perhaps", b"perhaps not")
        with pytest.raises(SessionLost):
            await ws.send("too late")
        assert ws.unconfirmed == ("perhaps", b"perhaps not")


async def test_session_lost_is_a_connection_closed(link: Link) -> None:
    """Programs that catch websockets' ConnectionClosedError need not know SessionLost; iteration raises it too."""
    server, relay, url = link
    async with connect(url) as ws:
        server.sessions.clear()
        await relay.cut()
        with pytest.raises(ConnectionClosedError):
            async for _ in ws:
                pytest.fail("there was nothing to receive")
        assert ws.close_code == 1006


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
async def test_final_refusal_ends_the_session(link: Link, status: int) -> None:
    """A resume that is refused for good is not tried again, and the error carries the status."""
    server, relay, url = link
    async with connect(url) as ws:
        server.refuse = status
        await relay.cut()
        with pytest.raises(SessionLost) as raised:
            await ws.recv(PATIENCE)
        assert raised.value.status == status
        assert len(server.requests) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_passing_refusal_is_tried_again(link: Link, status: int) -> None:
    """A resume that is refused for the moment is tried until it is not."""
    server, relay, url = link
    async with connect(url) as ws:
        server.refuse = status
        await relay.cut()
        await ws.send("patience")
        await eventually(lambda: len(server.requests) >= 3)
        server.refuse = None
        await server.session.until(lambda session: session.received)
    assert server.session.received == ["patience"]


async def test_proxy_that_received_more_than_was_sent_ends_the_session(link: Link) -> None:
    """A count above what was sent says that the histories disagree: nobody guesses."""
    server, relay, url = link
    async with connect(url) as ws:
        server.misstate = 1
        await relay.cut()
        with pytest.raises(SessionLost, match="disagrees"):
            await ws.recv(PATIENCE)
        await eventually(lambda: relay.links == 0)


async def test_proxy_that_forgot_what_it_confirmed_ends_the_session(link: Link) -> None:
    """A count below what was confirmed by a Pong ends the session, and what is unconfirmed by then is told."""
    server, relay, url = link
    async with connect(url) as ws:
        await ws.send("confirmed")
        await server.session.until(lambda session: session.received)
        # A close delivers first, so its wait shows the confirmation; here nothing else does.
        await eventually(lambda: not ws._outbox.bytes_held)
        server.misstate = -1
        await relay.cut()
        with pytest.raises(SessionLost, match="disagrees") as raised:
            await ws.recv(PATIENCE)
        assert raised.value.unconfirmed == ()


async def test_known_id_with_another_history_is_refused_at_once(link: Link) -> None:
    """A chosen id whose session has a past raises SessionLost from connect(), and leaves no connection."""
    server, relay, url = link
    server.misstate = 3
    with pytest.raises(SessionLost, match="disagrees"):
        await connect(url, connection_id="used-in-another-life")
    server.refuse = 409
    with pytest.raises(SessionLost) as raised:
        await connect(url, connection_id="used-in-another-life")
    assert raised.value.status == 409
    await eventually(lambda: relay.links == 0)


async def test_retry_budget_is_spent(link: Link) -> None:
    """After retry_for without a link the session is lost: recv and send raise, and say what was unconfirmed."""
    _, relay, url = link
    async with connect(url, retry_for=0.3) as ws:
        relay.down = True
        await relay.cut()
        await ws.send("never arrives")
        with pytest.raises(SessionLost, match=r"no link for 0\.3 s") as raised:
            await ws.recv(PATIENCE)
        assert raised.value.status is None
        assert raised.value.unconfirmed == ("never arrives",)
        with pytest.raises(SessionLost):
            await ws.send("too late")


async def test_budget_holds_against_a_proxy_that_accepts_and_drops(link: Link) -> None:
    """Links that carry nothing do not start the budget afresh: such a proxy is not dialled for ever."""
    _, relay, url = link
    async with connect(url, retry_for=0.5) as ws:

        async def drop() -> None:
            dropped = ws.resumes
            await relay.cut()
            await eventually(lambda: ws.resumes > dropped)

        async def drop_each() -> None:
            while True:
                await drop()

        dropping = asyncio.create_task(drop_each())
        with pytest.raises(SessionLost, match="no link for"):
            await ws.recv(PATIENCE)
        dropping.cancel()
        await asyncio.wait([dropping])
        assert ws.resumes >= 1


async def test_budget_starts_afresh_with_a_link_that_carries(link: Link) -> None:
    """A session may live through drops for longer than retry_for, as long as messages come through in between."""
    server, relay, url = link
    server.on_message = echo
    async with connect(url, retry_for=0.5) as ws:
        began = asyncio.get_running_loop().time()
        count = 0
        while asyncio.get_running_loop().time() < began + 1.2:
            await relay.cut()
            await ws.send(f"{count}")
            assert await ws.recv(PATIENCE) == f"{count}"
            count += 1
    assert server.session.received == [f"{n}" for n in range(count)]


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
async def test_passing_close_is_resumed(link: Link, code: int) -> None:
    """A close that promises a return is healed like a drop."""
    server, _, url = link
    async with connect(url) as ws:
        server.session.push("before")
        await server.session.until(lambda session: session.confirmed == 1)
        assert server.session.link is not None
        await server.session.link.close(code, "be right back")
        server.session.push("behind")
        assert await take(ws, 2) == ["before", "behind"]
        assert ws.resumes == 1


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1009, 1010, 1014, 3000, 4000, 4999])
async def test_final_close_ends_the_session_behind_what_was_received(link: Link, code: int) -> None:
    """A close for good is raised as websockets' ConnectionClosed, when everything received was taken."""
    server, relay, url = link
    async with connect(url) as ws:
        server.session.push("the last words")
        await server.session.until(lambda session: session.confirmed == 1)
        assert server.session.link is not None
        await server.session.link.close(code, "that was it")
        await ws.wait_closed()
        assert await ws.recv() == "the last words"
        for call in (ws.recv(), ws.send("too late")):
            with pytest.raises(ConnectionClosedOK if code == 1000 else ConnectionClosedError) as raised:
                await call
            assert not isinstance(raised.value, SessionLost)
            assert raised.value.rcvd is not None
            assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (code, "that was it")
        assert (ws.close_code, ws.close_reason) == (code, "that was it")
        assert relay.accepted == 1


async def test_message_above_max_size_ends_the_session(link: Link) -> None:
    """What the client itself refuses would come again over the next link: the session ends with 1009."""
    server, relay, url = link
    async with connect(url, max_size=1000) as ws:
        server.session.push("fits", "x" * 1001)
        assert await ws.recv(PATIENCE) == "fits"
        with pytest.raises(ConnectionClosedError) as raised:
            await ws.recv(PATIENCE)
        assert raised.value.sent is not None
        assert raised.value.sent.code == 1009
        assert relay.accepted == 1


async def test_takeover_by_a_handshake_of_ones_own_is_survived(link: Link) -> None:
    """A handshake that was given up may arrive late and take the session over: the client takes it back."""
    server, relay, url = link
    async with connect(url, open_timeout=0.1) as ws:
        relay.hold()
        server.session.push("late")
        await relay.cut()
        await eventually(lambda: relay.accepted >= 3)
        await relay.cut()
        relay.release()
        assert await ws.recv(PATIENCE) == "late"
        assert server.session.link is not None
        await server.session.link.close(4000, "taken over")
        server.session.push("still there")
        assert await ws.recv(PATIENCE) == "still there"


# Servers that do not resume.


async def test_plain_server_is_served_and_a_drop_raises() -> None:
    """Against a server that does not speak the protocol the client is a plain one, and says so."""

    async def handle(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with (
        serve(handle, "127.0.0.1", 0) as server,
        CuttableRelay(next(iter(server.sockets)).getsockname()[1]) as relay,
        connect(f"ws://127.0.0.1:{relay.port}") as ws,
    ):
        assert not ws.resumable
        assert ws.session_id is None
        await ws.send("plain")
        assert await ws.recv(PATIENCE) == "plain"
        await relay.cut()
        with pytest.raises(ConnectionClosedError) as raised:
            await ws.recv(PATIENCE)
        assert not isinstance(raised.value, SessionLost)
        assert ws.close_code == 1006
        assert relay.accepted == 1


async def test_session_that_names_an_id_but_no_count_is_not_resumed() -> None:
    """An id without a count is a session that this client may not resume, as with a proxy in sender mode."""

    async def handle(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with (
        serve(
            handle,
            "127.0.0.1",
            0,
            process_response=lambda connection, request, response: response.headers.update(
                {"X-Connection-Id": "made-by-the-server"}
            ),
        ) as server,
        CuttableRelay(next(iter(server.sockets)).getsockname()[1]) as relay,
        connect(f"ws://127.0.0.1:{relay.port}") as ws,
    ):
        assert ws.session_id == "made-by-the-server"
        assert not ws.resumable
        await relay.cut()
        with pytest.raises(ConnectionClosedError):
            await ws.recv(PATIENCE)
        assert relay.accepted == 1


# Backpressure.


async def test_send_does_not_wait_for_a_link(link: Link) -> None:
    """While the link is down send() queues and returns; everything arrives once it is up."""
    server, relay, url = link
    messages = numbered(1, 300)
    async with connect(url) as ws:
        relay.down = True
        await relay.cut()
        async with asyncio.timeout(PATIENCE):
            for message in messages:
                await ws.send(message)
        assert server.session.received == []
        relay.down = False
        await server.session.until(lambda session: len(session.received) == 300)
    assert server.session.received == messages


async def test_send_waits_above_the_high_water_mark(link: Link) -> None:
    """Above max_queue bytes send() waits, until less than half of that is unconfirmed."""
    server, relay, url = link
    messages = [bytes([n]) * 1000 for n in range(100)]
    sent = 0

    async def send_all(ws: Connection) -> None:
        nonlocal sent
        for message in messages:
            await ws.send(message)
            sent += 1

    async with connect(url, max_queue=20_000) as ws:
        relay.down = True
        await relay.cut()
        sending = asyncio.create_task(send_all(ws))
        await eventually(lambda: ws._outbox.full)
        before = sent
        assert 15 <= before <= 20
        done, _ = await asyncio.wait([sending], timeout=0.1)
        assert not done
        assert sent <= before + 1
        relay.down = False
        await asyncio.wait_for(sending, PATIENCE)
    assert server.session.received == messages


async def test_client_that_is_not_read_holds_no_more_than_its_limit(link: Link) -> None:
    """Past max_queue the link is not read on, so that the server is held back; nothing is lost by that."""
    server, _, url = link
    messages = [bytes([n % 256]) * 50_000 for n in range(400)]
    async with connect(url, max_queue=500_000) as ws:
        server.session.push(*messages)
        await eventually(lambda: ws._inbox.full)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await server.session.until(lambda session: session.confirmed == 400)
        # One message above the limit, at the most.
        assert ws._inbox.bytes_held <= 600_000
        assert await take(ws, 400) == messages


# Closing.


async def test_close_delivers_what_is_queued_over_a_new_link(link: Link) -> None:
    """close() while the link is down waits for a new one, delivers, and only then closes, with its code."""
    server, relay, url = link
    messages = numbered(1, 200)
    ws = await connect(url, close_timeout=PATIENCE)
    relay.down = True
    await relay.cut()
    for message in messages:
        await ws.send(message)
    closing = asyncio.create_task(ws.close(4001, "done"))
    await asyncio.sleep(0.05)
    with pytest.raises(ConnectionClosed):
        relay.down = False
        await ws.send("not behind a close")
    await closing
    assert server.session.received == messages
    assert server.session.end == (4001, "done")
    assert ws.unconfirmed == ()


async def test_close_is_bounded_and_tells_what_was_not_delivered(link: Link) -> None:
    """A close that cannot deliver gives up after close_timeout, and what is unconfirmed can be read."""
    _, relay, url = link
    ws = await connect(url, close_timeout=0.2)
    relay.down = True
    await relay.cut()
    await ws.send("stuck")
    async with asyncio.timeout(PATIENCE):
        await ws.close()
    assert ws.unconfirmed == ("stuck",)
    with pytest.raises(ConnectionClosedError):
        await ws.recv()


async def test_close_ends_although_nothing_was_read(link: Link) -> None:
    """A full inbox does not keep close() from hearing that all was delivered; what came can be read afterwards."""
    server, _, url = link
    messages = [bytes([n % 256]) * 10_000 for n in range(200)]
    ws = await connect(url, max_queue=20_000, close_timeout=PATIENCE)
    server.session.push(*messages)
    await eventually(lambda: ws._inbox.full)
    await ws.send("last words")
    await ws.close()
    assert server.session.received == ["last words"]
    assert server.session.end == (1000, "")
    received = [message async for message in ws]
    assert received == messages[: len(received)]
    assert len(received) >= 2


async def test_close_answered_by_a_cut_is_repeated(link: Link) -> None:
    """A link that dies within the closing handshake is replaced, so that the server learns of the close."""
    server, relay, url = link
    ws = await connect(url, close_timeout=PATIENCE)
    relay.hold()
    closing = asyncio.create_task(ws.close(4002))
    await asyncio.sleep(0.05)
    await relay.cut()
    relay.release()
    await closing
    await server.session.until(lambda session: session.link is None)
    assert server.session.end == (4002, "")
    assert len(server.session.stated) == 2


async def test_second_close_waits_for_the_first(link: Link) -> None:
    """close() may be called again, at the same time and afterwards."""
    _, _, url = link
    ws = await connect(url)
    await asyncio.gather(ws.close(), ws.close(4001))
    await ws.close()
    assert ws.close_code == 1000


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (999, ""), (1000, "x" * 124)])
async def test_close_that_may_not_be_sent_is_refused(link: Link, code: int, reason: str) -> None:
    """An illegal code or a reason that is too long raises, and the session goes on."""
    _, _, url = link
    async with connect(url) as ws:
        with pytest.raises(ProtocolError):
            await ws.close(code, reason)
        await ws.send("still open")


async def test_server_that_keeps_the_socket_open_after_its_close_is_dropped(link: Link) -> None:
    """A closing handshake that the server does not end with TCP is ended by the client after close_timeout."""
    server, _, url = link
    async with connect(url, close_timeout=0.2) as ws:
        await server.session.until(lambda session: session.link)
        assert server.session.link is not None
        # The Close goes out, and nothing that would follow it, for as long as this link lives.
        server.session.link.close_timeout = None
        server.session.link.protocol.send_close(1012, "back soon")
        server.session.link.send_data()
        server.session.link.transport.pause_reading()
        server.session.push("over the next link")
        assert await ws.recv(PATIENCE) == "over the next link"


async def test_nothing_is_left_when_the_body_raises(link: Link) -> None:
    """An exception in the body passes through, the server is told 1011, and no task or connection stays."""
    server, relay, url = link
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with connect(url) as ws:
            await ws.send("before the fall")
            raise ZeroDivisionError
    await server.session.until(lambda session: session.link is None)
    assert server.session.received == ["before the fall"]
    assert server.session.end[0] == 1011
    assert ws._runner.done()
    await eventually(lambda: relay.links == 0 and asyncio.all_tasks() <= before)


@pytest.mark.parametrize("state", ["up", "down", "held"])
async def test_nothing_is_left_when_close_is_cancelled(link: Link, state: str) -> None:
    """A close() that is cancelled drops what it has, at once: no task and no connection stays."""
    server, relay, url = link
    before = asyncio.all_tasks()
    ws = await connect(url, open_timeout=0.2)
    await server.session.until(lambda session: session.link)
    match state:
        case "down":
            relay.down = True
            await relay.cut()
        case "held":
            relay.hold()
    await ws.send("undelivered")
    closing = asyncio.create_task(ws.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert ws._runner.done()
    with pytest.raises(ConnectionClosed):
        await ws.send("too late")
    relay.release()
    await eventually(lambda: relay.links == 0 and asyncio.all_tasks() <= before)


# Cancellation.


@pytest.mark.parametrize("seed", range(3))
async def test_cancelled_receives_lose_and_repeat_nothing(link: Link, seed: int) -> None:
    """recv() may be cancelled at any moment, also while the link is cut: each message comes out once."""
    server, relay, url = link
    dice = random.Random(seed)
    messages = numbered(1, 300)
    received: list[Data] = []

    async def receive(ws: Connection) -> None:
        while True:
            received.append(await ws.recv())

    async def push() -> None:
        for n, message in enumerate(messages):
            server.session.push(message)
            await asyncio.sleep(dice.uniform(0, 0.002))
            if n % 60 == 30:
                await relay.cut()

    async with asyncio.timeout(PATIENCE), connect(url) as ws, asyncio.TaskGroup() as group:
        group.create_task(push())
        while len(received) < len(messages):
            receiving = asyncio.create_task(receive(ws))
            await asyncio.sleep(dice.uniform(0, 0.004))
            receiving.cancel()
            await asyncio.wait([receiving])
    assert received == messages


@pytest.mark.parametrize("seed", range(3))
async def test_a_cancelled_send_has_sent_nothing(link: Link, seed: int) -> None:
    """send() that is cancelled while it waits has queued nothing; one that returned has queued its message."""
    server, relay, url = link
    dice = random.Random(seed)
    accepted: list[Data] = []

    async def send_all(ws: Connection, first: int) -> None:
        for n in range(first, first + 1000):
            message = f"{n}:" + "x" * dice.randrange(500)
            await ws.send(message)
            accepted.append(message)

    async with asyncio.timeout(PATIENCE), connect(url, max_queue=10_000, close_timeout=PATIENCE) as ws:
        for attempt in range(40):
            sending = asyncio.create_task(send_all(ws, attempt * 1000))
            await asyncio.sleep(dice.uniform(0, 0.01))
            sending.cancel()
            await asyncio.wait([sending])
            if attempt % 10 == 5:
                await relay.cut()
    assert server.session.received == accepted


async def test_cancelled_connect_leaves_nothing(link: Link) -> None:
    """connect() that is cancelled within the handshake closes its socket."""
    _, relay, url = link
    relay.hold()
    opening = asyncio.create_task(connect(url)._open())
    await eventually(lambda: relay.links == 1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    relay.release()
    await eventually(lambda: relay.links == 0)
