"""The ledger of a soak: what an end has seen, in numbers. A file of fixed size, however long it all lasts.

Streams of a soak have no gaps: `1, 2, 3 …` is what arrives of one, up to where its sender has come to an end, or the
connection that was all it could count on. So a message is judged when it arrives, by the number of the one before it,
and none has to be remembered.

    a row for each kind of end:    sent 81,920, arrived 81,877, lost 0, …
        came   a mark for each stream that comes      c12.7: number 81 was the last one
        went   a mark for each stream that goes       a1.93: number 204 was the last one

The file is mapped into memory: a process that is killed loses nothing of it, and another one may read it meanwhile.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from reconnect_harness.history.message import Direction, MessageLabel

#: How many things that went wrong a process tells in words.
TOLD = 1000

#: Missing numbers of a stream that are remembered, to tell what comes late from what comes again.
MISSING = 1000

#: Streams that a `Recent` remembers.
RECENT = 16

_NUMBER = struct.Struct("<q")
_MARK = struct.Struct("<qq")
_STREAM = re.compile(r"[a-z]+(\d+)\.(\d+)")


class Count(StrEnum):
    """What a row counts. Links are connections that came about; those cut ended without their end wanting it."""

    SENT = "sent"
    ARRIVED = "arrived"
    LOST = "lost"
    REPEATED = "repeated"
    REORDERED = "reordered"
    CORRUPTED = "corrupted"
    LINKS = "links"
    CUT = "cut"


_PLACE = {count: index * _NUMBER.size for index, count in enumerate(Count)}


class Tracks(Protocol):
    """The last number of streams, by name."""

    def last(self, stream: str) -> int:
        """Return the last number of a stream, 0 of one that is not known."""

    def note(self, stream: str, number: int) -> None:
        """Take note of the last number of a stream."""


class Recent:
    """Tracks in the memory of a process, of the `RECENT` latest streams. `latest` is the name of the last one."""

    def __init__(self) -> None:
        self.latest: str | None = None
        self._last: dict[str, int] = {}

    def last(self, stream: str) -> int:
        """Return the last number of a stream."""
        return self._last.get(stream, 0)

    def note(self, stream: str, number: int) -> None:
        """Take note of the last number of a stream."""
        self.latest = stream
        self._last[stream] = number
        if len(self._last) > RECENT:
            del self._last[next(iter(self._last))]


class Shape(NamedTuple):
    """How many marks there are: `deep` for each of `wide` values of the first number in the name of a stream, `c12.7`.

    Streams whose second numbers are `deep` apart take each other's place.
    """

    wide: int = 0
    deep: int = 0

    @property
    def size(self) -> int:
        """How many bytes they take."""
        return self.wide * self.deep * _MARK.size


#: The shape of none.
NO_MARKS = Shape()


class Marks:
    """Tracks in the file of a ledger, from `start` on."""

    def __init__(self, memory: mmap.mmap, start: int, shape: Shape) -> None:
        self._memory = memory
        self._start = start
        self._shape = shape

    def last(self, stream: str) -> int:
        """Return the last number of a stream."""
        place, label = self._place(stream)
        found, number = _MARK.unpack_from(self._memory, place)
        return int(number) if found == label else 0

    def note(self, stream: str, number: int) -> None:
        """Take note of the last number of a stream."""
        place, label = self._place(stream)
        if _NUMBER.unpack_from(self._memory, place)[0] != label:
            # In this order, for whoever reads meanwhile.
            _MARK.pack_into(self._memory, place, 0, 0)
        _NUMBER.pack_into(self._memory, place + _NUMBER.size, number)
        _NUMBER.pack_into(self._memory, place, label)

    def forget(self, stream: str) -> None:
        """Forget a stream."""
        if self.last(stream):
            _MARK.pack_into(self._memory, self._place(stream)[0], 0, 0)

    def wipe(self) -> None:
        """Forget all."""
        self._memory[self._start : self._start + self._shape.size] = bytes(self._shape.size)

    def _place(self, stream: str) -> tuple[int, int]:
        found = _STREAM.fullmatch(stream)
        if found is None:
            raise ValueError(f"{stream!r} is no name of a stream with marks")
        slot, ordinal = int(found[1]), int(found[2])
        index = slot % self._shape.wide * self._shape.deep + ordinal % self._shape.deep
        return self._start + index * _MARK.size, slot << 40 | ordinal


class Row:
    """The counters of one kind of end, and its marks."""

    def __init__(self, memory: mmap.mmap, start: int, came: Shape, went: Shape) -> None:
        self._memory = memory
        self._start = start
        marks = start + len(Count) * _NUMBER.size
        self.came = Marks(memory, marks, came)
        self.went = Marks(memory, marks + came.size, went)

    def add(self, count: Count, number: int = 1) -> None:
        """Count."""
        place = self._start + _PLACE[count]
        _NUMBER.pack_into(self._memory, place, _NUMBER.unpack_from(self._memory, place)[0] + number)

    def counts(self) -> dict[Count, int]:
        """Return what was counted so far."""
        return {
            count: int(_NUMBER.unpack_from(self._memory, self._start + place)[0]) for count, place in _PLACE.items()
        }


class Ledger:
    """The ledger of one process, or of those that take its place one after the other.

    Args:
        path: its file, which is made where it does not exist. What is told in words is appended to one beside it.
        rows: the kinds of end.
        came: the marks of each for streams that come.
        went: the marks of each for streams that go.

    """

    def __init__(self, path: Path, rows: Sequence[str], came: Shape = NO_MARKS, went: Shape = NO_MARKS) -> None:
        self._told = 0
        self._words = os.open(words_beside(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        size = len(Count) * _NUMBER.size + came.size + went.size
        with path.open("ab") as file:
            file.truncate(size * len(rows))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size * len(rows))
        self.rows: Mapping[str, Row] = {
            name: Row(self._memory, index * size, came, went) for index, name in enumerate(rows)
        }

    def tell(self, what: str, **fields: Any) -> None:
        """Say something that was counted in words as well; after `TOLD` times nothing more is said."""
        self._told += 1
        if self._told <= TOLD:
            self.note(what, **fields)

    def note(self, what: str, **fields: Any) -> None:
        """Say something in words, a line of JSON."""
        os.write(self._words, json.dumps({"t": time.monotonic(), "what": what, **fields}).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._memory.close()
        os.close(self._words)


def words_beside(path: Path) -> Path:
    """Return the file in which a ledger says things in words."""
    return path.with_suffix(".words.jsonl")


def words(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what a ledger has said in words, each with the moment `t` and the sentence `what`."""
    with words_beside(path).open(encoding="utf-8") as lines:
        # The last one may have been cut, when its process was killed.
        yield from (json.loads(line) for line in lines if line.endswith("\n"))


class Page:
    """What one end, or several of a kind, write into a ledger: a `history.recorder.EventSink`.

    Args:
        ledger: where what goes wrong is told.
        row: where it is counted.
        came: the streams that come.
        went: the streams that go, if anybody wants to know.
        once: whether a message may come once only.
        short: whether streams that go end with their link, which has the same name.

    """

    def __init__(
        self,
        ledger: Ledger,
        row: Row,
        came: Tracks,
        went: Marks | None = None,
        *,
        once: bool = False,
        short: bool = False,
    ) -> None:
        self.said: Mapping[str, int] = {}
        self.ledger = ledger
        self.row = row
        self.came = came
        self.went = went
        self._once = once
        self._short = short
        self._missing: dict[str, set[int]] = {}

    def sent(self, name: str, direction: Direction, message: MessageLabel) -> None:
        """Count a message that is about to be sent."""
        self.row.add(Count.SENT)
        if self.went is not None:
            self.went.note(message.stream, message.number)

    def refused(self, name: str, direction: Direction, message: MessageLabel) -> None:
        """Count back a message that the socket did not take. Its stream ends here."""
        self.row.add(Count.SENT, -1)

    def received(self, name: str, direction: Direction, message: MessageLabel) -> None:
        """Count a message that arrived, and judge it."""
        self.row.add(Count.ARRIVED)
        wrong = message.wrong
        if wrong is None and message.direction != direction:
            wrong = f"it came {direction}"
        if wrong is not None:
            self._wrong(Count.CORRUPTED, name, message, f"is wrong: {wrong}")
            return
        last = self.came.last(message.stream)
        if message.number <= last:
            self._again(name, message, last)
            return
        self.came.note(message.stream, message.number)
        if (gap := message.number - last - 1) > 0:
            missing = self._missing.setdefault(message.stream, set())
            missing.update(range(last + 1, min(message.number, last + 1 + MISSING - len(missing))))
            self._wrong(Count.LOST, name, message, f"came after number {last}", gap)

    def arrived(self, name: str) -> int:
        """Return how many messages have arrived, of all ends of the row."""
        return self.row.counts()[Count.ARRIVED]

    def link(self, name: str, event: str, *, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Count links."""
        if event == "connected":
            self.row.add(Count.LINKS)
        elif event == "disconnected":
            if not asked:
                self.row.add(Count.CUT)
            if self._short and self.went is not None:
                self.went.forget(name)

    def _again(self, name: str, message: MessageLabel, last: int) -> None:
        missing = self._missing.get(message.stream, set())
        if message.number in missing:
            missing.discard(message.number)
            if not missing:
                del self._missing[message.stream]
            self.row.add(Count.LOST, -1)
            self._wrong(Count.REORDERED, name, message, f"came after number {last}")
        elif self._once:
            self._wrong(Count.REPEATED, name, message, "came again")
        else:
            self.row.add(Count.REPEATED)

    def _wrong(self, count: Count, name: str, message: MessageLabel, what: str, number: int = 1) -> None:
        self.row.add(count, number)
        told = f"{message.direction} {message.stream} number {message.number} {what}"
        self.ledger.tell(told, count=count, name=name)
