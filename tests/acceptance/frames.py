"""WebSocket frames (RFC 6455 section 5) and HTTP heads, written and read by hand."""

import asyncio
import base64
import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Headers = Sequence[tuple[str, str]]


class Opcode(IntEnum):
    """What a frame is (RFC 6455 section 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(slots=True, frozen=True)
class Frame:
    """One frame, unmasked."""

    opcode: Opcode
    payload: bytes
    fin: bool = True
    rsv1: bool = False


def encode(frame: Frame, mask: bool) -> bytes:
    """Write a frame as bytes; a client's frames are masked."""
    length = len(frame.payload)
    bit = 0x80 if mask else 0
    head = bytes([(0x80 if frame.fin else 0) | (0x40 if frame.rsv1 else 0) | frame.opcode])
    if length < 126:
        head += bytes([bit | length])
    elif length < 65536:
        head += struct.pack("!BH", bit | 126, length)
    else:
        head += struct.pack("!BQ", bit | 127, length)
    if not mask:
        return head + frame.payload
    key = os.urandom(4)
    # XOR as one big integer: a loop over bytes would take seconds for the large messages.
    spread = (key * (length // 4 + 1))[:length]
    masked = int.from_bytes(frame.payload, "big") ^ int.from_bytes(spread, "big")
    return head + key + masked.to_bytes(length, "big")


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """Read one frame; IncompleteReadError or ConnectionError when the link ends."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", await reader.readexactly(8))
    key = await reader.readexactly(4) if second & 0x80 else b""
    payload = await reader.readexactly(length)
    if key:
        spread = (key * (length // 4 + 1))[:length]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(spread, "big")).to_bytes(length, "big")
    return Frame(Opcode(first & 0x0F), payload, bool(first & 0x80), bool(first & 0x40))


def token(number: int) -> bytes:
    """Write a count as a ping's payload: 8 bytes, big-endian (PROTOCOL section 4)."""
    return number.to_bytes(8, "big")


@dataclass(slots=True, frozen=True)
class Head:
    """The head of an HTTP request or response, names in lower case."""

    first_line: str
    headers: list[tuple[str, str]]

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.first_line.split(" ")[1])

    @property
    def target(self) -> str:
        """The path and query of a request."""
        return self.first_line.split(" ")[1]

    def all(self, name: str) -> list[str]:
        """Every value under one name."""
        return [value for key, value in self.headers if key == name.lower()]

    def get(self, name: str) -> str | None:
        """The value under one name, None without it, several joined by a comma."""
        values = self.all(name)
        return ", ".join(values) if values else None


def accept_of(key: str) -> str:
    """Compute Sec-WebSocket-Accept (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + ACCEPT_KEY, usedforsecurity=False).digest()).decode()


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Read one HTTP head."""
    raw = await reader.readuntil(b"\r\n\r\n")
    first_line, *lines = raw.decode("latin-1").split("\r\n")[:-2]
    pairs = [line.partition(":") for line in lines]
    return Head(first_line, [(name.lower(), value.strip()) for name, _, value in pairs])


class Closed(Exception):
    """The connection is over: the code and reason of the peer's Close frame, 1006 without one."""

    def __init__(self, code: int, reason: str) -> None:
        """Keep the code (1005 for a Close frame without one) and the reason."""
        super().__init__(f"{code} {reason!r}")
        self.code = code
        self.reason = reason


class BodyEnd(Enum):
    """How the reading of an answer's body has ended."""

    WHOLE = auto()
    CUT = auto()
    #: There was more than the client wanted to read.
    LEFT = auto()


class Refused(Exception):
    """The server answered the handshake with something else than 101."""

    def __init__(self, head: Head, body: bytes, end: BodyEnd = BodyEnd.WHOLE) -> None:
        """Keep the response."""
        super().__init__(f"{head.first_line} {body[:200]!r} {end.name}")
        self.head = head
        self.status = head.status
        self.body = body
        self.end = end
