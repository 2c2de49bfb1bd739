"""Which headers pass, and which the proxy adds."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from reconnect_proxy.net.forwarding import end_to_end, end_to_end_trailers, forwarded, service_address
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


OF_THE_CLIENT = b"""
X-Forwarded-For: 203.0.113.9
x-forwarded-proto: https
X-Forwarded-Host: shop.example:8443
X-Forwarded-For: 203.0.113.10""".replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("trusted", "scheme", "host"), [(False, "http", "example.org"), (True, "https", "shop.example:8443")]
)
def test_scheme_and_host_are_those_of_a_trusted_peer_or_of_the_proxy(trusted: bool, scheme: str, host: str) -> None:
    """Each has a single value, of which a stranger says nothing. Addresses are appended to in both cases."""
    head = parse_request(HANDSHAKE + OF_THE_CLIENT)
    assert forwarded(head, "127.0.0.1", "http", trusted) == [
        ("X-Forwarded-For", "203.0.113.9, 203.0.113.10, 127.0.0.1"),
        ("X-Forwarded-Proto", scheme),
        ("X-Forwarded-Host", host),
    ]


@pytest.mark.parametrize(
    ("sent", "scheme", "host"),
    [
        (b"", "http", "example.org"),
        (b"\r\nX-Forwarded-Proto: wss\r\nX-Forwarded-Host: [2001:db8::1]:8443", "wss", "[2001:db8::1]:8443"),
        (b"\r\nX-Forwarded-Proto: http, HTTPS\r\nX-Forwarded-Host: evil, b.example", "HTTPS", "b.example"),
        (b"\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host:", "http", "example.org"),
        (b"\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: a/b", "http", "example.org"),
        (b"\r\nX_Forwarded_Proto: https\r\nX_Forwarded_Host: evil", "http", "example.org"),
    ],
)
def test_of_a_trusted_peer_one_value_counts_that_has_the_form(sent: bytes, scheme: str, host: str) -> None:
    """The last one is the peer's own; a value that is no scheme or Host counts as none."""
    assert service_address(parse_request(HANDSHAKE + sent), "http", True) == (scheme, host)


def test_forwarded_headers_cannot_be_spoofed_with_an_underscore() -> None:
    """CGI and WSGI take X_Forwarded_For for X-Forwarded-For; a client's own does not pass."""
    head = parse_request(b"GET / HTTP/1.0\r\nX_Forwarded_For: 6.6.6.6\r\nx-forwarded_host: evil")
    forged = forwarded(head, "127.0.0.1", "https", False)
    assert forged == [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "https")]


def test_trailers_that_belong_in_a_head_do_not_pass() -> None:
    """A server that merges trailers into its headers is not told by them who asks, or what for."""
    trailers = [(b"X-Sum", b"1"), (b"Authorization", b"a"), (b"Content-Length", b"5"), (b"X_Forwarded_For", b"6.6.6.6")]
    assert end_to_end_trailers([*trailers, (b"X-Reconnect-Id", b"0123456789abcdef")]) == [(b"X-Sum", b"1")]
    with pytest.raises(MalformedHead):
        end_to_end_trailers([(b"X", b"\x01")])
