"""Plain HTTP goes to the upstream as it is, and its answers come back: checked byte by byte at both ends."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from reconnect_proxy.events import HttpFailed, HttpRelayed, Refused
from reconnect_proxy.net.accept import Acceptor
from reconnect_proxy.net.http_socket import HttpSocket

from ...certificates import Authority
from .http_rig import HANDSHAKE, HELLO, error_of, hello, relayed
from .raw_http import Conversation, RawUpstream, ask, get

# What passes.


async def test_a_request_and_its_answer_pass_as_they_are() -> None:
    """Method, path and query, end-to-end headers; hop-by-hop ones stay behind, X-Forwarded-* is appended to."""
    async with relayed(hello, "/base") as rig:
        request = get(
            "/a%2fb/?connection-id=mine&x=%20",
            "Accept: a",
            "Accept: b",
            "Cookie: c=d",
            "X-Latin: \xe4",
            "Connection: keep-alive, X-Hop",
            "X-Hop: 1",
            "Keep-Alive: 5",
            "Proxy-Authorization: x",
            "TE: trailers",
            "Upgrade: h2c",
            "X-Reconnect-Id: 0123456789abcdef",
            "X-Connection-Id: 0123456789abcdef",
            "X-Forwarded-For: 203.0.113.9",
            method="PURGE",
        )
        client, body = await rig.answered(request)
        assert (client.first, client.get("x-up"), body) == ("HTTP/1.1 200 Fine", "stream", b"hello")
        seen = rig.upstream.requests[0]
        assert seen.first == "PURGE /base/a%2fb/?connection-id=mine&x=%20 HTTP/1.1"
        assert sorted(seen.headers) == sorted(
            [
                ("host", rig.upstream.url.removeprefix("ws://")),
                ("accept", "a"),
                ("accept", "b"),
                ("cookie", "c=d"),
                ("x-latin", "\xe4"),
                ("x-forwarded-for", "203.0.113.9, 127.0.0.1"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "proxy.example"),
                ("connection", "close"),
            ]
        )


async def test_keep_host_sends_the_clients_host() -> None:
    """An upstream that writes URLs into its answers then writes such as lead through the proxy."""
    async with relayed(hello, keep_host=True) as rig:
        await rig.answered(get("/json/version"))
        assert rig.upstream.requests[0].get("host") == "proxy.example"


async def test_an_answers_headers_are_end_to_end_too() -> None:
    """Connection and what it names stay behind, and no upstream speaks in the proxy's own header names."""

    async def answer(request: Conversation) -> None:
        await request.send(
            b"HTTP/1.1 404 Nowhere\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Connection-Id: 0123456789abcdef\r\n"
            b"X-Reconnect-Received: 7\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n"
        )

    async with relayed(answer) as rig:
        client, _ = await rig.answered(get())
        assert client.first == "HTTP/1.1 404 Nowhere"
        assert sorted(client.headers) == [("content-length", "0"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_pass_both_ways_with_their_trailers(chunked: bool) -> None:
    """A length stays a length, chunks stay chunks, and the trailers come behind them."""
    if chunked:
        framing, sent = "Transfer-Encoding: chunked", b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\nCookie: no\r\n\r\n"
    else:
        framing, sent = "Content-Length: 5", b"abcde"

    async def answer(request: Conversation) -> None:
        assert await request.body() == b"abcde"
        assert request.get("x-sum" if chunked else "content-length") == "5"
        await request.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode() + sent)

    async with relayed(answer) as rig:
        client, body = await rig.answered(get("/", framing, method="POST") + sent)
        assert body == b"abcde"
        assert client.get("x-sum" if chunked else "content-length") == "5"


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "5"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n", "5"),
    ],
)
async def test_an_answer_without_a_body_has_none(method: str, answer: bytes, length: str | None) -> None:
    """Behind HEAD, 204 and 304 comes the next answer, for every length that they state."""

    async def reply(request: Conversation) -> None:
        await request.send(answer if request.first.startswith(f"{method} /first") else HELLO)

    async with relayed(reply) as rig:
        client = await rig.ask(get("/first", method=method) + get("/second"))
        await client.head()
        assert client.first == answer.decode().split("\r\n")[0]
        assert client.get("content-length") == length
        await client.head()
        assert client.first == "HTTP/1.1 200 Fine"
        assert await client.body() == b"hello"


async def test_the_asterisk_of_options_is_no_path() -> None:
    """It asks about the server, not about a path below the base."""
    async with relayed(hello, "/base") as rig:
        await rig.answered(get("*", method="OPTIONS"))
        assert rig.upstream.requests[0].first == "OPTIONS * HTTP/1.1"


async def test_each_piece_of_a_streamed_answer_passes_at_once() -> None:
    """Server-sent events arrive as they are sent: the next one is written only when the last one has been read."""
    read: asyncio.Queue[None] = asyncio.Queue()

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            await request.send(b"9\r\ndata: %d\n\n\r\n" % number)
            await read.get()
        await request.send(b"0\r\n\r\n")

    async with relayed(answer) as rig:
        client = await (await rig.ask(get("/events"))).head()
        for number in range(5):
            assert await client.chunk() == b"data: %d\n\n" % number
            read.put_nowait(None)
        assert await client.chunk() == b""


async def test_a_client_that_only_listens_is_asked_whether_it_is_there() -> None:
    """One that has vanished would keep its place among the plain connections until the upstream says something."""
    end = asyncio.Event()

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await end.wait()
        await request.send(b"0\r\n\r\n")

    async with relayed(answer, http_timeout="12s") as rig:
        client = await (await rig.ask(get("/events"))).head()
        (connection,) = rig.proxy.http.connections
        assert isinstance(connection, Acceptor)
        found = connection.transport.get_extra_info("socket")
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 12
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 4
        end.set()
        assert await client.chunk() == b""


async def test_each_piece_of_a_streamed_request_passes_at_once() -> None:
    """Request and answer flow at the same time, each in its own direction."""

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := await request.chunk():
            await request.send(b"%x\r\n%b\r\n" % (len(piece), piece.upper()))
        await request.send(b"0\r\n\r\n")

    async with relayed(answer) as rig:
        client = await rig.ask(get("/", "Transfer-Encoding: chunked", method="POST"))
        await client.head()
        for piece in (b"abc", b"de"):
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert await client.chunk() == piece.upper()
        await client.send(b"0\r\n\r\n")
        assert await client.chunk() == b""


async def test_a_large_body_is_never_held_whole() -> None:
    """An upstream that does not read holds the client up; then everything arrives, in order."""
    size = 24 * 1024**2
    reads = asyncio.Event()

    async def answer(request: Conversation) -> None:
        await reads.wait()
        body = await request.body()
        await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with relayed(answer) as rig:
        client = await rig.ask(get("/", f"Content-Length: {size}", method="POST"))
        body = bytes(range(256)) * (size // 256)
        sending = asyncio.create_task(client.send(body))
        done, _ = await asyncio.wait([sending], timeout=0.5)
        assert not done
        # Most of it waits at the client: two sockets' buffers and 128 KiB are all that there is in between.
        assert client.writer.transport.get_write_buffer_size() > size // 2
        reads.set()
        await client.head()
        assert await client.body() == body
        await sending


# One connection, several requests.


async def test_a_kept_alive_connection_serves_pipelined_requests_in_order() -> None:
    """Each answer comes before the next request is begun, whose bytes came with the first."""

    async def answer(request: Conversation) -> None:
        body = request.first.split()[1].encode() + await request.body() if "POST" in request.first else b"-"
        await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with relayed(answer) as rig:
        post = get("/a", "Content-Length: 3", method="POST") + b"xyz"
        chunked = get("/b", "Transfer-Encoding: chunked", method="POST") + b"2\r\nvw\r\n0\r\n\r\n"
        client = await rig.ask(post + chunked + get("/c") + post)
        for expected in (b"/axyz", b"/bvw", b"-", b"/axyz"):
            await client.head()
            assert await client.body() == expected
        await client.send(get("/c"))
        await client.head()
        assert await client.body() == b"-"
        assert len(rig.upstream.requests) == rig.upstream.connections == 5


@pytest.mark.parametrize(
    ("version", "lines"),
    [("1.1", ["Connection: close"]), ("1.0", []), ("1.0", ["Connection: keep-alive"])],
)
async def test_the_connection_ends_behind_the_answer_where_it_should(version: str, lines: list[str]) -> None:
    """With `Connection: close`, and with HTTP/1.0, which is not kept alive here."""
    async with relayed(hello) as rig:
        client, body = await rig.answered(get("/", *lines, version=version))
        assert (client.get("connection"), body) == ("close", b"hello")
        assert await client.ended() == b""


async def test_an_http_1_0_client_gets_no_chunks() -> None:
    """A body of unknown length ends with the connection, and nothing interim comes before it."""

    async def answer(request: Conversation) -> None:
        await request.send(
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await request.send(b"3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n")

    async with relayed(answer) as rig:
        client = await (await rig.ask(b"GET / HTTP/1.0\r\n\r\n")).head()
        assert client.first == "HTTP/1.1 200 OK"
        assert client.get("transfer-encoding") is None
        assert await client.ended() == b"abc"
        assert rig.upstream.requests[0].get("x-forwarded-host") is None


async def test_an_http_1_0_upstream_is_understood() -> None:
    """Its answer ends with its connection; the client's connection goes on."""

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.0 200 OK\r\n\r\nold")

    async with relayed(answer) as rig:
        client = await rig.ask(get() + get())
        for _ in range(2):
            await client.head()
            assert await client.body() == b"old"


async def test_a_client_that_asks_first_is_told_to_continue_by_the_upstream() -> None:
    """`Expect: 100-continue` passes, and so does the upstream's 100; the body comes behind it."""

    async def answer(request: Conversation) -> None:
        assert request.get("expect") == "100-continue"
        await request.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await request.body() == b"abc"
        await request.send(HELLO)

    async with relayed(answer) as rig:
        client = await rig.ask(get("/", "Expect: 100-continue", "Content-Length: 3", method="PUT"))
        await client.head()
        assert client.first == "HTTP/1.1 100 Continue"
        await client.send(b"abc")
        await client.head()
        assert await client.body() == b"hello"


async def test_an_answer_that_does_not_wait_for_the_body_passes_and_ends_the_connection() -> None:
    """The rest of the request is not taken for the next one."""

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n")

    async with relayed(answer) as rig:
        request = get("/", "Content-Length: 1000000", method="POST")
        client, _ = await rig.answered(request + get("/smuggled"))
        assert (client.first, client.get("connection")) == ("HTTP/1.1 413 Too Much", "close")
        assert await client.ended() == b""
        assert len(rig.upstream.requests) == 1


async def test_a_websocket_may_follow_plain_http_on_one_connection() -> None:
    """The proxy looks at each request: the one that is a handshake goes the way of handshakes, with its query's ids."""

    async def answer(request: Conversation) -> None:
        if request.get("upgrade") is None:
            await request.send(HELLO)
        else:
            await request.send(b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n")

    handshake = get(
        "/ws?connection-id=0123456789abcdef",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    async with relayed(answer) as rig:
        client, _ = await rig.answered(get("/first"))
        await client.send(handshake)
        await client.head()
        assert client.first.startswith("HTTP/1.1 418")
        assert rig.upstream.requests[1].first == "GET /ws HTTP/1.1"
        assert rig.upstream.requests[1].get("x-connection-id") == "0123456789abcdef"


async def test_an_idle_connection_is_closed() -> None:
    """One that was kept for another request is not kept for ever."""
    async with relayed(hello, http_idle="50ms") as rig:
        client, _ = await rig.answered(get())
        assert await client.ended() == b""


# What fails.


async def test_an_upstream_that_cannot_be_reached_is_a_502() -> None:
    """In the form of all refusals, without the upstream's address, which only the log has."""
    async with relayed(hello) as dead:
        gone = dead.upstream.url
    async with relayed(hello, upstream=gone) as rig:
        client, body = await rig.answered(get())
        assert client.first == "HTTP/1.1 502 Bad Gateway"
        assert error_of(body) == "bad-gateway"
        assert gone.removeprefix("ws://") not in body.decode()
        assert [event.upstream for event in rig.events if isinstance(event, HttpFailed)] == [gone]
        assert any(isinstance(event, Refused) and event.status == 502 for event in rig.events)


async def test_the_next_upstream_is_tried_where_one_cannot_be_reached() -> None:
    """Until one takes the connection."""
    async with relayed(hello) as dead:
        gone = dead.upstream.url
    async with RawUpstream(hello) as upstream, relayed(hello, upstream=[gone, upstream.url]) as rig:
        _, body = await rig.answered(get())
        assert body == b"hello"
        assert [event.status for event in rig.events if isinstance(event, HttpFailed)] == [502]
        await rig.until(lambda: not rig.proxy.http.busy)
        assert [event.upstream for event in rig.events if isinstance(event, HttpRelayed)] == [upstream.url]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_an_upstream_that_answers_nonsense_is_a_502(nonsense: bytes) -> None:
    """Nothing of what it said reaches the client."""

    async def answer(request: Conversation) -> None:
        await request.send(nonsense)

    async with relayed(answer) as rig:
        client, body = await rig.answered(get())
        assert client.first == "HTTP/1.1 502 Bad Gateway"
        assert sorted(name for name, _ in client.headers) == ["content-length", "content-type"]
        assert error_of(body) == "bad-gateway"
        assert [event.status for event in rig.events if isinstance(event, HttpFailed)] == [502]


async def test_an_upstream_that_does_not_answer_in_time_is_a_504() -> None:
    """The time begins when it has the whole request; its connection is ended."""
    ended = asyncio.Event()

    async def answer(request: Conversation) -> None:
        await request.body()
        await request.left()
        ended.set()

    async with relayed(answer, http_timeout="200ms") as rig:
        client, body = await rig.answered(get("/", "Content-Length: 2", method="POST") + b"ab")
        assert client.first == "HTTP/1.1 504 Gateway Timeout"
        assert error_of(body) == "gateway-timeout"
        await ended.wait()
        assert [event.status for event in rig.events if isinstance(event, HttpFailed)] == [504]


async def test_a_client_that_stops_in_its_body_gets_408() -> None:
    """A request that is never finished does not hold its upstream for ever."""
    async with relayed(Conversation.left, http_timeout="200ms") as rig:
        client, body = await rig.answered(get("/", "Content-Length: 9", method="POST") + b"ab")
        assert client.first == "HTTP/1.1 408 Request Timeout"
        assert error_of(body) == "timeout"
        assert await client.ended() == b""


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabcXX0\r\n\r\n",
        b"fffffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        b"3 \x00\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\nX\x01: y\r\n\r\n",
        b"3\r\nabc\r\n0\r\nno colon\r\n\r\n",
        b"\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
async def test_a_malformed_chunk_is_a_400_and_the_upstream_does_not_get_its_end(body: bytes) -> None:
    """The upstream's connection is cut: it can never take what came for a whole request."""
    whole: list[bytes] = []

    async def answer(request: Conversation) -> None:
        whole.append(await request.body())

    async with relayed(answer) as rig:
        client, answered = await rig.answered(get("/", "Transfer-Encoding: chunked", method="POST") + body + get("/b"))
        assert client.first == "HTTP/1.1 400 Bad Request"
        assert error_of(answered) == "bad-request"
        assert await client.ended() == b""
        assert len(rig.upstream.requests) <= 1
    assert not whole


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        ("1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
        ("1.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        ("1.0", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        ("1.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"),
    ],
)
async def test_an_answer_that_breaks_off_is_cut(version: str, answer: bytes) -> None:
    """The client can tell: by the length, by the missing last chunk, or in HTTP/1.0 by the reset."""
    go = asyncio.Event()

    async def reply(request: Conversation) -> None:
        await request.send(answer)
        await go.wait()

    async with relayed(reply) as rig:
        client = await (await rig.ask(get(version=version))).head()
        assert b"abc" in await client.reader.readuntil(b"abc")
        go.set()
        with pytest.raises(ConnectionResetError):
            await client.ended()
        assert [event.status for event in rig.events if isinstance(event, HttpFailed)] == [0]


async def test_the_upstream_is_left_when_the_client_leaves() -> None:
    """The upstream's request ends when a page is closed, also between two events."""
    left = asyncio.Event()

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await request.left()
        left.set()

    async with relayed(answer) as rig:
        client = await (await rig.ask(get("/events"))).head()
        client.close()
        await left.wait()


async def test_a_client_that_resets_is_forgotten() -> None:
    """Its place among the connections is free again, whenever the reset comes."""
    go = asyncio.Event()

    async def answer(request: Conversation) -> None:
        await go.wait()
        await request.send(HELLO)

    async with relayed(answer, http_timeout="30s") as rig:
        client = await rig.ask(get())
        await rig.until(lambda: bool(rig.upstream.requests))
        client.reset()
        await rig.until(lambda: not rig.proxy.http.busy)
        assert not rig.proxy.http.connections
        go.set()


async def test_a_client_that_closes_its_half_still_gets_its_answer() -> None:
    """As a script does that pipes a request into a socket."""
    async with relayed(hello) as rig:
        client = await rig.ask(get())
        client.writer.write_eof()
        await client.head()
        assert await client.body() == b"hello"
        assert await client.ended() == b""


# Limits, and the end.


async def test_connections_above_the_limit_get_503() -> None:
    """While all are busy. A place that is given up is free at once."""
    go = asyncio.Event()

    async def answer(request: Conversation) -> None:
        if "slow" in request.first:
            await go.wait()
        await request.send(HELLO)

    async with relayed(answer, max_http=1) as rig:
        first = await rig.ask(get("/slow"))
        await rig.until(lambda: rig.proxy.http.busy == 1)
        client, body = await rig.answered(get())
        assert (client.first, error_of(body)) == ("HTTP/1.1 503 Service Unavailable", "too-many-http")
        assert client.get("retry-after") == "1"
        go.set()
        await first.head()
        assert await first.body() == b"hello"
        first.close()
        await rig.until(lambda: not rig.proxy.http.connections)
        assert (await rig.answered(get()))[1] == b"hello"


async def test_the_longest_idle_connection_gives_way() -> None:
    """Idle ones cannot hold all places; nor can one that has begun its next head, which waits like any new one."""
    async with relayed(hello, max_http=3) as rig:
        idle = [(await rig.answered(get()))[0] for _ in range(3)]
        await idle[0].send(get())
        await idle[0].head()
        assert await idle[0].body() == b"hello"
        for closed in (idle[1], idle[2]):
            assert (await rig.answered(get()))[1] == b"hello"
            await closed.left()
        await idle[0].send(b"GET / HT")
        await rig.until(lambda: len(rig.proxy.http.connections) == 2)
        assert (await rig.answered(get()))[1] == b"hello"
        await idle[0].send(b"TP/1.1\r\nHost: x\r\n\r\n")
        await idle[0].head()
        assert await idle[0].body() == b"hello"


#: U+212A, which `str.lower` makes an ASCII k, and blanks that `str.strip` takes besides space and tab.
KELVIN, NO_BREAK = "\u212a".encode().decode("latin-1"), "\xa0"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f"Transfer-Encoding: chun{KELVIN}ed", "501"),
        (f"Transfer-Encoding: chunked{NO_BREAK}", "501"),
        (f"Transfer-Encoding: {KELVIN}", "501"),
        ("Content-Length: \u0663".encode().decode("latin-1"), "400"),
    ],
)
async def test_tokens_are_ascii(line: str, status: str) -> None:
    """Other letters are not taken for ASCII ones, and no place is lost: thousand such requests change nothing."""
    async with relayed(hello, max_http=2) as rig:
        for _ in range(5):
            client, _ = await rig.answered(get("/", line, method="POST"))
            assert client.first.split()[1] == status
        await rig.until(lambda: not rig.proxy.http.connections)
        assert rig.upstream.requests == []
        assert (await rig.answered(get()))[1] == b"hello"


@pytest.mark.parametrize("line", [f"Upgrade: websoc{KELVIN}et", f"Upgrade: websocket{NO_BREAK}"])
async def test_what_only_looks_like_a_handshake_is_plain_http(line: str) -> None:
    """The upstream would not take it for a handshake either."""
    async with relayed(hello) as rig:
        client, body = await rig.answered(
            get("/", line, *(each for each in HANDSHAKE if not each.startswith("Upgrade")))
        )
        assert (client.first, body) == ("HTTP/1.1 200 Fine", b"hello")


async def test_an_unexpected_error_costs_its_request_and_no_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500; the same place serves the next request."""
    async with relayed(hello, max_http=1) as rig:
        with monkeypatch.context() as broken:
            broken.setattr(HttpSocket, "begin_request", lambda *arguments: 1 / 0)
            for _ in range(5):
                client, body = await rig.answered(get())
                assert (client.first, error_of(body)) == ("HTTP/1.1 500 Internal Server Error", "internal-error")
        assert (await rig.answered(get()))[1] == b"hello"
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()


async def test_an_http_timeout_of_hours_serves_requests() -> None:
    """The system takes no keepalive of more than 32767 s."""
    async with relayed(hello, http_timeout=10 * 3600) as rig:
        assert (await rig.answered(get()))[1] == b"hello"


async def test_while_draining_idle_connections_end_and_answers_are_the_last() -> None:
    """A request that is under way is served, and the drain waits for it."""
    go = asyncio.Event()

    async def answer(request: Conversation) -> None:
        if "slow" in request.first:
            await go.wait()
        await request.send(HELLO)

    async with relayed(answer) as rig:
        idle, _ = await rig.answered(get())
        busy = await rig.ask(get("/slow"))
        await rig.until(lambda: len(rig.upstream.requests) == 2 and rig.proxy.http.busy == 1)
        draining = asyncio.create_task(rig.proxy.drain(30))
        assert await idle.ended() == b""
        assert not draining.done()
        go.set()
        await busy.head()
        assert (busy.get("connection"), await busy.body()) == ("close", b"hello")
        await draining


async def test_a_proxy_that_is_being_stopped_takes_no_more_requests() -> None:
    """Neither in the drain, which those that keep coming would hold up, nor at the end: none outlives the proxy."""
    go = asyncio.Event()

    async def answer(request: Conversation) -> None:
        await go.wait()
        await request.send(HELLO)

    async with relayed(answer) as rig:
        busy = await rig.ask(get())
        late = await rig.ask(b"GET / HT")
        await rig.until(lambda: rig.proxy.http.busy == 1 and len(rig.proxy.pending) == 1)
        draining = asyncio.create_task(rig.proxy.drain(30))
        await rig.until(lambda: rig.proxy.draining)
        client, body = await rig.answered(get())
        assert (client.first, error_of(body)) == ("HTTP/1.1 503 Service Unavailable", "stopping")
        go.set()
        await busy.head()
        await draining
        stopping = asyncio.create_task(rig.proxy.stop())
        await late.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        assert (await late.head()).first == "HTTP/1.1 503 Service Unavailable"
        await stopping
        assert not rig.proxy.http.busy and not rig.proxy.http.connections
        assert len(rig.upstream.requests) == 1


async def test_a_stop_ends_what_is_under_way() -> None:
    """A stream without an end is cut, and nothing of it is left."""

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await request.left()

    async with relayed(answer) as rig:
        client = await (await rig.ask(get("/events"))).head()
        await rig.proxy.stop()
        with pytest.raises(ConnectionResetError):
            await client.ended()


async def test_a_stop_cuts_what_has_not_taken_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that was read in the turn of the loop in which the proxy stops leaves no socket behind."""
    async with relayed(hello) as rig:
        relay = rig.proxy.http
        begin, stopping = relay.begin, []

        def begin_while_stopping(*arguments: Any) -> None:
            # Tasks take their first steps in the order in which they were made.
            stopping.append(asyncio.create_task(relay.stop()))
            begin(*arguments)

        monkeypatch.setattr(relay, "begin", begin_while_stopping)
        client = await rig.ask(get("/"))
        await client.left()
        await asyncio.gather(*stopping)
        assert not relay.connections


# TLS.


async def test_requests_pass_over_tls_on_both_sides(authority: Authority) -> None:
    """A large body comes back whole, and the upstream is told that the client came by https."""
    size = 3 * 1024**2

    async def answer(request: Conversation) -> None:
        assert request.get("x-forwarded-proto") == "https"
        body = await request.body()
        await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    cert, key = authority.issue()
    files = {"tls_cert": str(cert), "tls_key": str(key), "upstream_ca": str(authority.file)}
    async with (
        RawUpstream(answer, authority.server()) as upstream,
        relayed(hello, upstream=upstream.url, **files) as rig,
    ):
        body = bytes(range(256)) * (size // 256)
        client = await ask(rig.proxy.url, b"", authority.client())
        rig.clients.append(client)
        for _ in range(2):
            sending = asyncio.create_task(client.send(get("/", f"Content-Length: {size}", method="POST") + body))
            await client.head()
            assert await client.body() == body
            await sending


async def test_over_tls_an_answer_survives_a_client_that_goes_on_sending(authority: Authority) -> None:
    """What the proxy says to a head that does not end, or an upstream to a body that it does not read, gets through."""

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n")
        await request.left()

    cert, key = authority.issue()
    async with relayed(answer, tls_cert=str(cert), tls_key=str(key)) as rig:
        endless = b"x" * 1024**2
        for request, status in [
            (get()[:-2] + b"X: " + endless, "HTTP/1.1 431 Request Header Fields Too Large"),
            (get("/", f"Content-Length: {len(endless)}", method="BREW?") + endless, "HTTP/1.1 400 Bad Request"),
            (get("/", "Content-Length: 1000000000", method="POST") + endless, "HTTP/1.1 413 Too Much"),
        ]:
            client = await ask(rig.proxy.url, b"", authority.client())
            rig.clients.append(client)
            client.writer.write(request)
            assert (await client.head()).first == status
            client.close()


async def test_an_upstream_whose_certificate_is_not_trusted_is_a_502(authority: Authority, stranger: Authority) -> None:
    """Nothing is sent to it."""
    async with (
        RawUpstream(hello, stranger.server()) as upstream,
        relayed(hello, upstream=upstream.url, upstream_ca=str(authority.file)) as rig,
    ):
        client, _ = await rig.answered(get())
        assert client.first == "HTTP/1.1 502 Bad Gateway"
        assert not upstream.requests
        (failed,) = [event for event in rig.events if isinstance(event, HttpFailed)]
        assert "not trusted" in failed.detail
