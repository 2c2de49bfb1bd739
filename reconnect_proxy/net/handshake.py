"""WebSocket handshakes (RFC 6455 section 4): what a client's request and an upstream's 101 must be, and what they say.

The answers themselves are written in `adoption` and `outgoing`.
"""

from __future__ import annotations

import hashlib
import os
import re
from binascii import b2a_base64
from dataclasses import dataclass
from http import HTTPStatus

from multidict import CIMultiDict

from ..core.wire import (
    CONNECTION_ID,
    RECEIVED,
    RECONNECT_ID,
    REPLAY_ID,
    Claim,
    Refusal,
    bad_request,
    parse_count,
    parse_id,
    split_query,
)
from .head import TOKEN, MalformedHead, RequestHead, has_token

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: The base64 of 16 bytes (RFC 6455 section 4.1).
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")


@dataclass(slots=True)
class SessionRequest:
    """A client's handshake: its head, the target without this protocol's parameters, its claim, its IP address."""

    head: RequestHead
    target: str
    claim: Claim
    peer: str


def check_handshake(head: RequestHead) -> None:
    """Check a request that asks for a WebSocket (RFC 6455 section 4.2.1).

    Raises:
        Refusal: 426 if it asks for another version, 400 if it is malformed.
    """
    headers = head.headers
    if head.method != "GET":
        raise bad_request(f"the method is {head.method}; a WebSocket handshake is a GET")
    if "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0":
        raise bad_request("a WebSocket handshake has no body")
    if headers.getall("Sec-WebSocket-Version", ()) != ["13"]:
        raise Refusal(HTTPStatus.UPGRADE_REQUIRED, "upgrade-required", "Sec-WebSocket-Version must be 13")
    keys = headers.getall("Sec-WebSocket-Key", ())
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise bad_request("Sec-WebSocket-Key must be 16 bytes in base64")
    for offer in head.subprotocols:
        if not (offer.isascii() and TOKEN.fullmatch(offer.encode())):
            raise bad_request("Sec-WebSocket-Protocol must be tokens, with commas between them")


def check_answer(headers: CIMultiDict[str], key: str) -> None:
    """Check the headers of a 101 (RFC 6455 section 4.1); `key` is the Sec-WebSocket-Key that it answers.

    Raises:
        MalformedHead: it is not the answer to that handshake.
    """
    if not (has_token(headers, "Upgrade", "websocket") and has_token(headers, "Connection", "upgrade")):
        raise MalformedHead("a 101 that does not upgrade to websocket")
    if headers.getall("Sec-WebSocket-Accept", ()) != [accept_key(key)]:
        raise MalformedHead("its Sec-WebSocket-Accept does not answer our key")


def read_claim(head: RequestHead) -> tuple[str, Claim]:
    """Return the target without this protocol's query parameters, and which session the request asks for.

    Raises:
        Refusal: an id or count is malformed, or given twice with different values.
    """
    target, query = split_query(head.target)
    ids: dict[str, str | None] = {}
    for name in (CONNECTION_ID, RECONNECT_ID):
        given = head.headers.getall(name, ())
        if name in query:
            given = [*given, query[name]]
        if len(given) > 1 and len(set(given)) > 1:
            raise bad_request(f"{name} is given more than once, with different values")
        ids[name] = parse_id(name, given[0]) if given else None
    connection_id, reconnect_id = ids[CONNECTION_ID], ids[RECONNECT_ID]
    if connection_id and reconnect_id and connection_id != reconnect_id:
        raise bad_request(f"{CONNECTION_ID} and {RECONNECT_ID} name different sessions")
    return target, Claim(connection_id, reconnect_id, received_count(head.headers), REPLAY_ID in head.headers)


def received_count(headers: CIMultiDict[str]) -> int | None:
    """Return how many messages the sender of a head has received, or None if it does not say.

    Raises:
        Refusal: it is not a count, or there are two different ones.
    """
    if RECEIVED not in headers:
        return None
    counts = {parse_count(RECEIVED, text) for text in headers.getall(RECEIVED)}
    if len(counts) > 1:
        raise bad_request(f"{RECEIVED} is given more than once, with different values")
    return counts.pop()


def new_key() -> str:
    """Return a Sec-WebSocket-Key of our own (RFC 6455 section 4.1)."""
    return b2a_base64(os.urandom(16), newline=False).decode("ascii")


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept that answers `key` (RFC 6455 section 4.2.2)."""
    return b2a_base64(hashlib.sha1(key.encode("ascii") + _GUID).digest(), newline=False).decode("ascii")
