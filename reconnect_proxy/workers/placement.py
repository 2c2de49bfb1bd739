"""In which worker a session lives: the one that a hash of its id names."""

from __future__ import annotations

from hashlib import blake2b

from ..core.wire import new_id

__all__ = ["Homes", "part", "share"]


class Homes:
    """Knows the home of every id, for the worker `number` of `count`.

    The hash has a `key` that is made anew at each start. So nobody can choose ids that all fall on one worker, and two
    workers, which have the same key, always agree.
    """

    __slots__ = ("_count", "_key", "number")

    def __init__(self, number: int, count: int, key: bytes) -> None:
        self.number = number
        self._count = count
        self._key = key

    def of(self, session_id: str) -> int:
        """Return the number of the worker that `session_id` falls on."""
        digest = blake2b(session_id.encode(), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "big") % self._count

    def new_id(self) -> str:
        """Make an id that falls on this worker. It is as hard to guess as any: what was drawn before is forgotten."""
        while self.of(drawn := new_id()) != self.number:
            pass
        return drawn


def part(whole: int, number: int, count: int) -> int:
    """Return what worker `number` of `count` has of `whole`: parts that are as equal as may be, and add up to it."""
    return whole // count + (number < whole % count)


def share(limit: int, number: int, count: int) -> int:
    """Return the part of a `limit` that a worker keeps for itself: 1 at least, since with less it could do nothing."""
    return max(1, part(limit, number, count))
