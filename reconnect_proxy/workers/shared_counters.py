"""What all workers must know of each other at once: numbers in shared memory, of which each worker writes its own only.

    | sessions of 0 | is 0 gone? | sessions of 1 | is 1 gone? | …        8 bytes each

A limit of all workers together is kept like this: a worker that wants one more session first writes that it has it,
then adds up what all have written, and takes it back if that is too much. If two workers want the last session at the
same moment, at least one of them sees the other's. Both may: then the session is free for the next client. The limit is
never passed.

The supervisor maps the memory too, and reads from it how many sessions a worker had that has died.
"""

from __future__ import annotations

import mmap
import os

from ..core.registry import LocalCounts
from .addresses import AddressTable
from .placement import part

_CELL = 8
_SESSIONS, _GONE, _CELLS = 0, 1, 2


class SharedCounters:
    """The numbers of `count` workers, in the memory behind a file descriptor."""

    def __init__(self, descriptor: int, count: int) -> None:
        """Map the memory that `create` has made."""
        self.count = count
        self._map = mmap.mmap(descriptor, _size(count))
        # An aligned write of 8 bytes is seen as a whole or not at all.
        self._cells = memoryview(self._map).cast("q")

    @staticmethod
    def create(count: int) -> int:
        """Return the descriptor of new memory, all zero, for so many workers."""
        descriptor = os.memfd_create("reconnect-proxy-counters")
        os.ftruncate(descriptor, _size(count))
        return descriptor

    def close(self) -> None:
        self._cells.release()
        self._map.close()

    def sessions(self, worker: int) -> int:
        return self._cells[worker * _CELLS + _SESSIONS]

    def set_sessions(self, worker: int, count: int) -> None:
        """Write how many sessions a worker has: called by that worker, or by the supervisor when it has died."""
        self._cells[worker * _CELLS + _SESSIONS] = count

    def all_sessions(self) -> int:
        return sum(self._cells[_SESSIONS : self.count * _CELLS : _CELLS])

    def gone(self, worker: int) -> bool:
        """Tell whether clients should not wait for a worker: it has stopped, or will not be started again soon."""
        return bool(self._cells[worker * _CELLS + _GONE])

    def set_gone(self, worker: int, gone: bool) -> None:
        """Write whether a worker is gone: called by that worker when it starts and stops, and by the supervisor."""
        self._cells[worker * _CELLS + _GONE] = gone


def _size(count: int) -> int:
    return count * _CELLS * _CELL


class WorkerCounts:
    """The `SessionCounts` of one worker: what it counts it writes, and it adds up what all workers have written."""

    def __init__(self, number: int, counters: SharedCounters, addresses: AddressTable | None) -> None:
        """Count for worker `number`; `addresses` is there if sessions are counted by address."""
        self._own = LocalCounts()
        self._number = number
        self._counters = counters
        self._addresses = addresses

    @property
    def total(self) -> int:
        return self._counters.all_sessions()

    def of(self, address: str) -> int:
        return self._own.of(address) + (self._addresses.elsewhere(address) if self._addresses is not None else 0)

    def add(self, address: str | None) -> None:
        self._own.add(address)
        self._write(address)

    def remove(self, address: str | None) -> None:
        self._own.remove(address)
        self._write(address)

    def part(self, limit: int) -> int:
        """Return this worker's part of a limit."""
        return part(limit, self._number, self._counters.count)

    def _write(self, address: str | None) -> None:
        self._counters.set_sessions(self._number, self._own.total)
        if address is not None and self._addresses is not None:
            self._addresses.write(address, self._own.of(address))
