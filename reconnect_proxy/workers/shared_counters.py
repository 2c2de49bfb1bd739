"""What all workers must know of each other at once: numbers in shared memory, of which each writes only its own.

    | sessions of 0 | is 0 gone? | sessions of 1 | is 1 gone? | …        8 bytes each

A limit that all share is kept like this: a worker that wants to take one more first writes that it has it, then adds up
what all have written, and if that is too much takes it back. Of two that want the last place at the same moment at
least one sees the other. Both may: then the place is free for the next who comes. The limit is never passed.

The memory belongs to the supervisor too. What a worker that died had written is there to be told.
"""

from __future__ import annotations

import mmap
import os

__all__ = ["Tallies"]

_CELL = 8
_SESSIONS, _GONE, _CELLS = 0, 1, 2


class Tallies:
    """The numbers of `count` workers, in the memory behind a file descriptor."""

    def __init__(self, descriptor: int, count: int) -> None:
        """Open what `create` has made."""
        self.count = count
        self._map = mmap.mmap(descriptor, _size(count))
        # An aligned write of 8 bytes is seen as a whole or not at all.
        self._cells = memoryview(self._map).cast("q")

    @staticmethod
    def create(count: int) -> int:
        """Return the descriptor of new memory, all zero, for so many workers."""
        descriptor = os.memfd_create("reconnect-proxy-tallies")
        os.ftruncate(descriptor, _size(count))
        return descriptor

    def close(self) -> None:
        """Let go of the memory."""
        self._cells.release()
        self._map.close()

    def sessions(self, worker: int) -> int:
        """Return how many sessions a worker has."""
        return self._cells[worker * _CELLS + _SESSIONS]

    def set_sessions(self, worker: int, count: int) -> None:
        """Write how many sessions a worker has; only that worker does, and when it is dead the supervisor."""
        self._cells[worker * _CELLS + _SESSIONS] = count

    def all_sessions(self) -> int:
        """Return how many sessions there are."""
        return sum(self._cells[_SESSIONS : self.count * _CELLS : _CELLS])

    def gone(self, worker: int) -> bool:
        """Tell whether it is of no use to wait for a worker: it has stopped, or is not to be started again soon."""
        return bool(self._cells[worker * _CELLS + _GONE])

    def set_gone(self, worker: int, gone: bool) -> None:
        """Write that; the worker does when it stops, and the supervisor when it starts."""
        self._cells[worker * _CELLS + _GONE] = gone


def _size(count: int) -> int:
    return count * _CELLS * _CELL
