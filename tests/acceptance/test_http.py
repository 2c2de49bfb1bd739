"""Plain HTTP and WebSockets on one port, and hostile heads: a real application, real clients, raw sockets."""

import asyncio
import contextlib
import hashlib
import json
import signal
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import requests
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import InvalidStatus

from .conftest import Serve
from .frames import Refused
from .ordinary import echo, ordinary_client, ordinary_server
from .process import Serving
from .rawserver import Answer, RawServer
from .rawsocket import dial
from .waiting import PATIENCE

ID = "a-session-of-mine"


def application() -> FastAPI:
    """Make an application as people write them: JSON, uploads, streams, redirects, and a socket."""
    app = FastAPI()

    @app.get("/hello/{name}")
    async def hello(name: str, request: Request, response: Response, q: str = "") -> dict[str, str]:
        response.set_cookie("seen", name)
        return {"name": name, "q": q, "from": request.headers["x-forwarded-for"], "host": request.headers["host"]}

    @app.post("/digest")
    async def digest_of(request: Request) -> dict[str, str]:
        digest = hashlib.sha256()
        async for piece in request.stream():
            digest.update(piece)
        return {"digest": digest.hexdigest()}

    @app.get("/bytes/{size}")
    async def many(size: int) -> StreamingResponse:
        def pieces() -> Iterator[bytes]:
            for start in range(0, size, 65536):
                yield bytes(min(65536, size - start))

        return StreamingResponse(pieces(), media_type="application/octet-stream")

    @app.get("/events")
    async def events() -> StreamingResponse:
        async def ticks() -> AsyncIterator[str]:
            for number in range(10**6):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(ticks(), media_type="text/event-stream")

    @app.get("/url")
    async def url(request: Request) -> str:
        return str(request.url)

    @app.websocket("/url")
    async def socket_url(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(str(socket.url))

    @app.get("/away")
    async def away() -> RedirectResponse:
        return RedirectResponse("/hello/there")

    @app.websocket("/ws")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.send_text(await socket.receive_text())

    return app


@pytest.fixture(scope="module")
def app_url() -> Iterator[str]:
    """Serve the application on a free port."""
    server = uvicorn.Server(uvicorn.Config(application(), port=0, log_level="warning", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, daemon=True)
    started = threading.Event()
    startup = server.startup

    async def announce(sockets: object = None) -> None:
        await startup(sockets)  # type: ignore[arg-type]
        started.set()

    server.startup = announce  # type: ignore[method-assign]
    thread.start()
    assert started.wait(PATIENCE)
    yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest_asyncio.fixture
async def bystanders() -> AsyncIterator[int]:
    """Serve echoes on a free port; any plain request there would be an error that the server logs."""
    async with ordinary_server(echo) as port:
        yield port


async def raw(serving: Serving, data: bytes) -> bytes:
    """Send bytes to the proxy and return all that it answers until it ends the connection."""
    host, port = serving.base.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    finally:
        writer.close()


async def no_more_descriptors(serving: Serving, limit: int) -> None:
    """Wait until the proxy has no more descriptors than that; nothing else tells from outside of a closed socket."""
    async with asyncio.timeout(PATIENCE):
        while serving.descriptors() > limit:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_an_application_works_as_it_does_without_the_proxy(serve: Serve, app_url: str) -> None:
    """JSON, cookies, redirects, errors, HEAD, uploads of any kind, and downloads, with an ordinary HTTP client."""
    serving = await serve(app_url)
    base = f"http://{serving.base}"

    def use() -> None:
        with requests.Session() as session:
            hello = session.get(f"{base}/hello/you?q=%C3%A4", timeout=PATIENCE)
            assert hello.json() == {"name": "you", "q": "ä", "from": "127.0.0.1", "host": app_url.removeprefix("ws://")}
            assert session.cookies["seen"] == "you"
            assert session.get(f"{base}/away", timeout=PATIENCE).json()["name"] == "there"
            assert session.get(f"{base}/nowhere", timeout=PATIENCE).status_code == 404
            head = session.head(f"{base}/hello/you", timeout=PATIENCE)
            assert (head.status_code, head.content) == (405, b"")
            body = bytes(range(256)) * 4096 * 16
            expected = {"digest": hashlib.sha256(body).hexdigest()}
            assert session.post(f"{base}/digest", data=body, timeout=PATIENCE).json() == expected
            pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
            assert session.post(f"{base}/digest", data=pieces, timeout=PATIENCE).json() == expected
            download = session.get(f"{base}/bytes/20000000", timeout=PATIENCE)
            assert download.content == bytes(20_000_000)

    await asyncio.to_thread(use)


@pytest.mark.parametrize(("trusted", "secure"), [("127.0.0.1", True), ("10.0.0.1", False)])
async def test_an_application_behind_a_load_balancer_knows_its_scheme(
    serve: Serve, app_url: str, trusted: str, secure: bool
) -> None:
    """uvicorn makes URLs of X-Forwarded-Proto, and reads a list as no scheme that it knows."""
    serving = await serve(app_url, "--trust-forwarded", trusted, "--keep-host")
    headers = {"X-Forwarded-Proto": "https"}
    shown = await asyncio.to_thread(requests.get, f"http://{serving.base}/url", headers=headers, timeout=PATIENCE)
    assert shown.json() == f"{'https' if secure else 'http'}://{serving.base}/url"
    async with ordinary_client(f"{serving.url}/url", additional_headers=headers) as client:
        assert await client.recv() == f"{'wss' if secure else 'ws'}://{serving.base}/url"


async def test_websockets_and_requests_share_a_port(serve: Serve, app_url: str) -> None:
    """A WebSocket is used while an event stream runs; a client that leaves the stream ends it at the upstream."""
    serving = await serve(app_url)
    before = serving.descriptors()

    def listen() -> list[str]:
        with requests.get(f"http://{serving.base}/events", stream=True, timeout=PATIENCE) as stream:
            lines = stream.iter_lines(decode_unicode=True)
            return [next(lines) for _ in range(20)][::2]

    async with ordinary_client(f"{serving.url}/ws") as client:
        listening = asyncio.create_task(asyncio.to_thread(listen))
        for number in range(100):
            await client.send(str(number))
            assert await client.recv() == str(number)
        assert await listening == [f"data: {number}" for number in range(10)]
        # The session's two sockets are all that is left.
        await no_more_descriptors(serving, before + 2)


async def test_a_stop_does_not_wait_for_an_endless_stream(serve: Serve, app_url: str) -> None:
    """It is cut when the drain time is over, and the process ends well."""
    serving = await serve(app_url)
    host, port = serving.base.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"data: 3\n")
    serving.signal(signal.SIGTERM)
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(PATIENCE):
            await reader.read()
    writer.close()
    async with asyncio.timeout(PATIENCE):
        assert await serving.process.wait() == 0


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

#: What is sent, and the status of the only answer that may come.
ATTACKS = [
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 40\r\n\r\nabcd" + SMUGGLED, 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 501),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n" + SMUGGLED, 400),
    (b"GET / HTTP/1.1\nHost: a\n\n" + SMUGGLED, 400),
    (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n" + SMUGGLED, 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n" + SMUGGLED, 400),
    (b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n" + SMUGGLED, 400),
    (b"GET / HTTP/1.1\r\n\r\n" + SMUGGLED, 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + SMUGGLED, 400),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n" + SMUGGLED, 400),
    (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
    (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + SMUGGLED, 501),
    (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 501),
    (b"GET /\r\n" + SMUGGLED, 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n" + SMUGGLED, 505),
    (b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 4000 + b"\r\n", 431),
    (b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
    (b"GET /%2e%2e/admin HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
]


async def test_heads_that_mean_harm_are_refused_and_harm_nobody(serve: Serve, upstream: RawServer) -> None:
    """One clean answer, then the end of the connection; the upstream gets nothing, and another session goes on."""
    serving = await serve(f"{upstream.url}/base")
    bystander = await dial(f"{serving.url}/ws")
    beyond = await upstream.accept()
    before = serving.descriptors()
    for attack, status in ATTACKS:
        answer = await raw(serving, attack)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), (attack, answer)
        assert set(json.loads(body)) == {"error", "detail"}
        assert answer.count(b"\r\nContent-Length: ") == 1
        await bystander.send("a", b"b")
        assert await beyond.take(2) == ["a", b"b"]
    assert [request.first_line for request in upstream.requests] == ["GET /base/ws HTTP/1.1"]
    await no_more_descriptors(serving, before)


async def test_an_upload_that_is_refused_can_read_why(serve: Serve, upstream: RawServer) -> None:
    """The answer is not lost to a reset, although the client sends on."""
    serving = await serve(upstream.url)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"
    host, port = serving.base.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head + bytes(8_000_000))
    async with asyncio.timeout(PATIENCE):
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()


BAD_ANSWERS = [
    ("Set-Cookie", "a=1\rX-Evil: 1"),
    ("Set-Cookie", "a=1\nX-Evil: 1"),
    ("Set-Cookie", "a=1\x00"),
    ("Set-Cookie", "a=1\r\n X-Evil: 1"),
    ("X Evil", "1"),
]


@pytest.mark.parametrize("status", [101, 200, 404])
@pytest.mark.parametrize(("name", "value"), BAD_ANSWERS)
async def test_an_upstream_cannot_write_headers_into_the_clients_head(
    serve: Serve, status: int, name: str, value: str
) -> None:
    """Its answer is malformed as a whole, whether to a handshake or to a request: nothing of it passes."""
    async with RawServer(lambda _: Answer(status, [(name, value)], b"evil" if status != 101 else b"")) as upstream:
        serving = await serve(upstream.url, "--no-accept-when-down")
        handshake = (
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = await raw(serving, handshake)
        # No redial would change a 101.
        assert answer.startswith(b"HTTP/1.1 502 " if status == 101 else b"HTTP/1.1 503 "), answer
        assert b"vil" not in answer
        answer = await raw(serving, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 502 "), answer
        assert b"vil" not in answer


async def test_an_upstream_cannot_speak_in_the_proxys_own_headers(serve: Serve) -> None:
    """The id and the count in a client's 101 are the proxy's; an upstream's are about another leg."""
    fields = [("X-Reconnect-Id", ID), ("X-Connection-Id", ID), ("X-Reconnect", "true"), ("X-Fine", "1")]
    async with RawServer(lambda _: Answer(101, fields)) as upstream:
        serving = await serve(upstream.url)
        client = await dial(serving.url)
        assert client.response.get("x-fine") == "1"
        assert client.response.get("x-connection-id") != ID
        assert [name for name, _ in client.response.headers if name.startswith("x-reconnect")] == []


async def test_ids_subprotocols_and_queries_cannot_carry_headers(serve: Serve, upstream: RawServer) -> None:
    """What a client may choose is checked before anything is made of it."""
    serving = await serve(upstream.url)
    for target, fields in [
        ("/?connection-id=0123456789abcdef%0d%0aX-Evil:1", b""),
        ("/?reconnect-id=0123456789abcdef%0aX-Evil:1", b""),
        ("/", b"X-Connection-Id: 0123456789abcdef X-Evil\r\n"),
        ("/", b"Sec-WebSocket-Protocol: a, b c\r\n"),
        ("/", b"Sec-WebSocket-Protocol: a\r\n\tX-Evil: 1\r\n"),
    ]:
        answer = await raw(
            serving,
            f"GET {target} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode()
            + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            + fields
            + b"\r\n",
        )
        assert answer.startswith(b"HTTP/1.1 400 "), (target, fields, answer)
        assert b"vil" not in answer
    assert not upstream.requests


async def test_only_allowed_origins_connect_and_resume(serve: Serve, bystanders: int) -> None:
    """A page of another origin gets 403, also with the id of a session; a program without one may."""
    serving = await serve(
        f"ws://127.0.0.1:{bystanders}", "--allow-origin", "https://app.example,https://*.trusted.example"
    )
    url = f"{serving.url}/?connection-id={ID}"
    # A resume must have the Origin that opened the session.
    for id, origin in ((ID, "https://app.example"), (f"{ID}-2", "https://a.trusted.example"), (f"{ID}-3", None)):
        async with ordinary_client(f"{serving.url}/?connection-id={id}", origin=origin) as client:
            await client.send("let in")
            assert await client.recv() == "let in"
    for target in (url, f"{serving.url}/?reconnect-id={ID}", serving.url):
        for origin in ("https://evil.example", "null", "https://app.example.evil.example"):
            with pytest.raises(InvalidStatus) as refused:
                await ordinary_client(target, origin=origin)
            assert refused.value.response.status_code == 403
            assert json.loads(refused.value.response.body or b"")["error"] == "origin-not-allowed"


@pytest.mark.parametrize(
    ("allowed", "origins", "others"),
    [
        ("https://app.example:443", ("https://app.example", "https://app.example:443"), ("https://app.example:80",)),
        ("http://*.example", ("http://a.example:80",), ("https://a.example",)),
        ("app://x", ("app://x",), ("app://y",)),
        ("file://", ("file://",), ("null",)),
        ("null", ("null",), ("file://",)),
        ("http://[0::1]:80", ("http://[::1]",), ("http://[::2]",)),
    ],
)
async def test_origins_are_compared_as_browsers_write_them(
    allowed: str, origins: tuple[str, ...], others: tuple[str, ...], serve: Serve, bystanders: int
) -> None:
    """Without default ports; origins of web views that are no web pages can be allowed too."""
    serving = await serve(f"ws://127.0.0.1:{bystanders}", "--allow-origin", allowed)
    for origin in origins:
        await (await dial(serving.url, [("Origin", origin)])).close()
    for origin in others:
        with pytest.raises(Refused) as refused:
            await dial(serving.url, [("Origin", origin)])
        assert refused.value.status == 403


async def test_only_allowed_paths_reach_the_upstream(serve: Serve, app_url: str) -> None:
    """For sockets and requests alike, however the others are spelt."""
    serving = await serve(app_url, "--allow-path", "/ws", "--allow-path", "/hello/*")
    async with ordinary_client(f"{serving.url}/ws") as client:
        await client.send("let in")
        assert await client.recv() == "let in"
    with pytest.raises(InvalidStatus) as refused:
        await ordinary_client(f"{serving.url}/events")
    assert refused.value.response.status_code == 403

    def ask(target: str) -> requests.Response:
        return requests.get(f"http://{serving.base}{target}", timeout=PATIENCE)

    assert (await asyncio.to_thread(ask, "/hello/you")).status_code == 200
    for target in ("/digest", "/docs", "/", "/hello", "//hello/you"):
        answer = await asyncio.to_thread(ask, target)
        assert (answer.status_code, answer.json()["error"]) == (403, "path-not-allowed"), target
    for target in ("/hello/../docs", "/hello/%2e%2e/docs", "/hello/..%2fdocs", "/hello%2f..%2fdocs"):
        answer_bytes = await raw(serving, f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert answer_bytes.startswith(b"HTTP/1.1 400 "), target


async def test_keep_host_is_for_both_kinds_of_request(serve: Serve, upstream: RawServer) -> None:
    """Without it the upstream sees its own address, with it the one that the client asked for."""
    upstream.answer = lambda request: Answer() if request.get("upgrade") else Answer(200)
    for options, host in (((), f"127.0.0.1:{upstream.port}"), (("--keep-host",), None)):
        serving = await serve(upstream.url, *options)
        await raw(serving, f"GET / HTTP/1.1\r\nHost: {serving.base}\r\nConnection: close\r\n\r\n".encode())
        await dial(serving.url)
        assert [request.get("host") for request in upstream.requests[-2:]] == [host or serving.base] * 2


async def test_an_upstream_that_is_away_or_silent_is_a_502_or_504(serve: Serve) -> None:
    """In the JSON form of all refusals; both are in the log with the upstream's address."""
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        serving = await serve(f"ws://127.0.0.1:{port}", "--http-timeout", "200ms")
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        answer = await raw(serving, request)
        assert answer.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "gateway-timeout"
    answer = await raw(serving, request)
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    await serving.logged("http failed", 2)
    assert [line.partition("status=")[2][:3] for line in serving.lines if "http failed" in line] == ["504", "502"]
