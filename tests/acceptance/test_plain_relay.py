"""Without any fault the proxy is invisible: messages, handshakes and closes go through as they are."""

import asyncio
import json
import os

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.typing import Subprotocol

from .conftest import Serve
from .frames import Frame, Head, Opcode, Refused, encode, read_frame, read_head
from .ordinary import Talker, conversation, echo, ordinary_client, ordinary_server
from .rawserver import Answer, RawServer
from .rawsocket import dial
from .waiting import numbered

MIB = 1 << 20


async def test_sizes_and_types_come_back_as_they_were(serve: Serve) -> None:
    """Text and binary of every length that changes a frame's head, up to the limit itself, echo unchanged."""
    async with ordinary_server(echo) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}", "--max-message", "2MiB")
        async with ordinary_client(proxy.url) as client:
            for size in (0, 1, 125, 126, 127, 65535, 65536, MIB, 2 * MIB):
                for message in ("ä" + "x" * (size - 2) if size > 1 else "x" * size, os.urandom(size)):
                    await client.send(message)
                    assert await client.recv() == message


async def test_order_is_kept_in_both_directions_under_load(serve: Serve) -> None:
    """Thousands of messages at full speed, both ways at once, arrive complete and in order."""
    server = Talker(numbered("u2c", 5000, pad=80), rate=0)
    client = Talker(numbered("c2u", 5000, pad=80), rate=0)
    async with ordinary_server(server.converse) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}")
        async with conversation(proxy.url, client):
            await server.heard.reaches(5000)
            await client.heard.reaches(5000)
    assert server.heard.items == client.to_say
    assert client.heard.items == server.to_say


async def test_fragments_are_put_together(serve: Serve, upstream: RawServer) -> None:
    """A fragmented message, with pings between its fragments and a character cut in two, arrives as one."""
    proxy = await serve(upstream.url)
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    text = "grün und blau".encode()
    for sender, receiver in ((client, server), (server, client)):
        await sender.send_frame(Opcode.TEXT, text[:3], fin=False)
        await sender.fence()
        await sender.send_frame(Opcode.CONTINUATION, b"", fin=False)
        await sender.send_frame(Opcode.CONTINUATION, text[3:8], fin=False)
        await sender.fence()
        await sender.send_frame(Opcode.CONTINUATION, text[8:])
        await sender.send_frame(Opcode.BINARY, b"\x00" * 70000, fin=False)
        await sender.send_frame(Opcode.CONTINUATION, b"\x01" * 70000)
        assert await receiver.recv() == "grün und blau"
        assert await receiver.recv() == b"\x00" * 70000 + b"\x01" * 70000
        assert not receiver.left()


async def test_pings_of_either_side_are_answered(serve: Serve, upstream: RawServer) -> None:
    """A Ping, empty or of 125 bytes, gets a Pong with the same payload."""
    proxy = await serve(upstream.url)
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    for peer in (client, server):
        for payload in (b"", b"x" * 125):
            await peer.send_frame(Opcode.PING, payload)
            await peer.until(lambda peer=peer, payload=payload: payload in peer.pongs)  # type: ignore[misc]


async def test_upstream_chooses_the_subprotocol(serve: Serve) -> None:
    """The client gets the one that the server chose among its offers, and none where it chose none."""

    def choose(_: ServerConnection, offered: object) -> Subprotocol | None:
        return Subprotocol("second") if "second" in list(offered) else None  # type: ignore[call-overload]

    async with ordinary_server(echo, select_subprotocol=choose) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}")
        for offers, chosen in ((["first", "second"], "second"), (["first"], None), (None, None)):
            async with ordinary_client(proxy.url, subprotocols=offers) as client:
                assert client.subprotocol == chosen


@pytest.mark.parametrize(
    ("base", "target", "seen"),
    [
        ("", "/", "/"),
        ("", "/a/b%20c;d?x=1&y=%26&x=2&z", "/a/b%20c;d?x=1&y=%26&x=2&z"),
        ("/base", "/room/7?x=1", "/base/room/7?x=1"),
    ],
)
async def test_path_and_query_go_through(serve: Serve, upstream: RawServer, base: str, target: str, seen: str) -> None:
    """The upstream is asked for the client's path and query, byte for byte, behind its own base."""
    proxy = await serve(upstream.url + base)
    await dial(proxy.url + target)
    await upstream.accept()
    assert upstream.requests[0].target == seen


async def test_id_parameters_are_stripped_from_the_query(serve: Serve, upstream: RawServer) -> None:
    """`connection-id` and `reconnect-id` are for the proxy; what stands around them goes on."""
    proxy = await serve(upstream.url)
    await dial(f"{proxy.url}/p?a=1&connection-id=a-browser-made-this&b=%20")
    await upstream.accept()
    assert upstream.requests[0].target == "/p?a=1&b=%20"
    assert upstream.requests[0].get("x-connection-id") == "a-browser-made-this"
    await dial(f"{proxy.url}/p?connection-id=a-browser-made-that")
    await upstream.accept()
    assert upstream.requests[1].target.rstrip("?") == "/p"


async def test_end_to_end_headers_go_through(serve: Serve) -> None:
    """Cookies, credentials and the rest reach the upstream; its cookies and headers reach the client."""

    def answer(_: Head) -> Answer:
        cookies = [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; HttpOnly")]
        return Answer(headers=[*cookies, ("X-Served-By", "seven"), ("Connection", "Upgrade, X-Hop"), ("X-Hop", "1")])

    async with RawServer(answer) as upstream:
        proxy = await serve(upstream.url)
        sent = [
            ("Cookie", "session=abc; other=1"),
            ("Authorization", "Bearer x.y"),
            ("Origin", "http://page.example"),
            ("User-Agent", "tester/1"),
            ("X-Custom", "one"),
            ("X-Custom", "two"),
        ]
        client = await dial(f"{proxy.url}/", sent)
        await upstream.accept()
        request = upstream.requests[0]
        for name, value in sent:
            assert value in ", ".join(request.all(name)), name
        assert client.response.all("set-cookie") == ["a=1; Path=/", "b=2; HttpOnly"]
        assert client.response.get("x-served-by") == "seven"
        assert client.response.get("x-hop") is None, "a header that the upstream's Connection names is hop-by-hop"


async def test_hop_by_hop_headers_stay(serve: Serve, upstream: RawServer) -> None:
    """What belongs to the client's hop alone does not reach the upstream (RFC 9110 section 7.6.1)."""
    proxy = await serve(upstream.url)
    hop = [
        ("Connection", "Upgrade, X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
    ]
    client = await dial(f"{proxy.url}/", hop)
    await upstream.accept()
    request = upstream.requests[0]
    for name in ("x-mine", "keep-alive", "te", "proxy-connection", "proxy-authorization"):
        assert request.get(name) is None, name
    assert request.get("connection") is not None
    assert len(request.all("sec-websocket-key")) == 1
    assert request.get("sec-websocket-key") != client.request.get("sec-websocket-key")


async def test_forwarded_headers_are_appended(serve: Serve, upstream: RawServer) -> None:
    """The upstream learns who asked, for which host and over what, behind what earlier proxies said."""
    proxy = await serve(upstream.url)
    await dial(f"{proxy.url}/")
    await dial(f"{proxy.url}/", [("X-Forwarded-For", "192.0.2.7")])
    first, second = (await upstream.accept()).request, (await upstream.accept()).request
    assert first.get("x-forwarded-for") == "127.0.0.1"
    assert first.get("x-forwarded-proto") in ("http", "ws")
    assert first.get("x-forwarded-host") == proxy.base
    assert (second.get("x-forwarded-for") or "").replace(" ", "") == "192.0.2.7,127.0.0.1"


async def test_reconnect_headers_of_a_client_do_not_pass(serve: Serve, upstream: RawServer) -> None:
    """What the upstream reads in X-Reconnect-* is the proxy's word, never the client's."""
    proxy = await serve(upstream.url)
    forged = [("X-Reconnect", "true"), ("X-Reconnect-Received", "0"), ("X-Reconnect-Whatever", "1")]
    client = await dial(f"{proxy.url}/", forged)
    request = (await upstream.accept()).request
    assert request.get("x-reconnect") is None
    assert request.get("x-reconnect-whatever") is None
    assert request.all("x-reconnect-received") == ["0"]
    assert request.get("x-connection-id") == client.response.get("x-connection-id")


@pytest.mark.parametrize("setting", ["on", "off"])
async def test_who_wants_to_compress_is_understood_either_way(serve: Serve, setting: str) -> None:
    """A client and a server that both offer permessage-deflate talk with it, or without where it is off."""
    async with ordinary_server(echo, compression="deflate") as port:
        proxy = await serve(f"ws://127.0.0.1:{port}", "--compression", setting)
        async with ordinary_client(proxy.url, compression="deflate") as client:
            assert client.response is not None
            assert ("Sec-WebSocket-Extensions" in client.response.headers) is (setting == "on")
            await client.send("a" * 5000)
            assert await client.recv() == "a" * 5000


async def test_a_client_sees_the_refusal_of_the_upstream(serve: Serve, upstream: RawServer) -> None:
    """An HTTP error below 500 reaches the client with status, headers and body, and no session is made of it."""
    proxy = await serve(upstream.url)
    body = json.dumps({"why": "not you"}).encode()
    headers = [("WWW-Authenticate", 'Basic realm="r"'), ("Content-Type", "application/json")]
    for status in (400, 401, 403, 404, 429):
        upstream.answer = lambda _, status=status: Answer(status, headers, body)  # type: ignore[misc]
        with pytest.raises(Refused) as refusal:
            await dial(f"{proxy.url}/", [("X-Connection-Id", "a-client-chosen-id")])
        assert (refusal.value.status, refusal.value.body) == (status, body)
        assert refusal.value.head.get("www-authenticate") == 'Basic realm="r"'
        assert refusal.value.head.get("content-type") == "application/json"
    upstream.answer = lambda _: Answer()
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", "a-client-chosen-id")])
    assert client.response.get("x-connection-id") == "a-client-chosen-id"
    assert len(upstream.requests) == 6, "a refusal is passed on at once, not retried"


async def test_a_client_may_talk_before_it_is_answered(serve: Serve, upstream: RawServer) -> None:
    """Frames in the segment of the handshake are not lost, nor those of an upstream behind its 101."""
    proxy = await serve(upstream.url)
    early = encode(Frame(Opcode.TEXT, b"early"), mask=False)
    upstream.answer = lambda _: Answer(tail=early)
    host, port = proxy.base.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = (
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    writer.write(request.encode() + encode(Frame(Opcode.TEXT, b"at once"), mask=True))
    assert (await read_head(reader)).status == 101
    assert (await read_frame(reader)).payload == b"early"
    server = await upstream.accept()
    assert await server.recv() == "at once"
    writer.transport.abort()
