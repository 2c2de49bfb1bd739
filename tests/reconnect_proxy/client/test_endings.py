"""How the aware client's session ends, and what it is told: by the proxy, its budget, servers that do not resume."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
)

from reconnect_proxy.client.connect import SessionLost, connect

from ..cuttable_relay import CuttableRelay
from .aware_server import PATIENCE
from .client_rig import Link, echo, eventually, take

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
    """A resume with a final refusal is not tried again, and the error carries the status."""
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
    """A count above what was sent says that the histories disagree: the session ends."""
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
        await eventually(lambda: not ws._session.outbox.bytes_held)
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
    """A final close is raised as websockets' ConnectionClosed, when everything received was taken."""
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
