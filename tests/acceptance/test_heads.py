"""Heads and bodies that a proxy must not change, and those that it must refuse, sent through raw sockets."""

from __future__ import annotations

import asyncio
import re

import pytest

from .conftest import Serve
from .frames import Head
from .hostile.attack import head, shout, statuses
from .process import WORKERS, Serving
from .rawserver import Answer, RawServer


def answer(request: Head) -> Answer:
    """Accept handshakes, and answer other requests with 200."""
    return Answer() if request.get("upgrade") else Answer(200, body=b"ok")


def plain(*lines: str, first: str = "GET /x HTTP/1.1") -> bytes:
    """Build the head of a plain request that is the last of its connection."""
    return "\r\n".join((first, "Host: x", "Connection: close", *lines, "", "")).encode("latin-1")


async def status_of(serving: Serving, raw: bytes) -> int:
    """Send a request, and return the status of its answer; a WebSocket is reset."""
    host, _, port = serving.base.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    first = await reader.readline()
    writer.transport.abort()
    return statuses(first)[0]


async def both_statuses(serving: Serving, first: str, *lines: str) -> list[int]:
    """Ask for a WebSocket and for a plain answer with this first line, and return the statuses."""
    return [await status_of(serving, build(*lines, first=first)) for build in (head, plain)]


@pytest.mark.parametrize("version", ["7", "8", "14", "0", "", "013", "13, 8", "x"])
async def test_other_versions_of_websocket_get_a_426(version: str, serve: Serve, upstream: RawServer) -> None:
    """It names the one version that is spoken (RFC 6455 section 4.2.2)."""
    serving = await serve(upstream.url)
    request = head().replace(b"Version: 13", b"Version: " + version.encode())
    heard = await shout(("127.0.0.1", int(serving.base.rpartition(":")[2])), request)
    assert statuses(heard) == [426]
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in heard
    assert not upstream.requests


@pytest.mark.parametrize(
    "path",
    [
        "%c0%ae%c0%ae/x",
        "%C0%2e%c0%2e/x",
        "%e0%80%ae%e0%80%ae/x",
        "%f0%80%80%ae./x",
        "..%c0%af../x",
        "%c1%9c../x",
        "..%20/x",
        "%20../x",
        "..%09/x",
        "..%0d/x",
        "..%7f/x",
        "..;/x",
        "..%3ba=b/x",
        "..%23/x",
        "..%3f/x",
        "..%00/x",
        "..%ff/x",
        "..%c2%a0/x",
        "..%e2%80%8b/x",
        "%ef%bc%8e%ef%bc%8e/x",
        "%e2%80%a5/x",
        "%u002e%u002e/x",
        "%252e%252e/x",
        "%25252e%25252e/x",
        "..%5cx",
        "..\\x",
        ".%252e%2f",
    ],
)
async def test_a_dot_segment_is_refused_in_every_spelling(path: str, serve: Serve, upstream: RawServer) -> None:
    """With a list of paths and, because the upstream's URL may have a path, without one."""
    for options in (("--allow-path", "/chat/*"), ()):
        serving = await serve(upstream.url, *options)
        assert await both_statuses(serving, f"GET /chat/{path} HTTP/1.1") == [400, 400]
    assert not upstream.requests


@pytest.mark.parametrize("path", ["a..b", "..a/x", "...", "M%C3%BCnchen", "a%20b", "a.b/c", "%E6%97%A5.html"])
async def test_other_dots_and_escapes_pass(path: str, serve: Serve, upstream: RawServer) -> None:
    """As they came."""
    upstream.answer = answer
    serving = await serve(upstream.url, "--allow-path", "/chat/*")
    assert await both_statuses(serving, f"GET /chat/{path} HTTP/1.1") == [101, 200]
    assert [request.target for request in upstream.requests] == [f"/chat/{path}"] * 2


@pytest.mark.parametrize(
    ("target", "seen", "host"),
    [
        ("http://127.0.0.1/chat", "/chat", "127.0.0.1"),
        ("ws://h:81/chat?x=1", "/chat?x=1", "h:81"),
        ("HTTPS://h", "/", "h"),
        ("http://[::1]:80?x=/../", "/?x=/../", "[::1]:80"),
    ],
)
async def test_a_whole_url_is_a_target(target: str, seen: str, host: str, serve: Serve, upstream: RawServer) -> None:
    """Its host is what counts, and not the Host header (RFC 9112 section 3.2.2). Proxies are asked in this way."""
    upstream.answer = answer
    serving = await serve(upstream.url, "--keep-host")
    assert await both_statuses(serving, f"GET {target} HTTP/1.1") == [101, 200]
    assert [request.target for request in upstream.requests] == [seen] * 2
    assert [request.get("host") for request in upstream.requests] == [host] * 2


@pytest.mark.parametrize("target", ["http://u@h/x", "http:///x", "ftp://h/x", "http://h/x#f", "http://h/../x", "h:80"])
async def test_a_target_that_is_no_url_of_the_web_is_refused(target: str, serve: Serve, upstream: RawServer) -> None:
    """Users, fragments and dot segments as well."""
    serving = await serve(upstream.url)
    assert await both_statuses(serving, f"GET {target} HTTP/1.1") == [400, 400]
    assert not upstream.requests


async def test_options_for_a_whole_server(serve: Serve, upstream: RawServer) -> None:
    """A URL without a path stands for `*` then (RFC 9112 section 3.2.4)."""
    upstream.answer = answer
    serving = await serve(upstream.url)
    assert await status_of(serving, plain(first="OPTIONS http://h HTTP/1.1")) == 200
    assert upstream.requests[-1].target == "*"


UNDERSCORES = ("HO_ST: evil", "X_User: a", "X_Forwarded_For: 192.0.2.1", "Content_Length: 5")


async def test_headers_with_underscores_are_dropped(serve: Serve, upstream: RawServer) -> None:
    """As nginx does: many servers read X_User as X-User. The log says so once, with the option that passes them."""
    upstream.answer = answer
    serving = await serve(upstream.url)
    first = "GET / HTTP/1.1"
    assert await both_statuses(serving, first, *UNDERSCORES) == [101, 200]
    seen = [name for request in upstream.requests for name, _ in request.headers]
    assert [name for name in seen if "_" in name] == []
    said = [line for line in serving.lines if "WARNING header dropped name=HO_ST" in line]
    # Each worker says it for itself.
    assert 1 <= len(said) <= WORKERS
    await serving.logged("header dropped", len(said))


async def test_headers_with_underscores_pass_on_demand(serve: Serve, upstream: RawServer) -> None:
    """Except those that would be read as headers of the proxy's own, or as the length of a body."""
    upstream.answer = answer
    serving = await serve(upstream.url, "--underscores-in-headers")
    assert await both_statuses(serving, "GET / HTTP/1.1", *UNDERSCORES) == [101, 200]
    for request in upstream.requests:
        assert [name for name, _ in request.headers if "_" in name] == ["ho_st", "x_user"]
    assert "header dropped" not in serving.log


async def test_trailers_follow_the_same_rule(serve: Serve) -> None:
    """A trailer of a request with an underscore is dropped too."""
    seen: list[bytes] = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 Done\r\n\r\n")
        writer.close()

    request = (
        plain("Transfer-Encoding: chunked", first="POST / HTTP/1.1") + b"1\r\na\r\n0\r\nX_User: a\r\nX-T: b\r\n\r\n"
    )
    server = await asyncio.start_server(read, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for options, passed in (((), []), (("--underscores-in-headers",), [b"X_User"])):
            serving = await serve(url, *options)
            assert await status_of(serving, request) == 204
            assert re.findall(rb"(\w+_\w+):", seen[-1]) == passed
            assert b"X-T: b\r\n" in seen[-1]


@pytest.mark.parametrize(
    "body",
    [
        b"0\r\nX: a\n\r\n",
        b"0\r\nX: a\r\n b\r\n\r\n",
        b"0\r\n\n",
        b"1;a\rb\r\na\r\n0\r\n\r\n",
        b"1;a\nb\r\na\r\n0\r\n\r\n",
        b"1\r\na\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n",
    ],
)
async def test_chunks_are_read_strictly(body: bytes, serve: Serve) -> None:
    """Bare line feeds and carriage returns, folded trailers: 400, and the upstream never sees the end of the body."""
    ends: list[bytes] = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    async with server:
        serving = await serve(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        request = plain("Transfer-Encoding: chunked", first="POST / HTTP/1.1") + body
        assert await status_of(serving, request) == 400
    assert not any(end.endswith(b"0\r\n\r\n") for end in ends)
