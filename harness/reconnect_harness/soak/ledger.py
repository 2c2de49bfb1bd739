"""The ledger of a soak: a file of fixed size with what one end has counted, however long the soak lasts.

    a row for each kind of peer:   sent 81,920, arrived 81,877, lost 0, …
        incoming   a mark for each stream that it receives   c12.7: the last number was 81
        outgoing   a mark for each stream that it sends      a1.93: the last number was 204

The file is mapped into memory: a process that is killed loses nothing of it, and other processes read it meanwhile.
What went wrong is also written in words, to a second file (`words_file`).
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
from typing import Any, NamedTuple

#: How many of the counted violations a process writes in words.
DESCRIBED = 1000

_NUMBER = struct.Struct("<q")
_MARK = struct.Struct("<qq")
_STREAM = re.compile(r"[a-z]+(\d+)\.(\d+)")


class Counted(StrEnum):
    """What a row counts.

    Links are connections that were made; those that were cut ended though this end had not asked for it.
    """

    SENT = "sent"
    ARRIVED = "arrived"
    LOST = "lost"
    REPEATED = "repeated"
    REORDERED = "reordered"
    CORRUPTED = "corrupted"
    LINKS = "links"
    CUT = "cut"


_OFFSETS = {count: index * _NUMBER.size for index, count in enumerate(Counted)}


class MarkTable(NamedTuple):
    """The size of a table of marks: `ordinals` marks for each of `slots`, the two numbers in a stream's name, `c12.7`.

    Streams of a slot whose second numbers are `ordinals` apart use the same mark.
    """

    slots: int = 0
    ordinals: int = 0

    @property
    def size(self) -> int:
        """The bytes that the table takes."""
        return self.slots * self.ordinals * _MARK.size


#: A table without marks.
NO_MARKS = MarkTable()


class StreamMarks:
    """The last number of each stream, in the file of a ledger from byte `start` on."""

    def __init__(self, memory: mmap.mmap, start: int, table: MarkTable) -> None:
        self._memory = memory
        self._start = start
        self._table = table

    def last(self, stream: str) -> int:
        """Return the last number of a stream, 0 of a stream without a mark."""
        offset, label = self._find(stream)
        found, number = _MARK.unpack_from(self._memory, offset)
        return int(number) if found == label else 0

    def set(self, stream: str, number: int) -> None:
        """Write the last number of a stream."""
        offset, label = self._find(stream)
        if _NUMBER.unpack_from(self._memory, offset)[0] != label:
            # Emptied first, so that a reader never sees a label with the number of another stream.
            _MARK.pack_into(self._memory, offset, 0, 0)
        _NUMBER.pack_into(self._memory, offset + _NUMBER.size, number)
        _NUMBER.pack_into(self._memory, offset, label)

    def remove(self, stream: str) -> None:
        """Remove the mark of a stream."""
        if self.last(stream):
            _MARK.pack_into(self._memory, self._find(stream)[0], 0, 0)

    def clear(self) -> None:
        """Remove all marks."""
        self._memory[self._start : self._start + self._table.size] = bytes(self._table.size)

    def _find(self, stream: str) -> tuple[int, int]:
        """Return the offset of a stream's mark in the file, and the label that it has there."""
        found = _STREAM.fullmatch(stream)
        if found is None:
            raise ValueError(f"{stream!r} is not the name of a stream with a mark, such as c12.7")
        slot, ordinal = int(found[1]), int(found[2])
        index = slot % self._table.slots * self._table.ordinals + ordinal % self._table.ordinals
        return self._start + index * _MARK.size, slot << 40 | ordinal


class LedgerRow:
    """The counters of one kind of peer, and the marks of its streams."""

    def __init__(self, memory: mmap.mmap, start: int, incoming: MarkTable, outgoing: MarkTable) -> None:
        self._memory = memory
        self._start = start
        marks = start + len(Counted) * _NUMBER.size
        self.incoming = StreamMarks(memory, marks, incoming)
        self.outgoing = StreamMarks(memory, marks + incoming.size, outgoing)

    def add(self, count: Counted, number: int = 1) -> None:
        """Add to a counter."""
        offset = self._start + _OFFSETS[count]
        _NUMBER.pack_into(self._memory, offset, _NUMBER.unpack_from(self._memory, offset)[0] + number)

    def counts(self) -> dict[Counted, int]:
        """Return all counters."""
        return {
            count: int(_NUMBER.unpack_from(self._memory, self._start + offset)[0]) for count, offset in _OFFSETS.items()
        }


class Ledger:
    """The ledger of one process, or of several that replace each other.

    Args:
        path: its file, which is made if it does not exist. Words are appended to another one (`words_file`).
        rows: the kinds of peer.
        incoming: the marks of each row for the streams that it receives.
        outgoing: the marks of each row for the streams that it sends.

    """

    def __init__(
        self, path: Path, rows: Sequence[str], incoming: MarkTable = NO_MARKS, outgoing: MarkTable = NO_MARKS
    ) -> None:
        self._described = 0
        self._words = os.open(words_file(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        size = len(Counted) * _NUMBER.size + incoming.size + outgoing.size
        with path.open("ab") as file:
            file.truncate(size * len(rows))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size * len(rows))
        self.rows: Mapping[str, LedgerRow] = {
            name: LedgerRow(self._memory, index * size, incoming, outgoing) for index, name in enumerate(rows)
        }

    def describe(self, what: str, **fields: Any) -> None:
        """Write a counted violation in words; nothing after the first `DESCRIBED`, so that the file stays small."""
        self._described += 1
        if self._described <= DESCRIBED:
            self.write(what, **fields)

    def write(self, what: str, **fields: Any) -> None:
        """Write a sentence, as a line of JSON with these further fields."""
        os.write(self._words, json.dumps({"t": time.monotonic(), "what": what, **fields}).encode() + b"\n")

    def close(self) -> None:
        """Close the files."""
        self._memory.close()
        os.close(self._words)


def words_file(path: Path) -> Path:
    """Return the path of the file with the words of a ledger."""
    return path.with_suffix(".words.jsonl")


def words(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the words of the ledger at `path`, each line with its moment `t` and its sentence `what`."""
    with words_file(path).open(encoding="utf-8") as lines:
        # The last line is incomplete where its process was killed while it wrote.
        yield from (json.loads(line) for line in lines if line.endswith("\n"))
