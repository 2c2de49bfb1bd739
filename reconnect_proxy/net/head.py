"""HTTP/1.1 heads: parse them strictly, and tell which headers a proxy passes on.

Only what a WebSocket handshake needs (RFC 6455 section 4, RFC 9112). Whatever two programs could read in two ways is
refused: bare line feeds, folded lines, other versions, bodies.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from multidict import CIMultiDict

from ..core.wire import CONNECTION_ID, RECONNECT, Refusal, bad_request

#: A head, its empty line included, is at most this many bytes.
HEAD_LIMIT = 16 * 1024

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"/[!-~]*")
_FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")

#: Of one connection only (RFC 9110 section 7.6.1), beside those that a Connection header names.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: Headers of the protocol begin like this; none passes as it came.
_RESERVED = RECONNECT.lower()
#: Made anew on each leg: the WebSocket handshake, and what this protocol says.
_OF_THE_LEG = frozenset(
    {
        "host",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        CONNECTION_ID.lower(),
    }
)


class MalformedHead(ValueError):
    """A head that is not HTTP/1.1 as this proxy reads it; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's first line and headers. `target` is in origin form, as it came: path and query."""

    target: str
    headers: CIMultiDict[str]

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols the client offers, in its order of preference."""
        return tokens(self.headers, "Sec-WebSocket-Protocol")


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response's status and headers."""

    status: int
    headers: CIMultiDict[str]


def tokens(headers: CIMultiDict[str], name: str) -> list[str]:
    """Return the comma-separated members of all headers called `name`."""
    return [part.strip() for value in headers.getall(name, ()) for part in value.split(",") if part.strip()]


def has_token(headers: CIMultiDict[str], name: str, token: str) -> bool:
    """Tell whether a header called `name` has this member, in any case."""
    return any(part.lower() == token for part in tokens(headers, name))


def parse_request(head: bytes) -> RequestHead:
    """Parse a request head, without the empty line that ends it.

    Raises:
        MalformedHead: it is no head of a GET request of HTTP/1.1 in origin form.
    """
    first, *lines = head.split(b"\r\n")
    method, _, rest = first.partition(b" ")
    target, _, version = rest.partition(b" ")
    if version != b"HTTP/1.1" or not _TOKEN.fullmatch(method):
        raise MalformedHead("the request line is not METHOD TARGET HTTP/1.1")
    if method != b"GET":
        raise MalformedHead(f"the method is {method.decode('ascii')}; a WebSocket handshake is a GET")
    if not _TARGET.fullmatch(target):
        raise MalformedHead("the request target is not a path that begins with /")
    headers = _parse_fields(lines)
    if len(headers.getall("Host", ())) != 1:
        raise MalformedHead("there must be one Host header")
    if "Transfer-Encoding" in headers or headers.getall("Content-Length", ["0"]) != ["0"]:
        raise MalformedHead("a WebSocket handshake has no body")
    return RequestHead(target.decode("ascii"), headers)


def parse_response(head: bytes) -> ResponseHead:
    """Parse a response head, without the empty line that ends it.

    Raises:
        MalformedHead: it is no head of an HTTP/1.1 response.
    """
    first, *lines = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise MalformedHead("the status line is not HTTP/1.1 and a status")
    return ResponseHead(int(match[1]), _parse_fields(lines))


def _parse_fields(lines: Iterable[bytes]) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not _TOKEN.fullmatch(name):
            raise MalformedHead("a header line is not NAME: VALUE")
        if not _FIELD_VALUE.fullmatch(value):
            raise MalformedHead(f"the header {name.decode('ascii')} has a control character in its value")
        try:
            headers.add(name.decode("ascii"), value.decode())
        except UnicodeDecodeError:
            raise MalformedHead(f"the header {name.decode('ascii')} is not UTF-8") from None
    return headers


def check_handshake(head: RequestHead) -> None:
    """Check that a request is a WebSocket handshake (RFC 6455 section 4.2.1).

    Raises:
        Refusal: 426 where it asks for no WebSocket or another version, 400 where its key is malformed.
    """
    headers = head.headers
    if not (has_token(headers, "Upgrade", "websocket") and has_token(headers, "Connection", "upgrade")):
        raise Refusal(
            HTTPStatus.UPGRADE_REQUIRED, "upgrade-required", "this is a WebSocket proxy: ask with Upgrade: websocket"
        )
    if headers.getall("Sec-WebSocket-Version", ()) not in (["13"], ["8"], ["7"]):
        raise Refusal(HTTPStatus.UPGRADE_REQUIRED, "upgrade-required", "Sec-WebSocket-Version must be 13")
    keys = headers.getall("Sec-WebSocket-Key", ())
    try:
        valid = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise bad_request("Sec-WebSocket-Key must be 16 bytes in base64")


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept that answers `key` (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + _GUID).digest()).decode("ascii")


def end_to_end(headers: CIMultiDict[str]) -> list[tuple[str, str]]:
    """Return the headers that are passed on: not those of one connection, nor those that each leg makes anew."""
    named = {token.lower() for token in tokens(headers, "Connection")}
    dropped = _HOP_BY_HOP | _OF_THE_LEG | named
    return [
        (name, value)
        for name, value in headers.items()
        if (lower := name.lower()) not in dropped and not lower.startswith(_RESERVED)
    ]


def forwarded(head: RequestHead, peer: str, scheme: str = "http") -> list[tuple[str, str]]:
    """Return the headers of a client's request as they go to the upstream, with X-Forwarded-* appended.

    Args:
        head: the client's request.
        peer: the client's IP address.
        scheme: `https` where the client came by TLS.
    """
    passed = end_to_end(head.headers)
    ours = {"X-Forwarded-For": peer, "X-Forwarded-Proto": scheme, "X-Forwarded-Host": head.headers["Host"]}
    result = [(name, value) for name, value in passed if name.title() not in ours]
    for name, value in ours.items():
        result.append((name, ", ".join([*head.headers.getall(name, ()), value])))
    return result


def replaced(headers: Iterable[tuple[str, str]], others: CIMultiDict[str]) -> list[tuple[str, str]]:
    """Return `headers` with `others` behind them, each in place of those of the same name."""
    return [*((name, value) for name, value in headers if name not in others), *others.items()]


def is_field(name: str, value: str) -> bool:
    """Tell whether a header may have this name and value."""
    return _TOKEN.fullmatch(name.encode()) is not None and _FIELD_VALUE.fullmatch(value.encode()) is not None


def encode_response(status: HTTPStatus | int, reason: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Return a whole response that ends its connection."""
    lines = [f"HTTP/1.1 {int(status)} {reason}".rstrip()]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body
