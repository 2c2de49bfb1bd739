"""Messages that describe themselves, so that whatever happens to one on its way shows in what arrives.

A message is a header line and filler, `size` bytes in all (never less than its header, some 33 bytes):

    c07 c2u 1234 00004096 t 3f2a1b9c\\n…filler…
    |   |   |    |        | CRC-32 of everything but itself
    |   |   |    |        text (t) or binary (b), as it was sent
    |   |   |    size of the whole message in bytes
    |   |   number within its stream: 1, 2, 3 …
    |   direction: from the client to the upstream (c2u) or back (u2c)
    stream: the name of the conversation at its sender

The filler of a text message holds a character of two bytes, that of a binary one bytes that are no UTF-8.
"""

from __future__ import annotations

import random
import zlib
from enum import StrEnum
from typing import NamedTuple


class Direction(StrEnum):
    """Which way a message goes: the two streams of PROTOCOL.md section 1."""

    C2U = "c2u"
    U2C = "u2c"


class Kind(StrEnum):
    """The type of a WebSocket data message, RFC 6455 section 5.6."""

    TEXT = "text"
    BINARY = "binary"


class Reading(NamedTuple):
    """What a received message says about itself. `wrong` is a sentence where it is not what was sent."""

    stream: str
    direction: str
    number: int
    size: int
    kind: Kind
    wrong: str | None = None


#: The stream of a message whose header cannot be read.
UNREADABLE = "?"

_HEAD_LIMIT = 120
_BLOCK = 1 << 16
_TEXT = "".join(random.Random(6455).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=_BLOCK)).encode()
_BINARY = random.Random(6455).randbytes(_BLOCK)


def encode(stream: str, direction: str, number: int, size: int, kind: Kind) -> str | bytes:
    """Build message `number` of a stream: `str` to be sent as text, `bytes` to be sent as binary.

    `size` is that of the whole message in bytes; it is raised to the header's where it is less.
    """
    letter = kind[0]
    prefix = f"{stream} {direction} {number} "
    size = max(size, len(prefix) + 20)
    start = f"{prefix}{size:08d} {letter} ".encode()
    filler = _filler(size - len(start) - 9, number, kind)
    checksum = zlib.crc32(filler, zlib.crc32(start))
    whole = b"%b%08x\n%b" % (start, checksum, filler)
    return whole.decode() if kind is Kind.TEXT else whole


def decode(message: str | bytes) -> Reading:
    """Read a message as it arrived and say what, if anything, is wrong with it."""
    came_as = Kind.TEXT if isinstance(message, str) else Kind.BINARY
    raw = message.encode() if isinstance(message, str) else message
    head, newline, filler = raw[:_HEAD_LIMIT].partition(b"\n")
    parts = head.split(b" ")
    try:
        stream, direction = parts[0].decode("ascii"), parts[1].decode("ascii")
        number, size, letter, checksum = int(parts[2]), int(parts[3]), parts[4], int(parts[5], 16)
    except (ValueError, IndexError):
        return Reading(UNREADABLE, "", 0, len(raw), came_as, f"no readable header: {raw[:40]!r}")
    wrong = None
    if len(raw) < size:
        wrong = f"truncated: {len(raw)} of {size} bytes came"
    elif len(raw) > size:
        wrong = f"longer than sent: {len(raw)} bytes came, {size} were sent"
    elif letter != came_as[0].encode():
        sent_as = Kind.TEXT if letter == b"t" else Kind.BINARY
        wrong = f"sent as {sent_as}, came as {came_as}"
    else:
        filler = raw[len(head) + 1 :]
        start = raw[: len(head) - 8]
        if not newline or zlib.crc32(filler, zlib.crc32(start)) != checksum:
            wrong = "its checksum does not match"
    return Reading(stream, direction, number, len(raw), came_as, wrong)


def _filler(size: int, number: int, kind: Kind) -> bytes:
    """Return `size` bytes which differ from message to message."""
    block = _TEXT if kind is Kind.TEXT else _BINARY
    mark = "é".encode() if kind is Kind.TEXT else b"\xff\xfe"
    if size < len(mark):
        return block[:size]
    size -= len(mark)
    start = number * 977 % _BLOCK
    if start + size <= _BLOCK:
        return mark + block[start : start + size]
    repeated = block * (-(-(start + size) // _BLOCK))
    return mark + repeated[start : start + size]
