"""Dialling: what the answer of an upstream is worth."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from reconnect_proxy.core.dial import DialFailure, DialRequest
from reconnect_proxy.net.connector import Connector
from reconnect_proxy.net.handshake import accept_key
from reconnect_proxy.net.outgoing import DialResources, UpstreamDialler
from reconnect_proxy.net.refused import RefusedHandshake
from reconnect_proxy.net.tls import Tls, TlsFiles


class Outcome:
    """Stands where the core's `Upstream` is, and keeps how the dial ended."""

    def __init__(self) -> None:
        self.failed: asyncio.Future[DialFailure] = asyncio.get_running_loop().create_future()

    def on_failed(self, dial: DialRequest, failure: DialFailure) -> None:
        """Keep the failure."""
        self.failed.set_result(failure)


@asynccontextmanager
async def server(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Serve one raw answer to each request head; yields the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(answer(await reader.readuntil(b"\r\n\r\n")))
            await writer.drain()
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def failure_of(url: str) -> DialFailure:
    """Dial `url` and return how that failed."""
    outcome = Outcome()
    resources = DialResources(Connector(), Tls(TlsFiles()), set(), 1024)
    dialler = UpstreamDialler("/", [], [], False, resources)
    dialler.dial(DialRequest(url, None, False, 0, None), outcome)  # type: ignore[arg-type]
    return await outcome.failed


async def test_an_answer_below_500_is_a_refusal_as_soon_as_its_head_is_there() -> None:
    """Its body is for the clients that wait. No client waits here, so the connection is closed."""
    head = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 6\r\n\r\n"
    async with server(lambda request: head) as url:
        failure = await failure_of(url)
    assert (failure.status, failure.rejected) == (401, True)
    assert isinstance(failure.answer, RefusedHandshake)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"x" * 20_000,
    ],
)
async def test_an_answer_that_is_no_handshake_may_pass_with_time(answer: bytes) -> None:
    """Garbage, an early end and 5xx are failed dials, not refusals."""
    async with server(lambda head: answer) as url:
        failure = await failure_of(url)
    assert not failure.final
    assert failure.answered is (failure.status == 503)
    assert failure.detail


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        (b"", "its Sec-WebSocket-Accept does not answer our key"),
        (b"Sec-WebSocket-Accept: wrong\r\n", "its Sec-WebSocket-Accept does not answer our key"),
        (b"Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Protocol: chat\r\n", "'chat', which was not offered"),
        (b"Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Extensions: x-gzip\r\n", "an extension that was not offered"),
        (b"Sec-WebSocket-Accept: {key}\r\nX-Reconnect-Received: -1\r\n", "X-Reconnect-Received is '-1'"),
    ],
)
async def test_a_101_that_violates_the_standard_is_incurable(fields: bytes, detail: str) -> None:
    """RFC 6455 section 4.1: the client must fail the connection. The same server would answer the same again."""

    def answer(head: bytes) -> bytes:
        [key] = re.findall(rb"Sec-WebSocket-Key: (\S+)", head)
        return SWITCHING + fields.replace(b"{key}", accept_key(key.decode()).encode()) + b"\r\n"

    async with server(answer) as url:
        failure = await failure_of(url)
    assert (failure.incurable, failure.rejected, failure.final, failure.answered) == (True, False, True, True)
    assert failure.detail.startswith("its 101 is not valid: ")
    assert detail in failure.detail


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 X\nUpgrade: websocket\n\n",
        b"HTTP/1.1 101 X\r\nX: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 101 X\r\nX : a\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 X\r\nX: a\0\r\n\r\n",
        b"HTTP/1.1 101 X\r\nX: " + b"a" * 20_000,
    ],
)
async def test_a_101_whose_head_is_malformed_is_incurable(head: bytes) -> None:
    """The server writes all its heads in this way."""
    async with server(lambda request: head) as url:
        assert (await failure_of(url)).incurable


async def test_what_is_not_http_may_pass() -> None:
    """Another program may have the port while the server restarts."""
    for head in (b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 X\nX: a\n\n"):
        async with server(lambda request, head=head: head) as url:  # type: ignore[misc]
            assert not (await failure_of(url)).incurable


async def test_a_101_that_upgrades_to_another_protocol_is_incurable() -> None:
    """It is an answer to a request that was not made."""
    h2c = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    async with server(lambda head: h2c) as url:
        assert (await failure_of(url)).incurable


async def test_a_refused_connection_is_a_failed_dial() -> None:
    """The reason names what the system said."""
    async with server(lambda head: b"") as url:
        pass
    failure = await failure_of(url)
    assert (failure.status, failure.rejected) == (0, False)
    assert "refused" in failure.detail or "Connect" in failure.detail
