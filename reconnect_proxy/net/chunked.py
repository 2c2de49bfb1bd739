"""Whether the framing of a chunked body (RFC 9112 section 7.1) is strict: h11 reads the same bytes, less strictly.

h11 accepts bare line feeds and folded lines in trailers, and any bytes in chunk extensions. It finds the end of a body;
this class checks what it has been given, so that no other program can find the end somewhere else.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from .head import MalformedHead, parse_fields

#: The size of a chunk, and its extensions. Some servers pad sizes with blanks.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*|[\t ]*)")
#: Bytes of one line, without its end.
_LINE_LIMIT = 16 * 1024
_CRLF = b"\r\n"


class ChunkedState(Enum):
    """What the next bytes of a chunked body are."""

    SIZE = auto()
    DATA = auto()
    TRAILER = auto()
    OVER = auto()


class ChunkedFraming:
    """Checks one body, in pieces of any size."""

    __slots__ = ("_left", "_line", "error", "state")

    def __init__(self) -> None:
        self.state = ChunkedState.SIZE
        # What is wrong with the body, once something is.
        self.error: MalformedHead | None = None
        # The beginning of a line, and how many bytes of the chunk follow, with the line end behind them.
        self._line = b""
        self._left = 0

    def feed(self, data: bytes) -> int:
        """Check on, and return how many bytes are correct; if that is not all of them, `error` says why.

        What follows behind the body is not checked.
        """
        at = 0
        try:
            while at < len(data) and self.state is not ChunkedState.OVER:
                at += self._skip(data, at) if self.state is ChunkedState.DATA else self._read_line(data, at)
        except MalformedHead as error:
            self.error = error
            return at
        return len(data)

    def _skip(self, data: bytes, at: int) -> int:
        """Pass over bytes of a chunk, and check the line end behind them. Returns how many they are."""
        count = min(self._left, len(data) - at)
        # What there is of the line end.
        begin = max(self._left - len(_CRLF), 0)
        end = data[at + begin : at + count]
        expected = _CRLF[len(_CRLF) - self._left + begin :][: len(end)]
        if end != expected:
            raise MalformedHead("there is no line end behind a chunk")
        self._left -= count
        if not self._left:
            self.state = ChunkedState.SIZE
        return count

    def _read_line(self, data: bytes, at: int) -> int:
        """Take a line, or the beginning of one. Returns how many bytes that is."""
        end = data.find(b"\n", at)
        piece = data[at : end + 1] if end >= 0 else data[at:]
        self._line += piece
        if len(self._line) > _LINE_LIMIT:
            raise MalformedHead("a line between chunks is too long")
        if end >= 0:
            line, self._line = self._line, b""
            if not line.endswith(_CRLF):
                raise MalformedHead("a line between chunks does not end with CR LF")
            self._on_line(line[: -len(_CRLF)])
        return len(piece)

    def _on_line(self, line: bytes) -> None:
        if self.state is ChunkedState.SIZE:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise MalformedHead("the size of a chunk is not a plain number, or its extension is malformed")
            size = int(match[1], 16)
            self._left = size + len(_CRLF)
            self.state = ChunkedState.DATA if size else ChunkedState.TRAILER
        elif line:
            parse_fields(_CRLF + line)
        else:
            self.state = ChunkedState.OVER
