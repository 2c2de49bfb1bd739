"""Which headers pass, and which the proxy adds."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from reconnect_proxy.net.forwarding import end_to_end, end_to_end_trailers, forwarded
from reconnect_proxy.net.head import MalformedHead, parse_request

from .heads import HANDSHAKE


def test_only_end_to_end_headers_pass() -> None:
    """What Connection names, what belongs to the handshake, and what this protocol says stays behind."""
    headers = CIMultiDict(
        {
            "X-Secret": "1",
            "Cookie": "a=b",
            "Sec-WebSocket-Key": "k",
            "X-Reconnect-Received": "7",
            "X-Connection-Id": "an-id-of-some-length",
            "Keep-Alive": "5",
            "X-Replay-Id": "mine",
            "X_Reconnect_Id": "an-id-of-some-length",
            "x-secret_": "2",
            "Connection": "upgrade, X-Secret, x_secret-",
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


def test_forwarded_headers_cannot_be_spoofed_with_an_underscore() -> None:
    """CGI and WSGI take X_Forwarded_For for X-Forwarded-For; a client's own does not pass."""
    head = parse_request(b"GET / HTTP/1.0\r\nX_Forwarded_For: 6.6.6.6\r\nx-forwarded_host: evil")
    assert forwarded(head, "127.0.0.1", "https") == [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "https")]


def test_trailers_that_belong_in_a_head_do_not_pass() -> None:
    """A server that merges trailers into its headers is not told by them who asks, or what for."""
    trailers = [(b"X-Sum", b"1"), (b"Authorization", b"a"), (b"Content-Length", b"5"), (b"X_Forwarded_For", b"6.6.6.6")]
    assert end_to_end_trailers([*trailers, (b"X-Reconnect-Id", b"0123456789abcdef")]) == [(b"X-Sum", b"1")]
    with pytest.raises(MalformedHead):
        end_to_end_trailers([(b"X", b"\x01")])
