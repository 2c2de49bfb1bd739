"""The connections that are accepted and not served yet, and how many there may be.

    TCP accept -> waiting for its head -> waiting for the first dial of its session -> served, or answered and closed
                  |_____________________ PendingConnections _____________________|

Clients that open connections and send nothing, or one byte now and then, must not lock out the others. So when the
limit is reached, the connection that has waited longest for its head is evicted. The new connection is refused only if
no connection waits for a head. A burst is not an attack: after an outage many clients connect before the first head can
have been read. So a connection keeps its place for FRESH seconds, and meanwhile there may be BURST times the limit.

File descriptors can run out here too. The system gives out the lowest free number, so a high number means that most are
taken. The rest is kept for the sessions that are alive, which need descriptors to redial.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from itertools import chain
from typing import Protocol

from ..core.wire import Refusal, limit_reached

#: Seconds for which a new connection cannot be evicted, so that its head can arrive.
FRESH = 0.25
#: How far a burst of fresh connections may pass the limit, as a factor.
BURST = 4
#: One in so many file descriptors, and at least so many, are kept for the sessions that are alive.
SPARE_SHARE = 16
SPARE_LEAST = 8


def descriptors_for_clients() -> float:
    """Return the number that a client's file descriptor must be below, from RLIMIT_NOFILE of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else without_spare(soft)


def without_spare(limit: int) -> int:
    """Return how many of `limit` descriptors new connections may use; the rest is kept for living sessions."""
    return limit - max(SPARE_LEAST, limit // SPARE_SHARE)


def with_spare(count: int) -> int:
    """Return a limit of which new connections may use at least `count` descriptors; see `without_spare`."""
    return count + max(SPARE_LEAST, count // (SPARE_SHARE - 1) + 1)


class PendingConnection(Protocol):
    """A connection that no session has taken yet."""

    def evict(self, refusal: Refusal) -> None:
        """Answer `refusal` and close the connection."""

    def abort(self) -> None:
        """Drop the connection at once."""


class PendingConnections:
    """The pending connections by what they wait for. `len` counts those that are not answered yet."""

    def __init__(self, limit: int, descriptors: float = math.inf) -> None:
        """Begin without connections.

        Args:
            limit: how many connections may wait at a time.
            descriptors: the number that a connection's file descriptor must be below.
        """
        self._limit = limit
        self._descriptors = descriptors
        # Those whose head (or TLS handshake) is not complete, oldest first, and when each was added.
        self._reading_head: dict[PendingConnection, float] = {}
        # Those whose head is complete: the first dial of their session is in progress.
        self._dialling: set[PendingConnection] = set()
        # Those that were answered and whose socket is still open.
        self._closing: set[PendingConnection] = set()

    def __len__(self) -> int:
        """Return how many connections are not answered yet."""
        return len(self._reading_head) + len(self._dialling)

    def __iter__(self) -> Iterator[PendingConnection]:
        """Iterate over all connections with an open socket."""
        return chain(self._reading_head, self._dialling, self._closing)

    def __bool__(self) -> bool:
        """Tell whether any connection has an open socket."""
        return bool(self._reading_head or self._dialling or self._closing)

    def add(self, connection: PendingConnection, now: float, descriptor: int) -> None:
        """Add a connection that waits for its head; this may evict another one.

        Args:
            connection: was just accepted.
            now: the loop's time in seconds.
            descriptor: the number of its file descriptor.

        Raises:
            Refusal: 503, the limit is reached. The connection counts as answered.
        """
        self._closing.add(connection)
        if descriptor >= self._descriptors:
            raise limit_reached("too-few-descriptors", "the proxy has no file descriptors left for new connections")
        if len(self) >= self._limit:
            self._make_room(now)
        self._closing.discard(connection)
        self._reading_head[connection] = now

    def _make_room(self, now: float) -> None:
        oldest = next(iter(self._reading_head), None)
        if oldest is not None and now >= self._reading_head[oldest] + FRESH:
            self.answered(oldest)
            oldest.evict(limit_reached("handshake-evicted", "others came while this connection had sent no whole head"))
        elif oldest is None or len(self) >= BURST * self._limit:
            raise limit_reached(
                "too-many-handshakes", f"{len(self)} connections wait to be served, and no more are allowed"
            )

    def head_read(self, connection: PendingConnection) -> None:
        """Record that the head of `connection` is complete."""
        if self._reading_head.pop(connection, None) is not None:
            self._dialling.add(connection)

    def answered(self, connection: PendingConnection) -> None:
        """Record that `connection` was answered: only its socket has to close."""
        if connection in self._dialling or connection in self._reading_head:
            self.remove(connection)
            self._closing.add(connection)

    def remove(self, connection: PendingConnection) -> None:
        """Forget `connection`: its socket is closed, or a session has it."""
        self._reading_head.pop(connection, None)
        self._dialling.discard(connection)
        self._closing.discard(connection)
