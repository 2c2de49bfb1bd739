"""HTTP/1.1 heads: read from a stream, and parsed strictly.

A WebSocket handshake and a plain request have these rules in common (RFC 9110, RFC 9112). A head that two programs
could read in two ways is refused before any of it reaches an upstream: bare line feeds, folded lines, two lengths. What
is sent on is written from what was parsed, so it means the same to every server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from string import ascii_lowercase, ascii_uppercase
from typing import NamedTuple

from multidict import CIMultiDict

from ..core.wire import Refusal

#: The head of an upstream's answer is at most this many bytes.
HEAD_LIMIT = 16 * 1024

#: Interim answers (1xx) that may come before the real one.
INTERIM_LIMIT = 16

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: No `#`: a fragment never leaves a client (RFC 9112 section 3.2).
_TARGET = re.compile(rb"/[!\"$-~]*")
#: The value of a Host header (RFC 9110 section 7.2).
HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]{0,5})?")
#: The absolute form of a target: an authority, then path and query (RFC 9112 section 3.2.2).
_ABSOLUTE = re.compile(rb"(?:http|ws)s?://([^/?]*)((?:/[^?]*)?(?:\?.*)?)", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[!\"$-~]*) HTTP/(1\.[01])")
#: A header line, with the line end before it. After an invalid character there is no line end, so it does not match.
_FIELD = re.compile(r"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\U0010ffff]*+)(?=\r\n|\Z)")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
#: Fifteen digits are a petabyte. A longer number could overflow the integers of another program.
_LENGTH = re.compile(r"[0-9]{1,15}")
#: The beginning of a head: no control characters, and no line ends that only some programs accept.
_LINES = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]*+\r\n)*+[\t\x20-\x7e\x80-\xff]*+\r?")
#: The empty line that ends a head, with the end of the line before it.
HEAD_END = b"\r\n\r\n"
_CR = 13
#: What may stand around a token and a value (RFC 9110 section 5.6.3). `str.strip` alone takes other characters too.
BLANKS = " \t"
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


class MalformedHead(ValueError):
    """A head that this proxy refuses. The message says what is wrong, `status` is the answer to a client."""

    def __init__(self, detail: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(detail)
        self.status = status

    @property
    def refusal(self) -> Refusal:
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

    `target` is path and query (origin form), or `*`. `version` is `1.1` or `1.0`. If the target came as a whole URL
    (absolute form), the Host header is that of the URL.
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
        """Whether this is a handshake, valid or not; other requests are plain HTTP.

        Upgrade counts only if Connection names it, and not in HTTP/1.0 (RFC 9110 section 7.8).
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
    return [token for value in values for part in value.split(",") if (token := part.strip(BLANKS))] if values else []


def has_token(headers: CIMultiDict[str], name: str, token: str) -> bool:
    """Tell whether a header called `name` has this member, in any case."""
    for value in headers.getall(name, ()):
        text = folded(value)
        if text == token or token in [part.strip(BLANKS) for part in text.split(",")]:
            return True
    return False


def folded(text: str) -> str:
    """Return `text` with its ASCII letters in lower case.

    `str.lower` also makes a k of U+212A, so that a token would match that no other program takes for it.
    """
    return text.lower() if text.isascii() else text.translate(_LOWER)


class HeadReader:
    """Gathers one head from reads of any size, in time that is linear in its length.

    An error is found as early as possible, so that the proxy does not wait for the end of data that cannot be a head.
    """

    __slots__ = ("_buffer", "_check_line", "_limit", "_seen", "_skipped")

    def __init__(self, limit: int = HEAD_LIMIT, check_line: Callable[[bytes], object] | None = None) -> None:
        """Make a reader of one head.

        Args:
            limit: its largest size in bytes, the empty line included.
            check_line: called with the first line as soon as it is complete; raises MalformedHead if it is wrong. With
                it, one empty line may come first (RFC 9112 section 2.2).
        """
        self._limit = limit
        self._check_line = check_line
        self._buffer = bytearray()
        # Bytes that were checked before.
        self._seen = 0
        # The one empty line that may come before a request has come, or is not allowed any more.
        self._skipped = check_line is None

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Read on. Returns the head without its empty line, and the bytes behind it, once the head is complete.

        Raises:
            MalformedHead: it is too long (414, 431), or cannot become a head.
        """
        if self._buffer:
            self._buffer += data
            buffer: bytes | bytearray = self._buffer
        else:
            # Most heads come in one piece: those are not copied.
            buffer = data
        if not self._skipped:
            if buffer in (b"", b"\r"):
                self._buffer = bytearray(buffer)
                return None
            buffer = self._without_empty_line(buffer)
        end = buffer.find(HEAD_END, max(0, self._seen - len(HEAD_END) + 1))
        # A CR at the end of the last read is checked again, together with the LF that must follow.
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
        """Return the beginning of the head itself. Raises MalformedHead if it cannot be one."""
        self._skipped = True
        if buffer.startswith(b"\r\n"):
            buffer = buffer[2:]
        if buffer and not TOKEN.match(buffer):
            raise MalformedHead("it does not begin with a method")
        return buffer

    def _too_long(self, buffer: bytes | bytearray) -> MalformedHead:
        if b"\r\n" in buffer[: self._limit]:
            detail, status = f"the head is longer than {self._limit} bytes", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        else:
            detail, status = f"the first line is longer than {self._limit} bytes", HTTPStatus.REQUEST_URI_TOO_LONG
        return MalformedHead(detail, status)


class RequestLine(NamedTuple):
    """The first line of a request. `authority` is the host of a target in absolute form."""

    method: str
    target: str
    version: str
    authority: str | None = None


# Each line is parsed twice: when it is complete, and with the rest of the head. Clients often send the same few.
@lru_cache(16)
def parse_request_line(line: bytes) -> RequestLine:
    """Return what a request's first line says.

    Raises:
        MalformedHead: it is not a request line, or one that this proxy does not serve (501, 505).
    """
    match = _REQUEST_LINE.fullmatch(line)
    if match is not None and match[1] not in (b"CONNECT", b"TRACE"):
        return RequestLine(match[1].decode("ascii"), match[2].decode("ascii"), match[3].decode("ascii"))
    method, _, rest = line.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    if not TOKEN.fullmatch(method) or not re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version) or b" " in target:
        raise MalformedHead("the request line is not METHOD TARGET HTTP/1.1")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        spoken = version.decode("ascii")
        raise MalformedHead(f"this is {spoken}; HTTP/1.1 is spoken here", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if method in (b"CONNECT", b"TRACE"):
        raise MalformedHead(f"{method.decode('ascii')} is not served here", HTTPStatus.NOT_IMPLEMENTED)
    authority = None
    if (absolute := _ABSOLUTE.fullmatch(target)) is not None:
        authority = absolute[1].decode("latin-1")
        if not HOST.fullmatch(authority):
            raise MalformedHead("the host in the request target is not HOST or HOST:PORT")
        whole_server = method == b"OPTIONS" and not absolute[2]
        target = b"*" if whole_server else absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    if not _TARGET.fullmatch(target) and (method, target) != (b"OPTIONS", b"*"):
        raise MalformedHead("the request target is neither a path that begins with / nor a URL, or has a fragment")
    return RequestLine(method.decode("ascii"), target.decode("ascii"), version[-3:].decode("ascii"), authority)


def parse_request(head: bytes) -> RequestHead:
    """Parse a request head, without the empty line that ends it.

    Raises:
        MalformedHead: it is not the head of an HTTP/1 request, or its body could begin or end in two places.
    """
    first, line_end, fields = head.partition(b"\r\n")
    method, target, version, authority = parse_request_line(first)
    headers = parse_fields(line_end + fields)
    hosts = headers.getall("Host", ())
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        raise MalformedHead("there must be one Host header")
    if hosts and not HOST.fullmatch(hosts[0]):
        raise MalformedHead("the Host header is not HOST or HOST:PORT")
    if authority is not None:
        # The Host header is ignored (RFC 9112 section 3.2.2).
        headers["Host"] = authority
    _check_framing(headers, version)
    return RequestHead(target, headers, method, version)


def parse_response(head: bytes) -> ResponseHead:
    """Parse a response head, without the empty line that ends it.

    Raises:
        MalformedHead: it is not the head of an HTTP/1 response, or its body could end in two places.
    """
    first, line_end, fields = head.partition(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None or match[1] + match[2] == b"0101":
        raise MalformedHead("the status line is not HTTP/1.1 and a status")
    headers = parse_fields(line_end + fields)
    status, version = int(match[2]), "1." + match[1].decode("ascii")
    if status >= 200:
        # A 1xx has no body, with any headers (RFC 9112 section 6.3).
        _check_framing(headers, version)
    return ResponseHead(status, headers, version, match[3] or b"")


def parse_fields(raw: bytes) -> CIMultiDict[str]:
    """Parse header lines, each with the line end before it.

    Values are bytes (RFC 9110 section 5.5): those that are not UTF-8 are kept as surrogate escapes, and `encode_value`
    writes them as they came.
    """
    text = raw.decode("utf-8", "surrogateescape")
    fields = _FIELD.findall(text)
    if len(fields) != text.count("\r\n"):
        raise MalformedHead("a header line is not NAME: VALUE, or has a control character in it")
    return CIMultiDict([(name, value.strip(BLANKS)) for name, value in fields])


def _check_framing(headers: CIMultiDict[str], version: str) -> None:
    """Check that there is only one way to tell where the body ends (RFC 9112 section 6.3)."""
    codings = headers.getall("Transfer-Encoding", ())
    lengths = headers.getall("Content-Length", ())
    if codings:
        if lengths:
            raise MalformedHead("there are both Content-Length and Transfer-Encoding")
        if version == "1.0":
            raise MalformedHead("there is a Transfer-Encoding, which HTTP/1.0 does not have")
        if len(codings) > 1 or folded(codings[0]).count("chunked") > 1:
            raise MalformedHead("there is more than one Transfer-Encoding")
        if folded(codings[0]) != "chunked":
            raise MalformedHead("the only Transfer-Encoding served here is chunked", HTTPStatus.NOT_IMPLEMENTED)
    if len(lengths) > 1:
        raise MalformedHead("there is more than one Content-Length")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise MalformedHead("Content-Length is not a plain number of at most 15 digits")


def encode_value(text: str) -> bytes:
    """Return the bytes of header values, as `parse_fields` has read them, or of lines that contain such values."""
    return text.encode("utf-8", "surrogateescape")


def encode_response(status: HTTPStatus | int, reason: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Return a whole response that ends its connection."""
    lines = [f"HTTP/1.1 {int(status)} {reason}".rstrip()]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return encode_value("\r\n".join(lines)) + body
