"""The workload: which messages are sent, and how fast. The same for clients and for upstreams that push."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Self

from websockets.asyncio.connection import Connection

from reconnect_harness.history.message import Direction, LabelReader, MessageKind, MessageLabel, encode

#: The type of each message is drawn at random: text or binary.
MIXED = "mixed"

#: The types of messages that a workload may have.
MESSAGE_TYPES = (MIXED, *MessageKind)

#: Sizes in bytes: none, those at which the header of a frame has another length, and two that are above what libraries
#: accept if they are not told. Their number is odd, so that each occurs fragmented and whole.
SHAPES = (0, 125, 126, 127, 65_535, 65_536, 65_537, 2**20 + 1, 2**22 + 1)

_KINDS = tuple(MessageKind)


@dataclass(frozen=True, slots=True)
class Workload:
    """The messages of one stream.

    `rate` is messages a second, 0 for none; `smallest` and `largest` bound their size in bytes, and the sizes are
    spread evenly over the orders of magnitude; `kind` is text, binary, or mixed for either at random. With `timed` each
    message says when it was sent. With `shapes` the sizes are `SHAPES` in turn, and `send` fragments every other one.
    """

    rate: float = 0.0
    smallest: int = 16
    largest: int = 4096
    kind: str = MIXED
    timed: bool = False
    shapes: bool = False

    def to_spec(self) -> dict[str, Any]:
        """Return its fields, which can be written as JSON."""
        return asdict(self)

    @classmethod
    def from_spec(cls, fields: dict[str, Any]) -> Self:
        """Make it from the fields of `to_spec`."""
        return cls(**fields)

    async def send(self, connection: Any, number: int, message: str | bytes) -> None:
        """Send message `number` on a connection: with `shapes` and an even number in fragments."""
        if not self.shapes or number % 2:
            await connection.send(message)
        else:
            await connection.send(_fragments(connection, message), text=isinstance(message, str))

    async def moments(self) -> AsyncIterator[None]:
        """Yield when a message is due. A late message does not delay the ones after it."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        said = 0
        while self.rate:
            await asyncio.sleep(max(0.0, start + said / self.rate - loop.time()))
            yield
            said += 1


async def _fragments(connection: Connection, message: str | bytes) -> AsyncIterator[bytes]:
    """Yield the fragments of a message, with a Ping before each but the first; a text is cut within a character."""
    raw = message.encode() if isinstance(message, str) else message
    wide = raw.find(b"\xc3") + 1
    cuts = [0, *([wide] if isinstance(message, str) and wide else [len(raw) // 3]), len(raw) // 2 + len(raw) // 4]
    for start, end in zip(cuts, [*cuts[1:], len(raw)], strict=True):
        if start:
            await connection.ping()
        yield raw[start:end]


class Speaker:
    """Makes the messages of one stream, numbered from 1; the same ones for the same seed.

    `labels` reads what the other end says in its session.
    """

    def __init__(self, workload: Workload, stream: str, direction: Direction, seed: str) -> None:
        self.stream = stream
        self.number = 0
        self.labels = LabelReader()
        self._direction = direction
        self._workload = workload
        self._random = random.Random(f"{seed} {stream}")

    def next(self) -> tuple[MessageLabel, str | bytes]:
        """Return the next message: its label, and the complete message."""
        self.number += 1
        load = self._workload
        span = math.log(max(1, load.largest) / max(1, load.smallest))
        size = round(load.smallest * math.exp(self._random.random() * span))
        if load.shapes:
            size = SHAPES[self.number % len(SHAPES)]
        kind = self._random.choice(_KINDS) if load.kind == MIXED else MessageKind(load.kind)
        if not size and load.shapes:
            whole: str | bytes = "" if kind is MessageKind.TEXT else b""
        else:
            moment = time.time() if load.timed else None
            whole = encode(self.stream, self._direction, self.number, size, kind, moment, rich=load.shapes)
        length = len(whole.encode() if isinstance(whole, str) else whole)
        return MessageLabel(self.stream, self._direction, self.number, length, kind), whole
