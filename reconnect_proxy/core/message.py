"""A data message, as the core passes it on: what it is, and which way it goes."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Opcode(IntEnum):
    """The two kinds of data message, by their number on the wire (RFC 6455 section 5.2)."""

    TEXT = 1
    BINARY = 2


#: In a message's kind: its payload is compressed (RFC 7692). It is the bit RSV1, where a frame's first byte has it.
COMPRESSED = 0x40

#: A whole data message: its kind (an `Opcode` or the same plain int, perhaps with COMPRESSED) and its payload, both as
#: on the wire: text is UTF-8.
Message = tuple[int, bytes]


class Direction(StrEnum):
    """The two streams of a session, PROTOCOL.md section 1: from the client to the upstream, and back."""

    C2U = "c2u"
    U2C = "u2c"
