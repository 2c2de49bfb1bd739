"""HTTP heads are read strictly, and only end-to-end headers pass."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from multidict import CIMultiDict

from reconnect_proxy.core.wire import Refusal
from reconnect_proxy.net.head import (
    MalformedHead,
    accept_key,
    check_handshake,
    encode_response,
    end_to_end,
    forwarded,
    parse_request,
    parse_response,
)

HANDSHAKE = (
    b"GET /chat?x=1 HTTP/1.1\r\nHost: example.org\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
)


def replaced(old: bytes, new: bytes) -> bytes:
    """Return the handshake with one part of it replaced, which must be there."""
    assert old in HANDSHAKE
    return HANDSHAKE.replace(old, new)


def test_a_handshake_is_parsed() -> None:
    """Target and headers come out as they were sent; names have no case."""
    head = parse_request(HANDSHAKE)
    check_handshake(head)
    assert head.target == "/chat?x=1"
    assert head.headers["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ=="


def test_the_accept_key_is_that_of_the_rfc() -> None:
    """The example of RFC 6455 section 1.3 comes out."""
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"GET ", b"POST "),
        (b"/chat?x=1", b"http://example.org/chat"),
        (b"/chat?x=1", b"/chat x"),
        (b"/chat?x=1", b"*"),
        (b"Host: example.org\r\n", b""),
        (b"Host: example.org", b"Host: a\r\nHost: b"),
        (b"Host: example.org", b"Host : example.org"),
        (b"Host: example.org", b"Host: example.org\r\n folded"),
        (b"Host: example.org", b"Host: example.org\nX: y"),
        (b"Host: example.org", b"Host: example.org\r\nX: \xff"),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: 5"),
        (b"Host: example.org", b"Host: example.org\r\nContent-Length: 0\r\nContent-Length: 0"),
        (b"Host: example.org", b"Host: example.org\r\nTransfer-Encoding: chunked"),
        (b"Host: example.org", b"Host: example.org\r\nno colon"),
        (b"Host: example.org", b"Host: exam\x00ple.org"),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_malformed(old: bytes, new: bytes) -> None:
    """Other versions, methods, forms, bodies, bare line feeds, folds and control characters are refused."""
    with pytest.raises(MalformedHead):
        parse_request(replaced(old, new))


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Upgrade: WebSocket", b"Upgrade: h2c", HTTPStatus.UPGRADE_REQUIRED),
        (b"Connection: keep-alive, Upgrade", b"Connection: keep-alive", HTTPStatus.UPGRADE_REQUIRED),
        (b"Version: 13", b"Version: 12", HTTPStatus.UPGRADE_REQUIRED),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ=", HTTPStatus.BAD_REQUEST),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"not base64!", HTTPStatus.BAD_REQUEST),
    ],
)
def test_a_request_that_is_no_handshake_is_refused(old: bytes, new: bytes, status: HTTPStatus) -> None:
    """What asks for no WebSocket gets 426, what asks wrongly 400."""
    with pytest.raises(Refusal) as refusal:
        check_handshake(parse_request(replaced(old, new)))
    assert refusal.value.status is status


def test_only_end_to_end_headers_pass() -> None:
    """What Connection names, what belongs to the handshake, and what this protocol says stays behind."""
    headers = CIMultiDict(
        {
            "Connection": "upgrade, X-Secret",
            "X-Secret": "1",
            "Cookie": "a=b",
            "Sec-WebSocket-Key": "k",
            "X-Reconnect-Received": "7",
            "X-Connection-Id": "an-id-of-some-length",
            "Keep-Alive": "5",
            "X-Replay-Id": "mine",
        }
    )
    assert end_to_end(headers) == [("Cookie", "a=b"), ("X-Replay-Id", "mine")]


def test_forwarded_headers_are_appended_to() -> None:
    """A chain of proxies stays readable: each appends its peer."""
    head = parse_request(HANDSHAKE + b"\r\nX-Forwarded-For: 203.0.113.9\r\nx-forwarded-proto: https")
    assert dict(forwarded(head, "127.0.0.1")) == {
        "X-Forwarded-For": "203.0.113.9, 127.0.0.1",
        "X-Forwarded-Proto": "https, http",
        "X-Forwarded-Host": "example.org",
    }


@pytest.mark.parametrize("head", [b"HTTP/1.0 101 x", b"HTTP/1.1 99 x", b"HTTP/1.1 101 x\nA: b", b"ICY 200 OK"])
def test_a_response_that_is_not_http_1_1_is_malformed(head: bytes) -> None:
    """An upstream that answers in something else is not understood by guessing."""
    with pytest.raises(MalformedHead):
        parse_response(head)


def test_an_answer_is_whole_and_ends_its_connection() -> None:
    """The length is given and the connection is closed, so that any client can read it."""
    answer = encode_response(HTTPStatus.GONE, "Gone", [("Content-Type", "application/json")], b"{}")
    assert answer == (
        b"HTTP/1.1 410 Gone\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    )
