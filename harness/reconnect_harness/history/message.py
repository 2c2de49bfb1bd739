"""Messages that describe themselves, so that a receiver can tell whether one was changed on its way.

A message is a header line and filler, `size` bytes in all (never less than its header, some 33 bytes):

    c07 c2u 1234 00004096 t 1764000000.123456 3f2a1b9c\\n…filler…
    |   |   |    |        | |                 CRC-32 of everything but itself
    |   |   |    |        | when it was sent, seconds since 1970: where a load is timed
    |   |   |    |        text (t) or binary (b), as sent
    |   |   |    size of the whole message in bytes
    |   |   number within its stream: 1, 2, 3 …
    |   direction: from the client to the upstream (c2u) or back (u2c)
    stream: the name of the conversation at its sender

The filler of a text message has a character of two bytes, that of a binary one bytes that are not UTF-8. A `rich` text
also has characters that a careless program changes. With `stamp` a given payload takes the place of the filler. An
empty message says nothing about itself: see `LabelReader`.
"""

from __future__ import annotations

import random
import re
import zlib
from enum import StrEnum
from typing import NamedTuple


class Direction(StrEnum):
    """Which way a message goes: the two streams of PROTOCOL.md section 1."""

    C2U = "c2u"
    U2C = "u2c"

    @property
    def opposite(self) -> Direction:
        """The other direction."""
        return Direction.U2C if self is Direction.C2U else Direction.C2U


class MessageKind(StrEnum):
    """The type of a WebSocket data message, RFC 6455 section 5.6."""

    TEXT = "text"
    BINARY = "binary"


class MessageLabel(NamedTuple):
    """What a message says about itself.

    `wrong` is a sentence if a received message differs from what was sent; `sent_at` is seconds since 1970, if it says
    so.
    """

    stream: str
    direction: str
    number: int
    size: int
    kind: MessageKind
    wrong: str | None = None
    sent_at: float | None = None


#: The stream of a message whose header cannot be read.
UNREADABLE = "?"

_HEAD_LIMIT = 120
#: Sizes of buffers to which relays cut messages, in bytes.
_BLOCKS = (64 * 1024, 32 * 1024, 16 * 1024, 8 * 1024, 4096)
_BLOCK = 1 << 16
_TEXT = "".join(random.Random(6455).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=_BLOCK)).encode()
#: The beginning and the end of a rich text: characters of two, four and three bytes (the latter a byte order mark), one
#: that can be written in two ways, and white space.
_RICH = "é\U0001f600\ufeffe\u0301\u2028\r\n\t\0 ".encode()
_RICH_END = b" \n"
_BINARY = random.Random(6455).randbytes(_BLOCK)


def encode(
    stream: str,
    direction: str,
    number: int,
    size: int,
    kind: MessageKind,
    sent_at: float | None = None,
    *,
    rich: bool = False,
) -> str | bytes:
    """Build message `number` of a stream: `str` to be sent as text, `bytes` to be sent as binary.

    `size` is that of the whole message in bytes; it is raised to the size of the header if it is less. `sent_at` is
    seconds since 1970, if the message is to say when it was sent.
    """
    room = max(0, size - _head_size(stream, direction, number, sent_at))
    filler = _filler(room, number, kind)
    if rich and kind is MessageKind.TEXT and room >= len(_RICH) + len(_RICH_END):
        filler = _RICH + filler[len(_RICH) : room - len(_RICH_END)] + _RICH_END
    whole = _whole(stream, direction, number, filler, kind, sent_at)
    return whole.decode() if kind is MessageKind.TEXT else whole


def stamp(stream: str, direction: str, number: int, payload: str | bytes, sent_at: float | None = None) -> str | bytes:
    """Build message `number` of a stream around a payload, which `payload` extracts again."""
    if isinstance(payload, str):
        return _whole(stream, direction, number, payload.encode(), MessageKind.TEXT, sent_at).decode()
    return _whole(stream, direction, number, payload, MessageKind.BINARY, sent_at)


def payload(message: str | bytes) -> str | bytes:
    """Return what a message carries after its header line."""
    return message.partition("\n")[2] if isinstance(message, str) else message.partition(b"\n")[2]


def decode(message: str | bytes) -> MessageLabel:
    """Return the label of a message as it arrived, with what is wrong with it, if anything."""
    came_as = MessageKind.TEXT if isinstance(message, str) else MessageKind.BINARY
    raw = message.encode() if isinstance(message, str) else message
    head, newline, filler = raw[:_HEAD_LIMIT].partition(b"\n")
    parts = head.split(b" ")
    try:
        name, way, count, length, letter, *moment, crc = parts
        stream, direction = name.decode("ascii"), way.decode("ascii")
        number, size, checksum = int(count), int(length), int(crc, 16)
        sent_at = float(moment[0]) if moment else None
    except ValueError:
        what = f"no readable header: {raw[:40]!r}" if raw else "an empty message, which was never sent"
        return MessageLabel(UNREADABLE, "", 0, len(raw), came_as, what)
    wrong = None
    sent_as = MessageKind.TEXT if letter == b"t" else MessageKind.BINARY
    as_other = f"sent as {sent_as}, came as {came_as}" if sent_as is not came_as else None
    if len(raw) < size:
        wrong = f"truncated: {len(raw)} of {size} bytes came{_how_cut(len(raw))}"
    elif len(raw) > size:
        wrong = f"longer than sent: {len(raw)} bytes came, {size} were sent"
    elif as_other is None:
        filler = raw[len(head) + 1 :]
        start = raw[: len(head) - 8]
        if not newline or zlib.crc32(filler, zlib.crc32(start)) != checksum:
            wrong = "its checksum does not match"
    wrong = ": ".join(filter(None, (as_other, wrong))) or None
    # A size that is damaged itself may be any number.
    if wrong is not None and letter == b"t" and size <= 4 * len(raw):
        sent = (encode(stream, direction, number, size, MessageKind.TEXT, sent_at, rich=rich) for rich in (False, True))
        if any(_is_reencoded(raw, each) for each in sent):
            wrong = f"its text was re-encoded: {wrong}"
    return MessageLabel(stream, direction, number, len(raw), came_as, wrong, sent_at)


class LabelReader:
    """Reads the messages of one sender, in the order in which they arrive.

    An empty message has no header. It counts as the one that follows the message before it; whether that was sent empty
    is known to the checkers only.
    """

    def __init__(self) -> None:
        self._before: MessageLabel | None = None

    def read(self, message: str | bytes) -> MessageLabel:
        """Return the label of a message."""
        label = decode(message)
        if not message and self._before is not None:
            kind = MessageKind.TEXT if isinstance(message, str) else MessageKind.BINARY
            label = self._before._replace(number=self._before.number + 1, size=0, kind=kind, wrong=None)
        if label.stream != UNREADABLE:
            self._before = label
        return label


def _how_cut(size: int) -> str:
    blocks = next((block for block in _BLOCKS if size and size % block == 0), 0)
    return f": it was cut to blocks of {blocks // 1024} KiB" if blocks else ""


def _is_reencoded(raw: bytes, sent: str | bytes) -> bool:
    """Whether a text arrived with other characters in the place of those that are not ASCII, and otherwise whole."""
    assert isinstance(sent, str)
    kept = re.compile(b"[^\\x21-\\x3e\\x40-\\x7e]|\\?")
    return raw != sent.encode() and kept.sub(b"", raw) == kept.sub(b"", sent.encode())


_STAMP = re.compile(r"[\w.-]+ (?:c2u|u2c) \d+ (\d{8,}) [tb] (?:\d+\.\d{6} )?[0-9a-f]{8}\n")


def find_stamp(text: str | bytes) -> str | None:
    """Return the message that `encode` has built from within other text, as long as its header says; None if there is
    none."""
    whole = text if isinstance(text, str) else text.decode(errors="replace")
    found = _STAMP.search(whole)
    return None if found is None else whole[found.start() :].encode()[: int(found[1])].decode(errors="replace")


def _head_size(stream: str, direction: str, number: int, sent_at: float | None) -> int:
    return len(f"{stream} {direction} {number} ") + 20 + (0 if sent_at is None else len(f"{sent_at:.6f} "))


def _whole(stream: str, direction: str, number: int, body: bytes, kind: MessageKind, sent_at: float | None) -> bytes:
    size = _head_size(stream, direction, number, sent_at) + len(body)
    moment = "" if sent_at is None else f"{sent_at:.6f} "
    start = f"{stream} {direction} {number} {size:08d} {kind[0]} {moment}".encode()
    return b"%b%08x\n%b" % (start, zlib.crc32(body, zlib.crc32(start)), body)


def _filler(size: int, number: int, kind: MessageKind) -> bytes:
    """Return `size` bytes that differ from message to message."""
    block = _TEXT if kind is MessageKind.TEXT else _BINARY
    mark = "é".encode() if kind is MessageKind.TEXT else b"\xff\xfe"
    if size < len(mark):
        return block[:size]
    size -= len(mark)
    start = number * 977 % _BLOCK
    if start + size <= _BLOCK:
        return mark + block[start : start + size]
    repeated = block * (-(-(start + size) // _BLOCK))
    return mark + repeated[start : start + size]
