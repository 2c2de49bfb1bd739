"""How many sessions each address has in all workers together: a table in shared memory for each worker.

    slot:   fingerprint of the address | sessions        8 bytes each

Each writes its own table only, and looks an address up in those of the others. An address is within WINDOW slots from
that which its fingerprint names, or not there; a slot without sessions is free. So nothing is ever moved, and a reader
sees at the worst a count of a moment ago. What an address wants to have is written first, and added up then, as in
`tallies`.

A table has room for far more addresses than a worker has sessions. Should a window be full all the same, that address
is counted by each worker for itself.
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b

from ..net.client_address import SessionsByAddress

__all__ = ["AddressTable", "SharedAddresses"]

#: Slots of a table that a fingerprint may name, and how far from there an address may be.
SLOTS = 2**17
WINDOW = 32
_SLOT = 16
_TABLE = (SLOTS + WINDOW) * _SLOT


class AddressTable:
    """The tables of `count` workers in the memory behind a descriptor, as the worker `number` sees them."""

    def __init__(self, descriptor: int, number: int, count: int, key: bytes) -> None:
        """Open what `create` has made; with `key`, which all have, addresses become fingerprints."""
        self._map = mmap.mmap(descriptor, count * _TABLE)
        self._cells = memoryview(self._map).cast("Q")
        self._number = number
        self._others = [other for other in range(count) if other != number]
        self._key = key
        # Where the addresses are that this worker has written.
        self._slots: dict[str, int] = {}

    @staticmethod
    def create(count: int) -> int:
        """Return the descriptor of new memory, all zero, for so many workers; it takes what is written only."""
        descriptor = os.memfd_create("reconnect-proxy-addresses")
        os.ftruncate(descriptor, count * _TABLE)
        return descriptor

    def close(self) -> None:
        """Let go of the memory."""
        self._cells.release()
        self._map.close()

    def clear(self, worker: int) -> None:
        """Forget what a worker that has died had written."""
        self._map[worker * _TABLE : (worker + 1) * _TABLE] = bytes(_TABLE)

    def write(self, name: str, count: int) -> None:
        """Write how many sessions the address called `name` has in this worker."""
        slot = self._slots.get(name)
        if slot is None:
            if not count:
                return
            slot = self._take_slot(name)
            if slot is None:
                return
        self._cells[slot + 1] = count
        if not count:
            del self._slots[name]

    def elsewhere(self, name: str) -> int:
        """Return how many sessions an address has in the other workers."""
        fingerprint, place = self._fingerprint(name)
        found = 0
        for other in self._others:
            start = other * _TABLE // 8 + 2 * place
            window = self._cells[start : start + 2 * WINDOW].tolist()
            for i in range(0, 2 * WINDOW, 2):
                if window[i] == fingerprint:
                    found += window[i + 1]
        return found

    def _take_slot(self, name: str) -> int | None:
        fingerprint, place = self._fingerprint(name)
        start = self._number * _TABLE // 8 + 2 * place
        for slot in range(start, start + 2 * WINDOW, 2):
            if not self._cells[slot + 1]:
                self._cells[slot] = fingerprint
                self._slots[name] = slot
                return slot
        return None

    def _fingerprint(self, name: str) -> tuple[int, int]:
        digest = int.from_bytes(blake2b(name.encode(), digest_size=8, key=self._key).digest(), "big")
        return digest, digest % SLOTS


class SharedAddresses(SessionsByAddress):
    """The sessions of addresses in this worker, kept to a limit that holds for all workers together."""

    def __init__(self, limit: int, table: AddressTable) -> None:
        """Count up to `limit` sessions for each address."""
        super().__init__(limit)
        self._table = table
        # The address that the table may say too much of.
        self._wanting: str | None = None

    def check(self, name: str) -> None:
        """Check that `name` may have another session. Raises Refusal: 503. `settle` has to follow."""
        assert self.limit is not None, "there is one"
        mine = self.count(name)
        self._wanting = name
        self._table.write(name, mine + 1)
        if mine + 1 + self._table.elsewhere(name) > self.limit:
            raise self.refusal(name)

    def settle(self) -> None:
        """Write what is: the session that was wanted has been made, or not."""
        if self._wanting is not None:
            self._table.write(self._wanting, self.count(self._wanting))
            self._wanting = None

    def add(self, name: str) -> None:
        """Count a session for `name`."""
        super().add(name)
        self._table.write(name, self.count(name))

    def remove(self, name: str) -> None:
        """Take a session of `name` out of the count."""
        super().remove(name)
        self._table.write(name, self.count(name))
