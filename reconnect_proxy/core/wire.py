"""What the protocol says on the wire: header names, ids, counts, ping tokens, refusals. PROTOCOL.md sections 3 and 4.

Only encoding and parsing: nothing here knows a socket or a session.
"""

from __future__ import annotations

import json
import os
import re
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote_plus

CONNECTION_ID = "X-Connection-Id"
RECONNECT_ID = "X-Reconnect-Id"
RECEIVED = "X-Reconnect-Received"
RECONNECT = "X-Reconnect"
REPLAY_ID = "X-Replay-Id"

#: The query parameters for clients that cannot set headers, and the header that each stands for.
QUERY_NAMES = {"connection-id": CONNECTION_ID, "reconnect-id": RECONNECT_ID}

_ID = re.compile(r"[A-Za-z0-9._~-]{16,128}")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_COUNT = re.compile(r"0|[1-9][0-9]{0,18}")


class Refusal(Exception):
    """A request that is answered with an HTTP error and a short JSON body, PROTOCOL.md section 3."""

    def __init__(
        self,
        status: HTTPStatus,
        error: str,
        detail: str,
        retry_after: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.error = error
        self.detail = detail
        # Seconds, sent as Retry-After.
        self.retry_after = retry_after
        # Further headers of the answer.
        self.headers = headers

    @property
    def body(self) -> bytes:
        """The JSON body, UTF-8."""
        return json.dumps({"error": self.error, "detail": self.detail}).encode()


def bad_request(detail: str) -> Refusal:
    """Make the refusal of a malformed request."""
    return Refusal(HTTPStatus.BAD_REQUEST, "bad-request", detail)


def stopping() -> Refusal:
    """Make the refusal of a new session by a proxy that is being stopped."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "stopping", "the proxy is being stopped", retry_after=1)


def limit_reached(error: str, detail: str) -> Refusal:
    """Make the refusal of what a limit does not allow at the moment."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error, detail, retry_after=1)


@dataclass(slots=True)
class Claim:
    """What a client's request says about its session: the ids it names and, if the client is aware, its count."""

    connection_id: str | None = None
    reconnect_id: str | None = None
    # How many messages of this session the client has received; None from an unaware client.
    received: int | None = None
    # It carries X-Replay-Id: control messages are to be pushed (section 5).
    replay: bool = False

    @property
    def session_id(self) -> str | None:
        """The id that the request names, in either header."""
        return self.reconnect_id or self.connection_id

    @property
    def resume_or_fail(self) -> bool:
        """Whether the client accepts no new session: it sent X-Reconnect-Id alone."""
        return self.reconnect_id is not None and self.connection_id is None

    @property
    def wants_control(self) -> bool:
        """Whether control messages are pushed to this client.

        PROTOCOL.md section 5 names both headers. To an *aware* client they are pushed only if it sent X-Replay-Id: it
        counts what it receives, control messages are not counted, and one it did not ask for would falsify its count.
        """
        return self.replay or (self.reconnect_id is not None and self.received is None)


def is_id(text: str) -> bool:
    """Tell whether `text` is a legal session id: 16 to 128 of `A-Za-z0-9._~-`."""
    return _ID.fullmatch(text) is not None


def new_id() -> str:
    """Make an unguessable session id: 128 random bits, URL-safe, 22 characters."""
    return b2a_base64(os.urandom(16), newline=False)[:22].translate(_URL_SAFE).decode("ascii")


def parse_id(name: str, text: str) -> str:
    """Return `text` if it is a legal id; `name` is what the refusal calls it."""
    if not is_id(text):
        # The id itself is not repeated: it may be a secret with a typo.
        raise bad_request(f"{name} is {len(text)} characters; an id is 16 to 128 of A-Z a-z 0-9 . _ ~ -")
    return text


def parse_count(name: str, text: str) -> int:
    """Return the message count that `text` is; `name` is what the refusal calls it."""
    if _COUNT.fullmatch(text) is None:
        raise bad_request(f"{name} is {text[:40]!r}; a count is a decimal number without sign or leading zeros")
    return int(text)


def split_query(target: str) -> tuple[str, dict[str, str]]:
    """Take `connection-id` and `reconnect-id` out of a request target.

    Returns the target without them, otherwise byte for byte the same, and the two parameters by header name.
    """
    path, mark, query = target.partition("?")
    if not mark:
        return target, {}
    kept: list[str] = []
    named: dict[str, str] = {}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        header = QUERY_NAMES.get(unquote_plus(key))
        if header is None:
            kept.append(part)
        elif header in named:
            raise bad_request(f"the query parameter {key} is given twice")
        else:
            named[header] = unquote_plus(value)
    return (f"{path}?{'&'.join(kept)}" if kept else path), named


def encode_token(n: int) -> bytes:
    """Return the Ping payload that stands for message number `n`: 8 bytes, big-endian."""
    return n.to_bytes(8, "big")


def decode_token(payload: bytes) -> int | None:
    """Return the message number that a Pong payload stands for, or None if it is no token."""
    return int.from_bytes(payload, "big") if len(payload) == 8 else None


def id_from_control(payload: bytes) -> str | None:
    """Return the session id in an upstream's first message, or None (section 5).

    The message itself where it is a legal id, else the part behind its first `:` or `#`.
    """
    text = payload.decode("ascii", "replace")
    if is_id(text):
        return text
    found = re.search("[:#]", text)
    if found and is_id(text[found.end() :]):
        return text[found.end() :]
    return None
