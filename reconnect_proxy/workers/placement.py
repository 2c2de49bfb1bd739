"""In which worker a session lives: the one that a hash of its id names."""

from __future__ import annotations

from hashlib import blake2b

from ..core.wire import new_id


class Placement:
    """Places every id on a worker, as seen by the worker `number` of `count`.

    The hash has a `key` that is made for each run of the program. So no client can choose ids that all fall on one
    worker, and all workers, which have the same key, agree.
    """

    __slots__ = ("_key", "count", "number")

    def __init__(self, number: int, count: int, key: bytes) -> None:
        self.number = number
        self.count = count
        self._key = key

    def worker_of(self, session_id: str) -> int:
        """Return the number of the worker that `session_id` is placed on."""
        digest = blake2b(session_id.encode(), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "big") % self.count

    def new_id(self) -> str:
        """Return an unguessable id that is placed on this worker: ids are drawn until one is."""
        while self.worker_of(drawn := new_id()) != self.number:
            pass
        return drawn


def part(whole: int, number: int, count: int) -> int:
    """Return the part of `whole` of worker `number` of `count`. The parts differ by 1 at most and add up to `whole`."""
    return whole // count + (number < whole % count)


def share(limit: int, number: int, count: int) -> int:
    """Return the part of a `limit` that a worker keeps by itself: at least 1, because with 0 it could do nothing."""
    return max(1, part(limit, number, count))
