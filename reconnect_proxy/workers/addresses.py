"""How many sessions each address has in each worker: one table in shared memory for each worker.

    slot:   fingerprint of the address | sessions        8 bytes each

A worker writes its own table only, and looks addresses up in those of the others. An address is at most WINDOW slots
behind the slot that its fingerprint names, or not in the table; a slot without sessions is free. So nothing is ever
moved, and a reader sees at worst a count that was right a moment ago.

A table has room for far more addresses than a worker has sessions. If the window of an address is full all the same,
each worker counts that address by itself.
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b

#: Slots of a table that a fingerprint may name, and how far behind that slot an address may be.
SLOTS = 2**17
WINDOW = 32
_SLOT = 16
_TABLE = (SLOTS + WINDOW) * _SLOT


class AddressTable:
    """The tables of `count` workers in the memory behind a descriptor, as the worker `number` sees them."""

    def __init__(self, descriptor: int, number: int, count: int, key: bytes) -> None:
        """Map the memory that `create` has made. With `key`, which all workers have, addresses become fingerprints."""
        self._map = mmap.mmap(descriptor, count * _TABLE)
        self._cells = memoryview(self._map).cast("Q")
        self._number = number
        self._others = [other for other in range(count) if other != number]
        self._key = key
        # Where the addresses are that this worker has written.
        self._slots: dict[str, int] = {}

    @staticmethod
    def create(count: int) -> int:
        """Return the descriptor of new memory, all zero, for so many workers. Only pages that are written are taken."""
        descriptor = os.memfd_create("reconnect-proxy-addresses")
        os.ftruncate(descriptor, count * _TABLE)
        return descriptor

    def close(self) -> None:
        self._cells.release()
        self._map.close()

    def clear(self, worker: int) -> None:
        """Clear the table of a worker that has died."""
        self._map[worker * _TABLE : (worker + 1) * _TABLE] = bytes(_TABLE)

    def write(self, address: str, count: int) -> None:
        """Write how many sessions an address has in this worker."""
        slot = self._slots.get(address)
        if slot is None:
            if not count:
                return
            slot = self._take_slot(address)
            if slot is None:
                return
        self._cells[slot + 1] = count
        if not count:
            del self._slots[address]

    def elsewhere(self, address: str) -> int:
        """Return how many sessions an address has in the other workers."""
        fingerprint, first = self._fingerprint(address)
        found = 0
        for other in self._others:
            start = other * _TABLE // 8 + 2 * first
            window = self._cells[start : start + 2 * WINDOW].tolist()
            for i in range(0, 2 * WINDOW, 2):
                if window[i] == fingerprint:
                    found += window[i + 1]
        return found

    def _take_slot(self, address: str) -> int | None:
        fingerprint, first = self._fingerprint(address)
        start = self._number * _TABLE // 8 + 2 * first
        for slot in range(start, start + 2 * WINDOW, 2):
            if not self._cells[slot + 1]:
                self._cells[slot] = fingerprint
                self._slots[address] = slot
                return slot
        return None

    def _fingerprint(self, address: str) -> tuple[int, int]:
        """Return the fingerprint of an address, and the first slot of its window."""
        digest = int.from_bytes(blake2b(address.encode(), digest_size=8, key=self._key).digest(), "big")
        return digest, digest % SLOTS
