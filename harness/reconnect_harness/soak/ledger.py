"""The ledger of a soak: a file of fixed size with what one end has counted, however long the soak lasts.

    a row for each kind of peer:   sent 81,920, arrived 81,877, lost 0, …
        incoming   a mark for each stream that it receives   c12.7: the last number was 81
        outgoing   a mark for each stream that it sends      a1.93: the last number was 204
        owners     the client of each session of an upstream a1.93: c12.7

The file is mapped into memory: a process that is killed loses nothing of it, and other processes read it meanwhile.
What went wrong is also written in words, to a second file (`words_file`).
"""

from __future__ import annotations

import json
import mmap
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

#: How many of the counted violations a process writes in words.
DESCRIBED = 1000

#: How many bits of a stream's label are its second number.
_ORDINAL_BITS = 40

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
    MISDELIVERED = "misdelivered"
    LINKS = "links"
    CUT = "cut"


_INDEX = {count: index for index, count in enumerate(Counted)}


class MarkTable(NamedTuple):
    """The size of a table of marks: `ordinals` marks for each of `slots`, the two numbers in a stream's name, `c12.7`.

    Streams of a slot whose second numbers are `ordinals` apart use the same mark.
    """

    slots: int = 0
    ordinals: int = 0

    @property
    def size(self) -> int:
        """The numbers that the table takes: two for each mark."""
        return 2 * self.slots * self.ordinals


#: A table without marks.
NO_MARKS = MarkTable()


class StreamMarks:
    """The last number of each stream, in the `cells` of a ledger from `start` on: a label of the stream, its number.

    A label is written last, and emptied first, so that a reader never sees one with the number of another stream.
    """

    def __init__(self, cells: memoryview, start: int, table: MarkTable) -> None:
        self._cells = cells
        self._start = start
        self._table = table

    def last(self, stream: str) -> int:
        """Return the last number of a stream, 0 of a stream without a mark."""
        index, label = self._find(stream)
        found, number = self._cells[index : index + 2]
        return number if found == label else 0

    def set(self, stream: str, number: int) -> None:
        index, label = self._find(stream)
        if self._cells[index] != label:
            self._cells[index] = 0
        self._cells[index + 1] = number
        self._cells[index] = label

    def set_owner(self, session: str, stream: str) -> None:
        """Note the client whose stream arrives in the session of a stream."""
        self.set(session, stream_label(stream))

    def remove(self, stream: str) -> None:
        if self.last(stream):
            self._cells[self._find(stream)[0]] = 0

    def clear(self) -> None:
        for index in range(self._start, self._start + self._table.size, 2):
            self._cells[index] = 0

    def _find(self, stream: str) -> tuple[int, int]:
        """Return where the mark of a stream is, and the label that it has there."""
        label = stream_label(stream)
        slot, ordinal = label >> _ORDINAL_BITS, label & (1 << _ORDINAL_BITS) - 1
        index = slot % self._table.slots * self._table.ordinals + ordinal % self._table.ordinals
        return self._start + 2 * index, label


def stream_label(stream: str) -> int:
    """Return the number that stands for a stream: c12.7 comes after c12.6, and before c13.1."""
    found = _STREAM.fullmatch(stream)
    if found is None:
        raise ValueError(f"{stream!r} is not the name of a stream with a mark, such as c12.7")
    return int(found[1]) << _ORDINAL_BITS | int(found[2])


def is_of_client(label: int, client: str) -> bool:
    """Whether a stream is one of the client whose first stream is `client`, or of a later client in its slot."""
    first = stream_label(client)
    return label >> _ORDINAL_BITS == first >> _ORDINAL_BITS and label >= first


class LedgerRow:
    """The counters of one kind of peer, and the marks of its streams."""

    def __init__(
        self, cells: memoryview, start: int, incoming: MarkTable, outgoing: MarkTable, owners: MarkTable
    ) -> None:
        self._cells = cells
        self._start = start
        marks = start + len(Counted)
        self.incoming = StreamMarks(cells, marks, incoming)
        self.outgoing = StreamMarks(cells, marks + incoming.size, outgoing)
        self.owners = StreamMarks(cells, marks + incoming.size + outgoing.size, owners)

    def add(self, count: Counted, number: int = 1) -> None:
        self._cells[self._start + _INDEX[count]] += number

    def counts(self) -> dict[Counted, int]:
        return dict(zip(Counted, self._cells[self._start : self._start + len(Counted)], strict=True))


class Ledger:
    """The ledger of one process, or of several that replace each other, in the file `path`, which is made if need be.

    Each of the `rows` has these marks for the streams that it receives, for those that it sends, and for the clients of
    its sessions.
    """

    def __init__(
        self,
        path: Path,
        rows: Sequence[str],
        incoming: MarkTable = NO_MARKS,
        outgoing: MarkTable = NO_MARKS,
        owners: MarkTable = NO_MARKS,
    ) -> None:
        self._described = 0
        self._words = os.open(words_file(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        size = len(Counted) + incoming.size + outgoing.size + owners.size
        with path.open("a+b") as file:
            file.truncate(8 * size * len(rows))
            self._memory = mmap.mmap(file.fileno(), 8 * size * len(rows))
        self._cells = memoryview(self._memory).cast("q")
        self.rows: Mapping[str, LedgerRow] = {
            name: LedgerRow(self._cells, index * size, incoming, outgoing, owners) for index, name in enumerate(rows)
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
        self._cells.release()
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
