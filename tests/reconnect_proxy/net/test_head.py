"""HTTP heads are read strictly."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from reconnect_proxy.net.forwarding import encode_fields
from reconnect_proxy.net.handshake import check_handshake
from reconnect_proxy.net.head import (
    HEAD_LIMIT,
    HeadReader,
    MalformedHead,
    encode_response,
    parse_request,
    parse_request_line,
    parse_response,
)

from .heads import HANDSHAKE, replaced


def test_a_handshake_is_parsed() -> None:
    """Target and headers come out as they were sent; names have no case."""
    head = parse_request(HANDSHAKE)
    check_handshake(head)
    assert head.target == "/chat?x=1"
    assert head.headers["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET /chat?x=1 HTTP/1.1", b"GET /chat?x=1", 400),
        (b"GET /chat?x=1 HTTP/1.1", b"GET  /chat HTTP/1.1", 400),
        (b"GET /chat?x=1 HTTP/1.1", b"GET /chat  HTTP/1.1", 400),
        (b"GET /chat?x=1 HTTP/1.1", b"GET\t/chat HTTP/1.1", 400),
        (b"GET ", b" GET ", 400),
        (b"GET ", b"G(T ", 400),
        (b"GET ", b"CONNECT ", 501),
        (b"GET ", b"TRACE ", 501),
        (b"GET /chat?x=1", b"CONNECT example.org:443", 501),
        (b"HTTP/1.1", b"HTTP/2.0", 505),
        (b"HTTP/1.1", b"HTTP/0.9", 505),
        (b"HTTP/1.1", b"HTTP/1.2", 505),
        (b"HTTP/1.1", b"http/1.1", 400),
        (b"HTTP/1.1", b"HTTP/1.1x", 400),
        (b"HTTP/1.1", b"HTTP/11", 400),
        (b"HTTP/1.1", b"ICY/1.1", 400),
        (b"/chat?x=1", b"ftp://example.org/chat", 400),
        (b"/chat?x=1", b"http://", 400),
        (b"/chat?x=1", b"http:/chat", 400),
        (b"/chat?x=1", b"http://user@example.org/chat", 400),
        (b"/chat?x=1", b"http://example.org/ch\xe4t", 400),
        (b"/chat?x=1", b"http://example.org\\chat", 400),
        (b"/chat?x=1", b"example.org:80", 400),
        (b"/chat?x=1", b"/chat x", 400),
        (b"/chat?x=1", b"/chat#x", 400),
        (b"/chat?x=1", b"/ch\xe4t", 400),
        (b"/chat?x=1", b"*", 400),
        (b"/chat?x=1", b"", 400),
        (b"Host: example.org\r\n", b"", 400),
        (b"Host: example.org", b"Host: a\r\nHost: b", 400),
        (b"Host: example.org", b"Host: a\r\nHost: a", 400),
        (b"Host: example.org", b"Host:", 400),
        (b"Host: example.org", b"Host: a b", 400),
        (b"Host: example.org", b"Host: a/b", 400),
        (b"Host: example.org", b"Host: user@example.org", 400),
        (b"Host: example.org", b"Host: example.org:80:80", 400),
        (b"Host: example.org", b"Host: example.org:http", 400),
        (b"Host: example.org", b"Host: [::1", 400),
        (b"Host: example.org", b"Host: a,b;\xc3\xa4", 400),
        (b"Host: example.org", b"Host : example.org", 400),
        (b"Host: example.org", b" Host: example.org", 400),
        (b"Host: example.org", b"Host: example.org\r\n folded", 400),
        (b"Host: example.org", b"Host: example.org\r\n\tfolded", 400),
        (b"Host: example.org", b"Host: example.org\nX: y", 400),
        (b"Host: example.org", b"Host: example.org\rX: y", 400),
        (b"Host: example.org", b"Host: example.org\r\nno colon", 400),
        (b"Host: example.org", b"Host: example.org\r\n: no name", 400),
        (b"Host: example.org", b"Host: exam\x00ple.org", 400),
        (b"Host: example.org", b"Host: example.org\r\nX: \x0b", 400),
        (b"Host: example.org", b"Host: example.org\r\nX: \x7f", 400),
        (b"Host: example.org", b"Host: example.org\r\nX\x00Y: z", 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: 0\r\nContent-Length: 0", 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: 5\r\nContent-Length: 6", 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: 5, 5", 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: +5", 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: -1", 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: 0x5", 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: 1_0", 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: \xd9\xa5", 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length:", 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: " + b"9" * 30, 400),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
        (b"Host: example.org", b"Host: example.org\r\nTransfer-Encoding: chunked, chunked", 400),
        (b"Host: example.org", b"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        (b"Host: example.org", b"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400),
        (b"Host: example.org", b"Host: example.org\r\nTransfer-Encoding: xchunked", 501),
        (b"Host: example.org", b"Host: example.org\r\nTransfer-Encoding: gzip, chunked", 501),
        (b"Host: example.org", b"Host: example.org\r\nTransfer-Encoding: chunked;q=1", 501),
        (b"Host: example.org", b"Host: example.org\r\nTransfer-Encoding: 'chunked'", 501),
        (b"Host: example.org", b"Host: example.org\r\nTransfer-Encoding:", 501),
        (b"Host: example.org", b"Host: example.org\r\nTransfer-Encoding: \x0bchunked", 400),
        (b"HTTP/1.1\r\n", b"HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_malformed(old: bytes, new: bytes, status: int) -> None:
    """Other versions and forms, two lengths, bare line ends, folds, control characters: each has its refusal."""
    with pytest.raises(MalformedHead) as refused:
        parse_request(replaced(old, new))
    assert refused.value.refusal.status == status


@pytest.mark.parametrize(
    ("first", "host", "method", "target", "version"),
    [
        (b"GET / HTTP/1.0", b"", "GET", "/", "1.0"),
        (b"GET /a|b?{c}^ HTTP/1.0", b"Host: [::1]:9\r\n", "GET", "/a|b?{c}^", "1.0"),
        (b"OPTIONS * HTTP/1.1", b"Host: 127.0.0.1:9124\r\n", "OPTIONS", "*", "1.1"),
        (b"M-SEARCH //a HTTP/1.1", b"Host: my_host.\r\n", "M-SEARCH", "//a", "1.1"),
    ],
)
def test_what_is_plain_http_is_parsed_too(first: bytes, host: bytes, method: str, target: str, version: str) -> None:
    """HTTP/1.0 without a Host, any method, and an asterisk for OPTIONS."""
    head = parse_request(first + b"\r\n" + host + b"Content-Length: 5\r\nX: \xff")
    assert (head.method, head.target, head.version) == (method, target, version)
    assert not head.asks_for_websocket
    assert encode_fields([("X", head.headers["X"])]) == [(b"X", b"\xff")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Upgrade: WebSocket", b"Upgrade: h2c"),
        (b"Connection: keep-alive, Upgrade", b"Connection: keep-alive"),
        (b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_what_does_not_ask_for_a_websocket_is_plain_http(old: bytes, new: bytes) -> None:
    """Another upgrade, one that Connection does not name, or one in HTTP/1.0 does not count."""
    assert parse_request(HANDSHAKE).asks_for_websocket
    assert not parse_request(replaced(old, new)).asks_for_websocket


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_head_is_gathered_from_reads_of_any_size(size: int) -> None:
    """Where the reads end makes no difference, and what comes behind the head is kept as it is."""
    stream = b"\r\n" + HANDSHAKE + b"\r\n\r\n\x81\x00\n\r\x00"
    reader, found, rest = HeadReader(check_line=parse_request_line), None, b""
    for start in range(0, len(stream), size):
        piece = stream[start : start + size]
        if found is None:
            found = reader.feed(piece)
            rest = found[1] if found else b""
        else:
            rest += piece
    assert found is not None and found[0] == HANDSHAKE
    assert rest == b"\x81\x00\n\r\x00"


@pytest.mark.parametrize(
    ("beginning", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"\n", 400),
        (b" GET / HTTP/1.1", 400),
        (b"\x16\x03\x01\x02", 400),
        (b"\x00", 400),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\rX", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \x00", 400),
        (b"PRI * HTTP/2.0\r\n", 505),
        (b"CONNECT a:1 HTTP/1.1\r\n", 501),
        (b"GET /" + b"a" * HEAD_LIMIT, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_LIMIT, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * HEAD_LIMIT + b"\r\n", 431),
    ],
)
def test_what_cannot_become_a_head_is_refused_at_once(beginning: bytes, status: int) -> None:
    """The proxy does not wait for the end of HTTP/0.9, HTTP/2, TLS, bare line ends, or too much of a head."""
    for size in (1, len(beginning)):
        reader = HeadReader(check_line=parse_request_line)
        with pytest.raises(MalformedHead) as refused:
            for start in range(0, len(beginning), size):
                assert reader.feed(beginning[start : start + size]) is None
        assert refused.value.refusal.status == status


def test_a_head_of_exactly_the_limit_is_taken() -> None:
    """The empty line is counted, what is behind it is not; one byte more is too much."""
    head = b"GET / HTTP/1.1\r\nX: "
    fill = HEAD_LIMIT - len(head) - 4
    found = HeadReader().feed(head + b"a" * fill + b"\r\n\r\n" + b"b" * 9)
    assert found == (head + b"a" * fill, b"b" * 9)
    with pytest.raises(MalformedHead):
        HeadReader().feed(head + b"a" * (fill + 1) + b"\r\n\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 101 x",
        b"HTTP/1.1 99 x",
        b"HTTP/1.1 101 x\nA: b",
        b"HTTP/1.1 200 OK\r\nA: b\rC: d",
        b"HTTP/1.1 200 OK\r\nA: b\nC: d",
        b"HTTP/1.1 200 OK\r\nA: b\x00",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"ICY 200 OK",
    ],
)
def test_a_response_that_is_not_http_1_1_is_malformed(head: bytes) -> None:
    """An upstream that answers in something else is not understood by guessing."""
    with pytest.raises(MalformedHead):
        parse_response(head)


@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding:",
        b"Content-Length: 0\r\nContent-Length: 0",
        b"Content-Length: 5\r\nTransfer-Encoding: gzip",
    ],
)
def test_a_1xx_has_no_body_whatever_its_headers_say(fields: bytes) -> None:
    """RFC 9112 section 6.3. In any other answer the same headers say in two ways where the body ends."""
    assert parse_response(b"HTTP/1.1 101 Switching Protocols\r\n" + fields).status == 101
    assert parse_response(b"HTTP/1.1 103 Early Hints\r\n" + fields).status == 103
    with pytest.raises(MalformedHead):
        parse_response(b"HTTP/1.1 200 OK\r\n" + fields)


def test_an_answer_is_whole_and_ends_its_connection() -> None:
    """The length is given and the connection is closed, so that any client can read it."""
    answer = encode_response(HTTPStatus.GONE, "Gone", [("Content-Type", "application/json")], b"{}")
    assert answer == (
        b"HTTP/1.1 410 Gone\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    )
