"""HTTP/1.1 heads: read and parse them strictly, and tell which headers a proxy passes on.

What a WebSocket handshake and a plain request have in common (RFC 6455 section 4, RFC 9110, RFC 9112). Whatever two
programs could read in two ways is refused, before anything of it reaches an upstream: bare line feeds, folded lines,
two lengths, other forms of the target. So what is sent on, made anew from what was parsed, means the same to everybody.
"""

from __future__ import annotations

import hashlib
import os
import re
from binascii import b2a_base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from multidict import CIMultiDict

from ..core.wire import CONNECTION_ID, RECEIVED, RECONNECT, Refusal, bad_request, parse_count

#: The head of an upstream's answer is at most this many bytes.
HEAD_LIMIT = 16 * 1024

#: Interim answers (1xx) that may come before the real one.
INTERIM_LIMIT = 16

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: No `#`: a fragment never leaves a client (RFC 9112 section 3.2).
_TARGET = re.compile(rb"/[!\"$-~]*")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]{0,5})?")
_FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[!\"$-~]*) HTTP/(1\.[01])")
#: A header line, with the line end before it; behind a character that is no value's there is no line end.
_FIELD = re.compile(r"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\U0010ffff]*+)(?=\r\n|\Z)")
#: The base64 of 16 bytes (RFC 6455 section 4.1).
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
#: Fifteen digits are a petabyte; more of them are an attempt at somebody's integers.
_LENGTH = re.compile(r"[0-9]{1,15}")
#: A head as far as it has come: no control characters, and no line ends that only some programs take for one.
_LINES = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]*+\r\n)*+[\t\x20-\x7e\x80-\xff]*+\r?")
#: The empty line that ends a head, with the end of the line before it.
HEAD_END = b"\r\n\r\n"
_CR = 13

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
#: What is told of the client, in this order: its address, scheme and host.
_FORWARDED = {
    "x-forwarded-for": "X-Forwarded-For",
    "x-forwarded-proto": "X-Forwarded-Proto",
    "x-forwarded-host": "X-Forwarded-Host",
}
_DROPPED = _HOP_BY_HOP | _OF_THE_LEG
#: What a server would act upon, were it to take trailers for headers, as some do.
_OF_A_HEAD = (
    "authorization",
    "cache-control",
    "content-",
    "cookie",
    "expect",
    "forwarded",
    "if-",
    "location",
    "max-forwards",
    "origin",
    "range",
    "set-cookie",
    "www-authenticate",
    "x-forwarded-",
)


class MalformedHead(ValueError):
    """A head that this proxy does not take; the message says what is wrong, `status` is the answer to a client."""

    def __init__(self, detail: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(detail)
        self.status = status

    @property
    def refusal(self) -> Refusal:
        """What a client is answered."""
        return Refusal(self.status, _ERRORS[self.status], str(self))


#: The short names of what is wrong with a head, as the JSON body of a refusal has them.
_ERRORS = {
    HTTPStatus.BAD_REQUEST: "bad-request",
    HTTPStatus.REQUEST_URI_TOO_LONG: "uri-too-long",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "head-too-large",
    HTTPStatus.NOT_IMPLEMENTED: "not-implemented",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "version-not-supported",
}


@dataclass(slots=True)
class RequestHead:
    """A request's first line and headers.

    `target` is as it came: path and query (origin form), or `*`. `version` is `1.1` or `1.0`.
    """

    target: str
    headers: CIMultiDict[str]
    method: str = "GET"
    version: str = "1.1"

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols the client offers, in its order of preference."""
        return tokens(self.headers, "Sec-WebSocket-Protocol")

    @property
    def asks_for_websocket(self) -> bool:
        """Whether this is a handshake, well made or not: Upgrade counts only where Connection names it, and not in 1.0.

        RFC 9110 section 7.8. All else is plain HTTP.
        """
        return (
            self.version == "1.1"
            and has_token(self.headers, "Upgrade", "websocket")
            and has_token(self.headers, "Connection", "upgrade")
        )


@dataclass(slots=True)
class ResponseHead:
    """A response's first line and headers. `version` is `1.1` or `1.0`."""

    status: int
    headers: CIMultiDict[str]
    version: str = "1.1"
    reason: bytes = b""


def tokens(headers: CIMultiDict[str], name: str) -> list[str]:
    """Return the comma-separated members of all headers called `name`."""
    values = headers.getall(name, ())
    return [token for value in values for part in value.split(",") if (token := part.strip())] if values else []


def has_token(headers: CIMultiDict[str], name: str, token: str) -> bool:
    """Tell whether a header called `name` has this member, in any case."""
    for value in headers.getall(name, ()):
        text = value.lower()
        if text == token or token in [part.strip() for part in text.split(",")]:
            return True
    return False


class HeadReader:
    """Gathers one head from reads of any size, in time that is linear in its length.

    What is wrong is found at once where it can be, so that nobody waits for the end of something that is no head.
    """

    __slots__ = ("_buffer", "_check_line", "_limit", "_seen", "_skipped")

    def __init__(self, limit: int = HEAD_LIMIT, check_line: Callable[[bytes], object] | None = None) -> None:
        """Make a reader of one head.

        Args:
            limit: bytes that it may have, its empty line included.
            check_line: is given the first line as soon as it is there; raises MalformedHead where it is wrong. With it
                one empty line may come before (RFC 9112 section 2.2).
        """
        self._limit = limit
        self._check_line = check_line
        self._buffer = bytearray()
        # Bytes that were looked at before.
        self._seen = 0
        # The one empty line that may come before a request has come, or may not.
        self._skipped = check_line is None

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Read on. Returns the head without its empty line, and what came behind it, once it is whole.

        Raises:
            MalformedHead: it is too long (414, 431), or can be no head any more.
        """
        if self._buffer:
            self._buffer += data
            buffer: bytes | bytearray = self._buffer
        else:
            # Most heads come as a whole: those are not copied.
            buffer = data
        if not self._skipped:
            if buffer in (b"", b"\r"):
                self._buffer = bytearray(buffer)
                return None
            buffer = self._without_empty_line(buffer)
        end = buffer.find(HEAD_END, max(0, self._seen - len(HEAD_END) + 1))
        # A CR that had come last is looked at again, and with the CR LF that is the end, one in front of it is found.
        begin = self._seen - 1 if self._seen and buffer[self._seen - 1] == _CR else self._seen
        if not _LINES.fullmatch(buffer, begin, end + 2 if end >= 0 else len(buffer)):
            raise MalformedHead("there is a control character, or a line that does not end with CR LF")
        if self._check_line is not None:
            line = buffer.find(b"\r\n", max(0, self._seen - 1), end + 2 if end >= 0 else len(buffer))
            if 0 <= line <= self._limit:
                self._check_line(bytes(buffer[:line]))
                self._check_line = None
        if (end + len(HEAD_END) if end >= 0 else len(buffer) + 1) > self._limit:
            raise self._too_long(buffer)
        if end >= 0:
            return bytes(buffer[:end]), bytes(buffer[end + len(HEAD_END) :])
        self._seen = len(buffer)
        if buffer is not self._buffer:
            self._buffer = bytearray(buffer)
        return None

    def _without_empty_line(self, buffer: bytes | bytearray) -> bytes | bytearray:
        """Return the beginning of the head itself. Raises MalformedHead where it cannot be one."""
        self._skipped = True
        if buffer.startswith(b"\r\n"):
            buffer = buffer[2:]
        if buffer and not _TOKEN.match(buffer):
            raise MalformedHead("it does not begin with a method")
        return buffer

    def _too_long(self, buffer: bytes | bytearray) -> MalformedHead:
        if b"\r\n" in buffer[: self._limit]:
            detail, status = f"the head is longer than {self._limit} bytes", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        else:
            detail, status = f"the first line is longer than {self._limit} bytes", HTTPStatus.REQUEST_URI_TOO_LONG
        return MalformedHead(detail, status)


# Looked at as soon as it is there, and again with the rest; and clients of one kind ask for the same few.
@lru_cache(16)
def parse_request_line(line: bytes) -> tuple[str, str, str]:
    """Return method, target and version (`1.1`) of a request's first line.

    Raises:
        MalformedHead: it is no request line, or one that this proxy does not serve (501, 505).
    """
    match = _REQUEST_LINE.fullmatch(line)
    if match is not None and match[1] not in (b"CONNECT", b"TRACE"):
        return match[1].decode("ascii"), match[2].decode("ascii"), match[3].decode("ascii")
    method, _, rest = line.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    if not _TOKEN.fullmatch(method) or not re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version) or b" " in target:
        raise MalformedHead("the request line is not METHOD TARGET HTTP/1.1")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        spoken = version.decode("ascii")
        raise MalformedHead(f"this is {spoken}; HTTP/1.1 is spoken here", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if method in (b"CONNECT", b"TRACE"):
        raise MalformedHead(f"{method.decode('ascii')} is not served here", HTTPStatus.NOT_IMPLEMENTED)
    if not _TARGET.fullmatch(target) and (method, target) != (b"OPTIONS", b"*"):
        raise MalformedHead("the request target is not a path that begins with /, without a fragment")
    return method.decode("ascii"), target.decode("ascii"), version[-3:].decode("ascii")


def parse_request(head: bytes) -> RequestHead:
    """Parse a request head, without the empty line that ends it.

    Raises:
        MalformedHead: it is no head of an HTTP/1 request in origin form, or one whose body could begin or end in
            two places.
    """
    first, line_end, fields = head.partition(b"\r\n")
    method, target, version = parse_request_line(first)
    headers = _parse_fields(line_end + fields)
    hosts = headers.getall("Host", ())
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        raise MalformedHead("there must be one Host header")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise MalformedHead("the Host header is not HOST or HOST:PORT")
    _check_framing(headers, version)
    return RequestHead(target, headers, method, version)


def parse_response(head: bytes) -> ResponseHead:
    """Parse a response head, without the empty line that ends it.

    Raises:
        MalformedHead: it is no head of an HTTP/1 response, or one whose body could end in two places.
    """
    first, line_end, fields = head.partition(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None or match[1] + match[2] == b"0101":
        raise MalformedHead("the status line is not HTTP/1.1 and a status")
    headers = _parse_fields(line_end + fields)
    version = "1." + match[1].decode("ascii")
    _check_framing(headers, version)
    return ResponseHead(int(match[2]), headers, version, match[3] or b"")


def _parse_fields(raw: bytes) -> CIMultiDict[str]:
    """Parse header lines, each with the line end before it. Values keep bytes that are not UTF-8 (surrogateescape)."""
    text = raw.decode("utf-8", "surrogateescape")
    fields = _FIELD.findall(text)
    if len(fields) != text.count("\r\n"):
        raise MalformedHead("a header line is not NAME: VALUE, or has a control character in it")
    return CIMultiDict([(name, value.strip(" \t")) for name, value in fields])


def _check_framing(headers: CIMultiDict[str], version: str) -> None:
    """See to it that there is one way to tell where the body ends (RFC 9112 section 6.3)."""
    codings = headers.getall("Transfer-Encoding", ())
    lengths = headers.getall("Content-Length", ())
    if codings:
        if lengths:
            raise MalformedHead("there are both Content-Length and Transfer-Encoding")
        if version == "1.0":
            raise MalformedHead("there is a Transfer-Encoding, which HTTP/1.0 does not have")
        if len(codings) > 1 or codings[0].lower().count("chunked") > 1:
            raise MalformedHead("there is more than one Transfer-Encoding")
        if codings[0].lower() != "chunked":
            raise MalformedHead("the only Transfer-Encoding served here is chunked", HTTPStatus.NOT_IMPLEMENTED)
    if len(lengths) > 1:
        raise MalformedHead("there is more than one Content-Length")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise MalformedHead("Content-Length is not a plain number of at most 15 digits")


def check_handshake(head: RequestHead) -> None:
    """Check a request that asks for a WebSocket (RFC 6455 section 4.2.1).

    Raises:
        Refusal: 426 where it asks for another version, 400 where it is malformed.
    """
    headers = head.headers
    if head.method != "GET":
        raise bad_request(f"the method is {head.method}; a WebSocket handshake is a GET")
    if "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0":
        raise bad_request("a WebSocket handshake has no body")
    if headers.getall("Sec-WebSocket-Version", ()) not in (["13"], ["8"], ["7"]):
        raise Refusal(HTTPStatus.UPGRADE_REQUIRED, "upgrade-required", "Sec-WebSocket-Version must be 13")
    keys = headers.getall("Sec-WebSocket-Key", ())
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise bad_request("Sec-WebSocket-Key must be 16 bytes in base64")
    for offer in head.subprotocols:
        if not (offer.isascii() and _TOKEN.fullmatch(offer.encode())):
            raise bad_request("Sec-WebSocket-Protocol must be tokens, with commas between them")
    not_utf8 = first_not_utf8(headers)
    if not_utf8 is not None:
        raise bad_request(f"the header {not_utf8} is not UTF-8")


def first_not_utf8(headers: CIMultiDict[str]) -> str | None:
    """Return the name of a header whose value is not UTF-8, which picows could not write; or None."""
    if "".join(headers.values()).isascii():
        return None
    for name, value in headers.items():
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
            return name
    return None


def received_count(headers: CIMultiDict[str]) -> int | None:
    """Return how many messages the sender of a head has received, or None where it does not say.

    Raises:
        Refusal: it is no count, or there are two of them.
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


def end_to_end(headers: CIMultiDict[str]) -> list[tuple[str, str]]:
    """Return the headers that are passed on: not those of one connection, nor those that each leg makes anew.

    `_` counts as `-` here: to many servers (CGI, WSGI) both are one, so that X_Reconnect_Id would be X-Reconnect-Id.
    """
    passed = [(name, value) for name, value in headers.items() if _may_pass(name)]
    # A Connection header hardly ever names more than what never passes.
    named = [_folded(token) for token in tokens(headers, "Connection") if _may_pass(token)]
    return [item for item in passed if _folded(item[0]) not in named] if named else passed


#: Names of headers that are remembered with what becomes of them. Clients of one kind all send the same few; and a name
#: may be as long as a head, so that what strangers make up is to take no more than some MiB.
_NAMES = 256


@lru_cache(_NAMES)
def _folded(name: str) -> str:
    return name.lower().replace("_", "-")


@lru_cache(_NAMES)
def _may_pass(name: str) -> bool:
    folded = _folded(name)
    return folded not in _DROPPED and not folded.startswith(_RESERVED)


def end_to_end_trailers(trailers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the trailers that are passed on: none that says what only a head may say (RFC 9110 section 6.5.1)."""
    headers = _parse_fields(b"".join(b"\r\n" + name + b":" + value for name, value in trailers))
    return encode_fields(item for item in end_to_end(headers) if not _folded(item[0]).startswith(_OF_A_HEAD))


def forwarded(head: RequestHead, peer: str, scheme: str = "http") -> list[tuple[str, str]]:
    """Return the headers of a client's request as they go to the upstream, with X-Forwarded-* appended.

    Args:
        head: the client's request.
        peer: the client's IP address.
        scheme: `https` where the client came by TLS.
    """
    result = [(name, value) for name, value in end_to_end(head.headers) if _folded(name) not in _FORWARDED]
    for name, ours in zip(_FORWARDED.values(), (peer, scheme, head.headers.get("Host")), strict=True):
        if ours is not None:
            result.append((name, ", ".join([*head.headers.getall(name, ()), ours])))
    return result


def replaced(headers: Iterable[tuple[str, str]], others: CIMultiDict[str]) -> list[tuple[str, str]]:
    """Return `headers` with `others` behind them, each in place of those of the same name.

    `_` counts as `-`, as in `end_to_end`: else a client's X_User would stand beside our X-User, and for many servers
    in its place.
    """
    taken = {_folded(name) for name in others}
    return [*((name, value) for name, value in headers if _folded(name) not in taken), *others.items()]


def is_field(name: object, value: object) -> bool:
    """Tell whether a header may have this name and value: text that UTF-8 has bytes for, and that stays on its line."""
    if not (isinstance(name, str) and isinstance(value, str) and name.isascii()):
        return False
    try:
        return bool(_TOKEN.fullmatch(name.encode()) and _FIELD_VALUE.fullmatch(value.encode()))
    except UnicodeEncodeError:
        return False


def encode_fields(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as h11 takes them: the bytes that they were read from."""
    return [(name.encode("ascii"), value.encode("utf-8", "surrogateescape")) for name, value in headers]


def encode_response(status: HTTPStatus | int, reason: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Return a whole response that ends its connection."""
    lines = [f"HTTP/1.1 {int(status)} {reason}".rstrip()]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body
