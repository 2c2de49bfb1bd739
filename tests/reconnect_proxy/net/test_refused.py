"""A handshake that an upstream refuses is answered as if there were no proxy: by the same path as plain requests."""

from __future__ import annotations

import asyncio
import gzip
import json
import random

import pytest

from reconnect_proxy.events import HttpFailed, HttpRelayed, Refused

from .http_rig import HANDSHAKE, accept, error_of, relayed
from .raw_http import Conversation, get

ASK = get("/", *HANDSHAKE)
each_kind = pytest.mark.parametrize("request_", [ASK, get("/")], ids=["handshake", "plain"])

#: Larger than any buffer on the way, and compressed data that a cut makes unreadable.
JSON = json.dumps([{"error": "not-allowed", "number": number} for number in range(5000)]).encode()
GZIP = gzip.compress(random.Random(1).randbytes(70_000))


@each_kind
@pytest.mark.parametrize(
    ("first", "lines", "added"),
    [
        ("HTTP/1.1 204 Nothing To See", ["X-A: 1"], []),
        ("HTTP/1.1 304 Not Modified", ['ETag: "x"', "Content-Length: 5"], []),
        ("HTTP/1.1 304 Not Modified", ['ETag: "x"'], []),
        ("HTTP/1.1 403 Zutritt verboten", ["Content-Length: 0", "Set-Cookie: a=1", "Set-Cookie: b=2"], []),
        ("HTTP/1.1 401 ", ['WWW-Authenticate: Basic realm="\xe4"', "Content-Length: 0"], []),
        ("HTTP/1.1 302 Found", ["Location: wss://elsewhere.example/", "Content-Length: 0"], []),
        ("HTTP/1.1 499 Client Of Nginx", ["Content-Length: 0", "X-Reconnect-Secret: 1"], []),
        (
            "HTTP/1.1 426 Use Another One",
            ["Sec-WebSocket-Version: 8, 13", "Upgrade: websocket", "Content-Length: 0"],
            ["upgrade"],
        ),
        ("HTTP/1.1 400 Bad Request", ["Sec-WebSocket-Version: 13", "Content-Length: 0"], []),
    ],
)
async def test_the_head_passes_as_it_came(request_: bytes, first: str, lines: list[str], added: list[str]) -> None:
    """Status, own reason phrase and headers; no length is added to an answer that has no body."""

    async def answer(request: Conversation) -> None:
        await request.send("\r\n".join([first, *lines, "Connection: close", "", ""]).encode("latin-1"))

    async with relayed(answer) as rig:
        client = await (await rig.ask(request_)).head()
        assert client.first == first
        expected = [tuple(line.split(": ", 1)) for line in lines if not line.startswith("X-Reconnect")]
        connection = [value for name, value in client.headers if name == "connection"]
        passed = [(name, value) for name, value in client.headers if name != "connection"]
        assert sorted(passed) == sorted((name.lower(), value) for name, value in expected)
        # A refused handshake is the last request of its connection.
        options = {option.strip() for value in connection for option in value.split(",")}
        assert options == {*added, *(["close"] if request_ is ASK else [])}
        if request_ is ASK:
            assert await client.ended() == b""


@each_kind
@pytest.mark.parametrize("body", [b"denied", JSON, GZIP], ids=["short", "188 KB JSON", "70 KB gzip"])
@pytest.mark.parametrize("framing", ["length", "chunked", "end"])
async def test_the_body_arrives_whole(request_: bytes, body: bytes, framing: str) -> None:
    """Whether its length is given, it comes in chunks, or it ends with the connection. A length is passed on."""
    assert len(JSON) > 188_000 and len(GZIP) > 70_000

    async def answer(request: Conversation) -> None:
        fields = {"length": f"Content-Length: {len(body)}\r\n", "chunked": "Transfer-Encoding: chunked\r\n", "end": ""}
        await request.send(f"HTTP/1.1 403 Forbidden\r\n{fields[framing]}Connection: close\r\n\r\n".encode())
        for start in range(0, len(body), 10_000):
            piece = body[start : start + 10_000]
            await request.send(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece)
        if framing == "chunked":
            await request.send(b"0\r\n\r\n")

    async with relayed(answer) as rig:
        client = await (await rig.ask(request_)).head()
        assert client.first == "HTTP/1.1 403 Forbidden"
        passed = client.get("content-length"), client.get("transfer-encoding")
        assert passed == ((str(len(body)), None) if framing == "length" else (None, "chunked"))
        assert await client.body() == body
        assert not [event for event in rig.events if isinstance(event, HttpFailed)]


async def test_each_piece_of_the_body_passes_at_once() -> None:
    """The next one is written only when the last one has been read."""
    read: asyncio.Queue[None] = asyncio.Queue()

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            await request.send(b"1\r\n%d\r\n" % number)
            await read.get()
        await request.send(b"0\r\nX-Sum: 5\r\n\r\n")

    async with relayed(answer, connect_timeout="30s") as rig:
        client = await (await rig.ask(ASK)).head()
        for number in range(5):
            assert await client.chunk() == b"%d" % number
            read.put_nowait(None)
        assert await client.chunk() == b""
        assert client.get("x-sum") == "5"
        # It is an answer to a handshake, and no plain request.
        assert not [event for event in rig.events if isinstance(event, HttpRelayed)]


async def test_a_large_body_is_never_held_whole() -> None:
    """A client that does not read holds the upstream up."""
    size = 24 * 1024**2
    sent = 0

    async def answer(request: Conversation) -> None:
        nonlocal sent
        await request.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await request.send(bytes(65536))
            sent += 65536

    async with relayed(answer) as rig:
        client = await (await rig.ask(ASK)).head()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < size
        assert len(await client.body()) == size


@pytest.mark.parametrize(
    "beginning",
    [
        b"Content-Length: 10\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_cut(beginning: bytes) -> None:
    """The client can tell that it does not have the whole, and the log says why."""
    go = asyncio.Event()

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 403 Forbidden\r\n" + beginning)
        await go.wait()

    async with relayed(answer) as rig:
        client = await (await rig.ask(ASK)).head()
        await client.reader.readuntil(b"abc")
        go.set()
        with pytest.raises(ConnectionResetError):
            await client.ended()
        failures = [event for event in rig.events if isinstance(event, HttpFailed)]
        assert [(event.upstream, event.status) for event in failures] == [(rig.upstream.url, 0)]


async def test_the_upstream_is_left_when_the_client_leaves() -> None:
    """Also between two pieces of the body."""
    left = asyncio.Event()

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await request.left()
        left.set()

    async with relayed(answer) as rig:
        client = await (await rig.ask(ASK)).head()
        client.close()
        await left.wait()


async def test_all_clients_of_a_shared_session_get_the_answer() -> None:
    """They wait for one dial. One of them does not read, and one has left."""
    go = asyncio.Event()

    async def answer(request: Conversation) -> None:
        await go.wait()
        await request.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(JSON) + JSON)

    async with relayed(answer, mode="receiver", http_timeout="500ms") as rig:
        clients = [await rig.ask(ASK) for _ in range(4)]
        await rig.until(lambda: len(rig.proxy.pending) == 4 and bool(rig.upstream.requests))
        clients[3].reset()
        await rig.until(lambda: len(rig.proxy.pending) == 3)
        go.set()
        for client in clients[:2]:
            await client.head()
            assert await client.body() == JSON
        assert rig.upstream.connections == 1


async def test_there_is_a_limit_of_answers() -> None:
    """They have places among the plain connections; another client is told so, and its upstream left."""
    left: list[Conversation] = []

    async def answer(request: Conversation) -> None:
        await refuse_slowly(request)
        left.append(request)

    async with relayed(answer, max_http=1) as rig:
        first = await (await rig.ask(ASK)).head()
        client, body = await rig.answered(ASK)
        assert (client.first, error_of(body)) == ("HTTP/1.1 503 Service Unavailable", "too-many-http")
        assert [event.error for event in rig.events if isinstance(event, Refused)] == ["too-many-http"]
        await rig.until(lambda: left == [rig.upstream.requests[1]])
        await first.closed()
        await rig.until(lambda: not rig.proxy.http.connections)
        assert (await (await rig.ask(ASK)).head()).first == "HTTP/1.1 403 Forbidden"


async def refuse_slowly(request: Conversation) -> None:
    """Refuse, and leave the body unfinished."""
    await request.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nabc")
    await request.left()


async def test_a_stop_cuts_answers_that_do_not_end() -> None:
    """They do not keep the proxy alive."""
    async with relayed(refuse_slowly) as rig:
        client = await (await rig.ask(ASK)).head()
        await rig.proxy.stop()
        with pytest.raises(ConnectionResetError):
            await client.ended()


async def test_an_answer_that_no_client_waits_for_is_dropped() -> None:
    """A redial that is refused: nothing of it is read, and the connection is closed."""
    left = asyncio.Event()
    accepting = True

    async def answer(request: Conversation) -> None:
        if accepting:
            await accept(request)
        else:
            await refuse_slowly(request)
            left.set()

    async with relayed(answer, retry_for="30s") as rig:
        client = await (await rig.ask(ASK)).head()
        assert client.first.split()[1] == "101"
        accepting = False
        rig.upstream.requests[0].writer.transport.abort()
        await left.wait()
