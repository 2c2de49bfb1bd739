"""Cases: what a run can measure, and how many messages are in flight in each.

| shape | what happens | what is counted |
| --- | --- | --- |
| `request-reply` | each connection sends a message and waits for its echo | round trips |
| `pipelined` | each connection keeps a window of messages in flight | round trips |
| `c2u`, `u2c` | each connection sends, or is sent, a window of messages one way | messages delivered |
| `fan-out` | the server sends to all clients: once in `receiver` mode, otherwise once to each | messages delivered |
| `paced` | messages are sent at planned moments, however long answers take | latency from those moments |
| `open` | sessions are opened, each with one message there and back | sessions |
| `crowd` | of many sessions some (`ACTIVE`) request and get replies; the others are idle | round trips; memory |
| `recover` | the server dies and returns while each session has a message in flight | seconds to the last echo |
| `burst`, `drain` | many messages at once, to a server that runs, or that starts only then | messages delivered |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: Messages in flight on a connection, for shapes with a window.
WINDOW = 32
#: Bytes that may be in flight, of one connection and of all: large messages get a smaller window.
WINDOW_BYTES = 1024**2
FLIGHT_BYTES = 64 * 1024**2
#: A case with more bytes in flight is not measured: it would measure memory.
LARGEST_FLIGHT = 256 * 1024**2

#: How many sessions of a crowd are active.
ACTIVE = 100

#: Messages a second of a paced case: on one connection, so that each finds the contender idle; and on several together.
PACE_OF_ONE = 500
PACE = 4000

#: The size of messages, and the number of connections, if the user does not say.
SIZE = 128
CONNECTIONS = 16


class Shape(StrEnum):
    """What happens in a case."""

    REQUEST_REPLY = "request-reply"
    PIPELINED = "pipelined"
    UP = "c2u"
    DOWN = "u2c"
    FAN_OUT = "fan-out"
    PACED = "paced"
    OPEN = "open"
    CROWD = "crowd"
    RECOVER = "recover"
    BURST = "burst"
    DRAIN = "drain"


#: Shapes that can be measured only with a contender whose sessions outlive its upstream.
KEEPING = frozenset({Shape.RECOVER, Shape.DRAIN})

#: Shapes in which `connections` counts sessions, and messages are small.
_OF_SESSIONS = frozenset({Shape.OPEN, Shape.CROWD, Shape.RECOVER})
#: Shapes in which `connections` counts messages, of one connection.
_OF_MESSAGES = frozenset({Shape.BURST, Shape.DRAIN})
_ONE_AT_A_TIME = frozenset({Shape.REQUEST_REPLY, Shape.CROWD, Shape.RECOVER, Shape.OPEN})


@dataclass(frozen=True, slots=True)
class Case:
    """One shape at one size and count.

    Attributes:
        shape: what happens.
        size: bytes of a message.
        count: connections; in `open`, `crowd` and `recover` sessions; in `burst` and `drain` messages.

    """

    shape: Shape
    size: int = SIZE
    count: int = CONNECTIONS

    @property
    def name(self) -> str:
        """Its name in tables, `bench.json` and budgets."""
        if self.shape in _OF_SESSIONS:
            return f"{self.shape}, {self.count:,} sessions"
        if self.shape in _OF_MESSAGES:
            return f"{self.shape}, {self.count:,} x {size_name(self.size)}"
        plural = "" if self.count == 1 else "s"
        return f"{self.shape}, {size_name(self.size)}, {self.count:,} connection{plural}"

    @property
    def window(self) -> int:
        """How many messages are in flight on a connection at most."""
        if self.shape in _ONE_AT_A_TIME:
            return 1
        if self.shape in _OF_MESSAGES:
            return self.count
        return max(1, min(WINDOW, WINDOW_BYTES // self.size, FLIGHT_BYTES // (self.size * self.count)))

    @property
    def connections(self) -> int:
        return 1 if self.shape in _OF_MESSAGES else self.count

    @property
    def flight(self) -> int:
        """How many bytes are in flight at most."""
        return self.connections * self.window * self.size

    @property
    def pace(self) -> int:
        """Messages a second of all connections of a paced case."""
        return PACE_OF_ONE if self.count == 1 else PACE

    @property
    def active(self) -> int:
        """How many of the sessions are active."""
        return min(ACTIVE, self.count) if self.shape is Shape.CROWD else self.count

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `bench.json`."""
        found: dict[str, Any] = {"name": self.name, "shape": str(self.shape), "size": self.size, "count": self.count}
        found["window"] = self.window
        if self.shape is Shape.PACED:
            found["pace"] = self.pace
        return found


def size_name(size: int) -> str:
    """Return a size for a reader: `128 B`, `64 KiB`."""
    for unit, scale in (("MiB", 1024**2), ("KiB", 1024)):
        if size >= scale and size % scale == 0:
            return f"{size // scale:,} {unit}"
    return f"{size:,} B"


def product(shapes: Sequence[Shape], sizes: Sequence[int], counts: Sequence[int]) -> tuple[list[Case], list[str]]:
    """Return the cases of all combinations, and notes about those that are left out."""
    cases: dict[str, Case] = {}
    for shape in shapes or [Shape.PIPELINED]:
        for count in counts or [CONNECTIONS]:
            for size in sizes or [SIZE]:
                case = Case(shape, SIZE if shape in _OF_SESSIONS else size, count)
                cases.setdefault(case.name, case)
    large = [case for case in cases.values() if case.flight > LARGEST_FLIGHT]
    notes = [f"{case.name} is left out: {size_name(case.flight)} would be in flight" for case in large]
    return [case for case in cases.values() if case not in large], notes


def within_descriptors(cases: Iterable[Case], limit: int) -> tuple[list[Case], list[str]]:
    """Return the cases, each with no more sessions than `limit` descriptors allow, and notes about those changed.

    A proxy needs two descriptors for each session and some besides: this project's reserves a sixteenth.
    """
    most = max(10, (limit - limit // 16 - 100) // 200 * 100)
    fit: dict[str, Case] = {}
    notes = []
    for case in cases:
        made = case
        if case.shape not in _OF_MESSAGES and case.count > most:
            made = Case(case.shape, case.size, most)
            notes.append(
                f"{case.name}: {most:,} instead, since a process may have {limit:,} descriptors (ulimit -n), and a "
                "proxy needs two for each session and some to spare"
            )
        fit.setdefault(made.name, made)
    return list(fit.values()), notes
