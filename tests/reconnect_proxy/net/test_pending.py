"""How many connections may wait to be served: which are evicted, which refused, and what a burst may do."""

from __future__ import annotations

import resource

import pytest

from reconnect_proxy.core.wire import Refusal
from reconnect_proxy.net.pending import BURST, FRESH, PendingConnections, descriptors_for_clients

LIMIT = 3


class FakeConnection:
    """A connection that records how it was evicted."""

    def __init__(self) -> None:
        self.evicted: str | None = None

    def evict(self, refusal: Refusal) -> None:
        """Record the refusal."""
        self.evicted = refusal.error

    def abort(self) -> None:
        """Do nothing: no test stops a proxy."""


def add(pending: PendingConnections, now: float, count: int = 1, descriptor: int = 0) -> list[FakeConnection]:
    """Add `count` connections, all at one time."""
    connections = [FakeConnection() for _ in range(count)]
    for connection in connections:
        pending.add(connection, now, descriptor)
    return connections


def refused(pending: PendingConnections, now: float, descriptor: int = 0) -> str:
    """Return why another connection is refused."""
    with pytest.raises(Refusal) as caught:
        pending.add(FakeConnection(), now, descriptor)
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    return caught.value.error


def test_the_connection_that_has_waited_longest_for_its_head_is_evicted() -> None:
    """So clients that send nothing cannot lock out the others."""
    pending = PendingConnections(LIMIT)
    (a,) = add(pending, 0.0)
    b, c = add(pending, 0.1, 2)
    (d,) = add(pending, 1.0)
    assert [connection.evicted for connection in (a, b, c, d)] == ["handshake-evicted", None, None, None]
    pending.remove(c)
    e, f = add(pending, 1.0, 2)
    assert [connection.evicted for connection in (b, d, e, f)] == ["handshake-evicted", None, None, None]
    assert len(pending) == LIMIT


def test_a_connection_whose_head_is_complete_is_not_evicted() -> None:
    """If all wait for an upstream, the new connection is refused."""
    pending = PendingConnections(LIMIT)
    connections = add(pending, 0.0, LIMIT)
    for connection in connections[:2]:
        pending.head_read(connection)
    add(pending, 1.0)
    assert [connection.evicted for connection in connections] == [None, None, "handshake-evicted"]
    pending = PendingConnections(LIMIT)
    for connection in add(pending, 0.0, LIMIT):
        pending.head_read(connection)
    assert refused(pending, 1.0) == "too-many-handshakes"


def test_a_burst_evicts_no_connection() -> None:
    """Fresh connections keep their place until their heads have had time to arrive; BURST limits how many."""
    pending = PendingConnections(LIMIT)
    connections = add(pending, 0.0, BURST * LIMIT)
    assert refused(pending, 0.0) == "too-many-handshakes"
    for connection in connections:
        pending.head_read(connection)
    assert not any(connection.evicted for connection in connections)
    for connection in connections:
        pending.remove(connection)
    add(pending, FRESH)
    assert len(pending) == 1


def test_an_answered_connection_does_not_count_but_is_known_until_its_socket_is_closed() -> None:
    """A stop has to close it too."""
    pending = PendingConnections(1)
    (a,) = add(pending, 0.0)
    pending.head_read(a)
    pending.answered(a)
    (b,) = add(pending, 0.0)
    assert len(pending) == 1
    assert set(pending) == {a, b}
    pending.remove(a)
    pending.answered(a)
    pending.remove(b)
    assert not pending


def test_a_refused_connection_is_known_until_its_socket_is_closed() -> None:
    """It never counts."""
    pending = PendingConnections(1, descriptors=10)
    assert refused(pending, 0.0, descriptor=10) == "too-few-descriptors"
    assert len(pending) == 0
    (connection,) = pending
    pending.remove(connection)
    assert not pending


def test_some_descriptors_are_kept_for_sessions_that_are_alive() -> None:
    """One in sixteen, and at least eight."""
    pending = PendingConnections(LIMIT, descriptors=100)
    add(pending, 0.0, descriptor=99)
    assert refused(pending, 0.0, descriptor=100) == "too-few-descriptors"
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft - descriptors_for_clients() == max(8, soft // 16)
