"""What a relay does wrong to messages, and to which of them.

    --swap 1 --only pressed --only u2c       every one that goes to a client whose socket is full changes places

A harm is done to every Nth of the messages that are in question; each `--only` narrows these down.
"""

from __future__ import annotations

import asyncio
import os
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from websockets.asyncio.connection import Connection

Data = str | bytes

#: Bytes above which a message is large.
LARGE = 100_000

#: Bytes that are left of a message with `block16` and `block64`.
BLOCKS = {"block16": 16 * 1024, "block64": 64 * 1024}

#: Seconds for which a message is held.
HELD_SECONDS = 5.0

#: A message is early so many seconds after its client was accepted.
EARLY_SECONDS = 0.01

#: The relay is busy when so many messages have passed in so many seconds.
BUSY = (8, 0.005)


class Way(Protocol):
    """The session in which a message goes: its ends, and what has become of it."""

    client: Connection
    upstream: Connection | None
    accepted: float
    redials: int
    first: dict[bool, bool]
    """Whether the next message is the first one since a redial, for those of the client and those of the upstream."""


class Passing(NamedTuple):
    """A message on its way: `c2u` is whether it goes to the upstream."""

    data: Data
    way: Way
    c2u: bool

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.data.encode() if isinstance(self.data, str) else self.data)

    @property
    def to(self) -> Connection | None:
        """The connection that it is for; None while there is no upstream."""
        return self.way.upstream if self.c2u else self.way.client


_recent: deque[float] = deque(maxlen=BUSY[0])


def _busy(passing: Passing) -> bool:
    now = time.monotonic()
    _recent.append(now)
    return len(_recent) == BUSY[0] and now - _recent[0] < BUSY[1]


def _pressed(passing: Passing) -> bool:
    to = passing.to
    return to is not None and to.transport.get_write_buffer_size() > 0


#: Which messages a harm is done to.
ONLY: Mapping[str, Callable[[Passing], bool]] = {
    "text": lambda passing: isinstance(passing.data, str),
    "binary": lambda passing: isinstance(passing.data, bytes),
    "large": lambda passing: passing.size > LARGE,
    "small": lambda passing: passing.size <= LARGE,
    "huge": lambda passing: passing.size > 2**22,
    "empty": lambda passing: not passing.data,
    # Where the length of a frame takes more bytes.
    "126": lambda passing: passing.size == 126,
    "65536": lambda passing: passing.size == 65_536,
    "c2u": lambda passing: passing.c2u,
    "u2c": lambda passing: not passing.c2u,
    "pressed": _pressed,
    "early": lambda passing: time.monotonic() - passing.way.accepted < EARLY_SECONDS,
    "busy": _busy,
    "redialled": lambda passing: passing.way.redials > 0,
    "first": lambda passing: passing.way.redials > 0 and passing.way.first[passing.c2u],
}


def _flip(data: Data) -> Data:
    """Change the last character."""
    if isinstance(data, str):
        return data[:-1] + ("x" if data[-1:] != "x" else "y")
    return data[:-1] + bytes([data[-1] ^ 1])


def _other_type(data: Data) -> Data:
    return data.encode() if isinstance(data, str) else data.decode("latin-1")


def _blocked(name: str) -> Callable[[Data], Data]:
    size = BLOCKS[name]
    return lambda data: data[:size] if isinstance(data, bytes) else data.encode()[:size].decode(errors="ignore")


#: Harms that change a message.
CHANGES: Mapping[str, Callable[[Data], Data]] = {
    "truncate": lambda data: data[: len(data) // 2],
    "strip": lambda data: data.replace("\ufeff", "").replace("\0", "") if isinstance(data, str) else data,
    "compose": lambda data: unicodedata.normalize("NFC", data) if isinstance(data, str) else data,
    "trim": lambda data: data.rstrip() if isinstance(data, str) else data,
    "flip": lambda data: _flip(data) if data else data,
    "retype": _other_type,
    "reencode": lambda data: data.encode("ascii", "replace").decode() if isinstance(data, str) else data,
    "narrow": lambda data: (
        "".join(c if c < "\U00010000" else "\ufffd" for c in data) if isinstance(data, str) else data
    ),
    **{name: _blocked(name) for name in BLOCKS},
}

#: `merge` sends two messages as one, `split` one as several; `cross` gives a message to another client or its
#: upstream, `turn` back to the end that sent it, and `spill` gives a copy to another client; `stop` drops all that come
#: after it in its direction, `hold` delays it, and `exit` ends the process.
HARMS = ("drop", "swap", "merge", "split", "repeat", *CHANGES, "exit", "cross", "turn", "spill", "stop", "hold")


class Harm:
    """The harm that a relay does: every Nth message by the name of the harm, and which messages are in question."""

    def __init__(self, every: Mapping[str, int], only: list[str], ways: list[Way]) -> None:
        self._every = every
        self._only = [ONLY[name] for name in only]
        self._ways = ways
        self._count = 0
        self._kept: dict[tuple[int, bool], Data] = {}
        self._stopped: set[tuple[int, bool]] = set()

    async def pass_on(self, passing: Passing) -> list[Passing]:
        """Return what goes out for a message."""
        harm = self._chosen(passing)
        passing.way.first[passing.c2u] = False
        if harm == "hold":
            await asyncio.sleep(HELD_SECONDS)
        return list(self._outcome(passing, harm))

    def _chosen(self, passing: Passing) -> str | None:
        if not self._every or not all(fits(passing) for fits in self._only):
            return None
        self._count += 1
        return next((name for name, n in self._every.items() if self._count % n == 0), None)

    def _outcome(self, passing: Passing, harm: str | None) -> Iterator[Passing]:
        place = (id(passing.way), passing.c2u)
        kept = self._kept.pop(place, None)
        if harm == "swap" and kept is None:
            self._kept[place] = passing.data
            return
        if harm == "merge" and kept is None:
            self._kept[place] = passing.data
            return
        if harm == "exit":
            os._exit(3)
        if harm == "stop":
            self._stopped.add(place)
        if place in self._stopped:
            return
        if harm in CHANGES:
            passing = passing._replace(data=CHANGES[harm](passing.data))
        if "merge" in self._every and isinstance(kept, str) and isinstance(passing.data, str):
            passing, kept = passing._replace(data=kept + passing.data), None
        if harm == "split":
            size = BLOCKS["block16"]
            yield from (passing._replace(data=passing.data[i : i + size]) for i in range(0, len(passing.data), size))
        elif harm in ("cross", "turn"):
            yield self._elsewhere(passing, harm)
        elif harm != "drop":
            yield passing
        if harm == "repeat":
            yield passing
        if harm == "spill":
            yield self._elsewhere(passing, "cross")
        if kept is not None:
            yield passing._replace(data=kept)

    def _elsewhere(self, passing: Passing, harm: str) -> Passing:
        if harm == "turn":
            return passing._replace(c2u=not passing.c2u)
        return passing._replace(way=self._ways[self._ways.index(passing.way) - 1])
