"""`--rewrite-debugger-url`: an upstream's own WebSocket addresses in its JSON answers are replaced."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from reconnect_proxy.events import DebuggerUrlPassed
from reconnect_proxy.net.debugger_urls import REWRITE_LIMIT, WATCH_LIMIT, Addresses, place_of, replaced_urls
from reconnect_proxy.net.endpoint import endpoint_of
from reconnect_proxy.proxy import Proxy

from ...certificates import Authority
from .http_rig import Rig, relayed
from .raw_http import Answer, Conversation, ask, get

REWRITE = {"rewrite_debugger_url": True}


def replaced(value: str, name: str = "webSocketDebuggerUrl", upstream: str = "ws://127.0.0.1:9222") -> str:
    """Return a value as clients of https://proxy.example get it."""
    endpoint = endpoint_of(upstream)
    addresses = Addresses.of("https", "proxy.example", endpoint, endpoint.authority, ("127.0.0.1", endpoint.port))
    body, _ = replaced_urls(json.dumps({"before": 1, name: value, "after": 2}).encode(), addresses)
    answer = json.loads(body)
    assert (answer.pop("before"), answer.pop("after"), list(answer)) == (1, 2, [name])
    return str(answer[name])


@pytest.mark.parametrize(
    ("name", "value", "rewritten"),
    [
        ("webSocketDebuggerUrl", "ws://127.0.0.1:9222/devtools/browser/1", "wss://proxy.example/devtools/browser/1"),
        ("webSocketDebuggerUrl", "ws://localhost:9222/a?b=c", "wss://proxy.example/a?b=c"),
        ("webSocketDebuggerUrl", "ws://[::1]:9222/a", "wss://proxy.example/a"),
        ("webSocketUrl", "ws://127.0.0.1:9222/session/1", "wss://proxy.example/session/1"),
        ("se:cdp", "ws://127.0.0.1:9222/session/1/se/cdp", "wss://proxy.example/session/1/se/cdp"),
        (
            "devtoolsFrontendUrl",
            "https://frontend.example/inspector.html?ws=localhost:9222/devtools/page/1",
            "https://frontend.example/inspector.html?wss=proxy.example/devtools/page/1",
        ),
        (
            "devtoolsFrontendUrlCompat",
            "devtools://devtools/bundled/js_app.html?v8only=true&ws=127.0.0.1:9222/1&dock=right",
            "devtools://devtools/bundled/js_app.html?v8only=true&wss=proxy.example/1&dock=right",
        ),
    ],
)
def test_addresses_of_the_upstream_are_replaced(name: str, value: str, rewritten: str) -> None:
    """In each value that a client connects to."""
    assert replaced(value, name) == rewritten


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webSocketDebuggerUrl", "ws://127.0.0.1:9223/another/port"),
        ("webSocketDebuggerUrl", "ws://elsewhere.example:9222/another/host"),
        ("webSocketDebuggerUrl", "ws://127.0.0.1/without/a/port"),
        ("webSocketDebuggerUrl", "http://127.0.0.1:9222/not/a/websocket"),
        ("webSocketDebuggerUrl", "\ud800"),
        ("url", "ws://127.0.0.1:9222/a/page/of/this/name"),
        ("devtoolsFrontendUrl", "https://frontend.example/inspector.html?ws=elsewhere.example:9222/devtools/page/1"),
    ],
)
def test_all_other_values_stay(name: str, value: str) -> None:
    """Also addresses that are not the upstream's."""
    assert replaced(value, name) == value


@pytest.mark.parametrize(
    ("upstream", "value", "rewritten"),
    [
        ("ws://browser.example", "ws://browser.example/a", "wss://proxy.example/a"),
        ("ws://browser.example", "ws://browser.example:80/a", "wss://proxy.example/a"),
        ("wss://browser.example", "ws://browser.example/a", "wss://proxy.example/a"),
        ("wss://browser.example", "wss://Browser.Example:443/a", "wss://proxy.example/a"),
        ("ws://browser.example/base", "ws://browser.example/base/a", "wss://proxy.example/a"),
        ("ws://browser.example/base/", "ws://browser.example/base/a", "wss://proxy.example/a"),
        ("ws://browser.example/base", "ws://browser.example/basement", "wss://proxy.example/basement"),
    ],
)
def test_ports_and_paths_are_those_of_clients(upstream: str, value: str, rewritten: str) -> None:
    """The port of a scheme may be left out, and clients do not know the path of the upstream's URL."""
    assert replaced(value, upstream=upstream) == rewritten


@pytest.mark.parametrize(
    ("authority", "place"),
    [
        ("h", ("h", 80)),
        ("H.Example.:81", ("h.example", 81)),
        ("[2001:DB8::1]:81", ("2001:db8::1", 81)),
        ("2001:db8::1", ("2001:db8::1", 80)),
        ("[::1]", ("loopback", 80)),
        ("127.1.2.3:81", ("loopback", 81)),
        ("localhost", ("loopback", 80)),
        ("[nonsense]:x", ("[nonsense]:x", 80)),
    ],
)
def test_a_place_has_one_form(authority: str, place: tuple[str, int]) -> None:
    """For every spelling of its host."""
    assert place_of(authority, 80) == place


def names_itself(form: str = "length", size: int = 0, *lines: str, kind: str = "application/json") -> Answer:
    """Return an upstream that says where it is: at the Host that it is asked for, as Chromium does."""

    async def answer(request: Conversation) -> None:
        said = {"padding": "x" * size, "webSocketDebuggerUrl": f"ws://{request.get('host')}/devtools/browser/1"}
        body = json.dumps(said).encode()
        if "Content-Encoding: gzip" in lines:
            body = gzip.compress(body)
        framing = f"Content-Length: {len(body)}" if form == "length" else "Transfer-Encoding: chunked"
        head = ["HTTP/1.1 200 OK", f"Content-Type: {kind}", framing, *lines, "", ""]
        if form == "chunked":
            middle = len(body) // 2
            pieces = [b"%x\r\n%b\r\n" % (len(each), each) for each in (body[:middle], body[middle:])]
            body = b"".join([*pieces, b"0\r\nX-Sum: 1\r\n\r\n"])
        await request.send("\r\n".join(head).encode() + body)

    return answer


async def url_in(rig: Rig, *lines: str) -> str:
    """Ask for the answer, and return the address in it."""
    client, body = await rig.answered(get("/json/version", *lines))
    assert client.first == "HTTP/1.1 200 OK"
    return str(json.loads(body)["webSocketDebuggerUrl"])


@pytest.mark.parametrize("form", ["length", "chunked"])
@pytest.mark.parametrize("keep_host", [False, True])
async def test_an_answer_is_rewritten(form: str, keep_host: bool) -> None:
    """It has the length of its new body, and another request may follow it."""
    async with relayed(names_itself(form), keep_host=keep_host, **REWRITE) as rig:
        client = await rig.ask(get("/json/version") + get("/json/version"))
        for _ in range(2):
            await client.head()
            body = await client.body()
            assert json.loads(body)["webSocketDebuggerUrl"] == "ws://proxy.example/devtools/browser/1"
            # The trailers have come with the last chunk.
            assert client.get("content-length" if form == "length" else "x-sum") in (str(len(body)), "1")
        assert not [event for event in rig.events if isinstance(event, DebuggerUrlPassed)]


async def test_what_holds_for_the_old_bytes_goes() -> None:
    """Digests and ETag of an answer that was rewritten; they stay if it was not."""
    lines = ("ETag: x", "Content-MD5: x", "Repr-Digest: x", "X-Other: x")
    names = ("etag", "content-md5", "repr-digest", "x-other")
    async with relayed(names_itself("length", 0, *lines), **REWRITE) as rig:
        client, _ = await rig.answered(get())
        assert [client.get(name) for name in names] == [None, None, None, "x"]
    async with relayed(names_itself("length", 0, *lines, kind="text/plain"), **REWRITE) as rig:
        client, _ = await rig.answered(get())
        assert [client.get(name) for name in names] == ["x"] * 4


@pytest.mark.parametrize("form", ["length", "chunked"])
@pytest.mark.parametrize(
    ("size", "lines", "kind"),
    [
        (REWRITE_LIMIT, (), "application/json"),
        (0, ("Content-Encoding: gzip",), "application/json"),
        (0, (), "text/html"),
    ],
    ids=["large", "compressed", "not JSON"],
)
async def test_other_answers_pass_untouched(form: str, size: int, lines: tuple[str, ...], kind: str) -> None:
    """Large ones, compressed ones, and those that are not JSON."""
    async with relayed(names_itself(form, size, *lines, kind=kind), **REWRITE) as rig:
        _, body = await rig.answered(get())
        body = gzip.decompress(body) if lines else body
        expected = {"padding": "x" * size, "webSocketDebuggerUrl": f"ws://127.0.0.1:{rig.upstream.port}"}
        expected["webSocketDebuggerUrl"] += "/devtools/browser/1"
        assert json.loads(body) == expected


@pytest.mark.parametrize(
    ("trusted", "url"), [("127.0.0.0/8", "wss://shop.example/devtools"), ("10.0.0.0/8", "ws://proxy.example/devtools")]
)
async def test_behind_a_load_balancer_its_address_counts(trusted: str, url: str) -> None:
    """If it is trusted."""
    async with relayed(names_itself(), trust_forwarded=trusted, **REWRITE) as rig:
        found = await url_in(rig, "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example")
        assert found.startswith(url)


async def test_over_tls_it_is_wss(authority: Authority) -> None:
    """That is how the client reached the proxy."""
    cert, key = authority.issue()
    async with relayed(names_itself(), tls_cert=str(cert), tls_key=str(key), **REWRITE) as rig:
        client = await ask(rig.proxy.url, get(), authority.client())
        rig.clients.append(client)
        await client.head()
        assert json.loads(await client.body())["webSocketDebuggerUrl"] == "wss://proxy.example/devtools/browser/1"


@pytest.mark.parametrize("keep_host", [False, True])
async def test_each_proxy_of_a_pair_rewrites_its_own(authority: Authority, keep_host: bool) -> None:
    """The client of a sender in the clear gets the sender's address, although the receiver is reached by TLS."""
    cert, key = authority.issue()
    both = {"keep_host": keep_host, **REWRITE}
    async with (
        relayed(names_itself(), mode="receiver", tls_cert=str(cert), tls_key=str(key), **both) as rig,
        Proxy(
            upstream=rig.proxy.url, listen="127.0.0.1:0", mode="sender", upstream_ca=str(authority.file), **both
        ) as sender,
    ):
        client = await ask(sender.url, get("/json/version", "Connection: close"))
        await client.head()
        assert json.loads(await client.body())["webSocketDebuggerUrl"] == "ws://proxy.example/devtools/browser/1"
        await client.closed()


async def test_without_the_option_the_log_says_once_that_clients_go_past() -> None:
    """The answer passes as it came."""
    async with relayed(names_itself(size=WATCH_LIMIT - 200)) as rig:
        address = f"ws://127.0.0.1:{rig.upstream.port}"
        for _ in range(3):
            assert await url_in(rig) == f"{address}/devtools/browser/1"
        warnings = [event for event in rig.events if isinstance(event, DebuggerUrlPassed)]
        assert warnings == [DebuggerUrlPassed(rig.upstream.url, address)]


async def test_without_the_option_nothing_is_held_up() -> None:
    """A JSON answer passes piece by piece, also one that is larger than what is looked through."""
    read: asyncio.Queue[None] = asyncio.Queue()

    async def answer(request: Conversation) -> None:
        await request.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(2):
            await request.send(b"%x\r\n%b\r\n" % (WATCH_LIMIT, bytes(WATCH_LIMIT)))
            await read.get()
        await request.send(b"0\r\n\r\n")

    async with relayed(answer) as rig:
        client = await (await rig.ask(get())).head()
        for _ in range(2):
            received = 0
            while received < WATCH_LIMIT:
                received += len(await client.chunk())
            read.put_nowait(None)
        assert await client.chunk() == b""


async def test_an_answer_that_breaks_off_is_a_502() -> None:
    """Nothing of it has been passed on."""

    async def answer(request: Conversation) -> None:
        await request.send(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"a":')

    async with relayed(answer, **REWRITE) as rig:
        client, _ = await rig.answered(get())
        assert client.first == "HTTP/1.1 502 Bad Gateway"
