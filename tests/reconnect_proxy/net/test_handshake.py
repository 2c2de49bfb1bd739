"""Handshakes: what a client's request must be, and which session it asks for."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from multidict import CIMultiDict

from reconnect_proxy.core.wire import Claim, Refusal
from reconnect_proxy.net.handshake import accept_key, check_handshake, read_claim
from reconnect_proxy.net.head import RequestHead, parse_request

from .heads import replaced

ID = "0123456789abcdef"
OTHER = "fedcba9876543210"


def claim_of(target: str, *headers: tuple[str, str]) -> tuple[str, Claim]:
    """Read the claim of a request."""
    return read_claim(RequestHead(target, CIMultiDict(headers)))


def test_a_request_without_ids_claims_nothing() -> None:
    """An ordinary client is a new, unaware one."""
    assert claim_of("/a?b=c") == ("/a?b=c", Claim())


def test_headers_and_query_say_the_same() -> None:
    """The query parameters stand for the headers, and are taken out of the target without touching the rest."""
    assert claim_of(f"/?a=%20&connection-id={ID}&b", ("X-Reconnect-Received", "0")) == (
        "/?a=%20&b",
        Claim(connection_id=ID, received=0),
    )
    assert claim_of(f"/x?reconnect-id={ID}", ("X-Reconnect-Id", ID)) == ("/x", Claim(reconnect_id=ID))


def test_the_reconnect_id_alone_means_resume_or_fail() -> None:
    """With the connection id too, a new session is accepted."""
    assert claim_of("/", ("X-Reconnect-Id", ID))[1].resume_or_fail
    assert not claim_of("/", ("X-Reconnect-Id", ID), ("X-Connection-Id", ID))[1].resume_or_fail


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/", [("X-Connection-Id", "short")]),
        ("/", [("X-Connection-Id", "x" * 129)]),
        ("/", [("X-Connection-Id", ID + "/..")]),
        ("/?connection-id=", []),
        (f"/?connection-id={ID}&connection-id={ID}", []),
        (f"/?connection-id={OTHER}", [("X-Connection-Id", ID)]),
        ("/", [("X-Connection-Id", ID), ("X-Reconnect-Id", OTHER)]),
        ("/", [("X-Reconnect-Received", "-1")]),
        ("/", [("X-Reconnect-Received", "01")]),
        ("/", [("X-Reconnect-Received", "1e3")]),
        ("/", [("X-Reconnect-Received", "1"), ("X-Reconnect-Received", "2")]),
        ("/", [("X-Reconnect-Received", "9" * 40)]),
    ],
)
def test_malformed_claims_are_refused_with_400(target: str, headers: list[tuple[str, str]]) -> None:
    """An id or count that is malformed, or given twice in two ways, is not guessed at."""
    with pytest.raises(Refusal) as refusal:
        claim_of(target, *headers)
    assert refusal.value.status == 400
    assert ID not in refusal.value.detail


def test_the_accept_key_is_that_of_the_rfc() -> None:
    """The example of RFC 6455 section 1.3 comes out."""
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET ", b"POST ", HTTPStatus.BAD_REQUEST),
        (b"Version: 13", b"Version: 12", HTTPStatus.UPGRADE_REQUIRED),
        (b"Version: 13", b"Version: 13\r\nSec-WebSocket-Version: 13", HTTPStatus.UPGRADE_REQUIRED),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ=", HTTPStatus.BAD_REQUEST),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"not base64!", HTTPStatus.BAD_REQUEST),
        (b"Host: ", b"Content-Length: 5\r\nHost: ", HTTPStatus.BAD_REQUEST),
        (b"Host: ", b"Transfer-Encoding: chunked\r\nHost: ", HTTPStatus.BAD_REQUEST),
        (b"Host: ", b"Sec-WebSocket-Protocol: a b\r\nHost: ", HTTPStatus.BAD_REQUEST),
        (b"Host: ", b"Sec-WebSocket-Protocol: a, \xc3\xa4\r\nHost: ", HTTPStatus.BAD_REQUEST),
    ],
)
def test_a_bad_handshake_is_refused(old: bytes, new: bytes, status: HTTPStatus) -> None:
    """What asks for another version gets 426; a body, a bad key and a subprotocol that is no token get 400."""
    with pytest.raises(Refusal) as refusal:
        check_handshake(parse_request(replaced(old, new)))
    assert refusal.value.status is status
