"""Counts in shared memory: what one worker writes the others see, and limits are not passed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import pytest

from reconnect_proxy.workers import addresses
from reconnect_proxy.workers.addresses import AddressTable
from reconnect_proxy.workers.shared_counters import SharedCounters, WorkerCounts

KEY = bytes(32)


@pytest.fixture
def memory() -> Iterator[int]:
    """The memory of the counters of three workers."""
    descriptor = SharedCounters.create(3)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def tables() -> Iterator[list[AddressTable]]:
    """The address tables of three workers."""
    descriptor = AddressTable.create(3)
    made = [AddressTable(descriptor, number, 3, KEY) for number in range(3)]
    yield made
    for table in made:
        table.close()
    os.close(descriptor)


def test_what_one_worker_writes_all_can_read(memory: int) -> None:
    """Each has mapped the same memory."""
    one, other = SharedCounters(memory, 3), SharedCounters(memory, 3)
    one.set_sessions(0, 5)
    other.set_sessions(2, 7)
    one.set_gone(1, True)
    assert [other.sessions(number) for number in range(3)] == [5, 0, 7]
    assert (one.all_sessions(), other.all_sessions()) == (12, 12)
    assert [other.gone(number) for number in range(3)] == [False, True, False]
    one.close()
    other.close()


def open_and_end(memory: int, held: int, number: int, start: Any, found: Any) -> None:
    """Open and end one of two sessions without a pause, as a worker does; report how often, and how often too many."""
    wanted, had = SharedCounters(memory, 3), SharedCounters(held, 3)
    start.wait()
    passed = taken = 0
    for _ in range(20_000):
        wanted.set_sessions(number, 1)
        if wanted.all_sessions() <= 2:
            had.set_sessions(number, 1)
            taken += 1
            passed += had.all_sessions() > 2
            had.set_sessions(number, 0)
        wanted.set_sessions(number, 0)
    found.put((passed, taken))


def test_a_limit_is_not_passed_by_processes_that_race_for_it(memory: int) -> None:
    """Three that want one of two sessions each never have three, and do not keep each other out."""
    context = multiprocessing.get_context("fork")
    start, found, held = context.Barrier(3), context.Queue(), SharedCounters.create(3)
    racers = [context.Process(target=open_and_end, args=(memory, held, number, start, found)) for number in range(3)]
    for racer in racers:
        racer.start()
    results = [found.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join()
    os.close(held)
    assert [passed for passed, _ in results] == [0, 0, 0]
    assert sum(taken for _, taken in results) > 1000


def counts_of(tables: list[AddressTable], memory: int, number: int) -> WorkerCounts:
    """Return the counts of one worker."""
    return WorkerCounts(number, SharedCounters(memory, 3), tables[number])


def test_an_address_is_counted_in_all_workers(tables: list[AddressTable], memory: int) -> None:
    """Each sees what the others have written; a session that has ended is not counted any more."""
    workers = [counts_of(tables, memory, number) for number in range(3)]
    for number in (0, 1, 2, 0):
        workers[number].add("192.0.2.1")
    workers[1].add("2001:db8::/64")
    assert [worker.of("192.0.2.1") for worker in workers] == [4, 4, 4]
    assert [worker.of("2001:db8::/64") for worker in workers] == [1, 1, 1]
    assert [worker.total for worker in workers] == [5, 5, 5]
    workers[1].remove("192.0.2.1")
    assert [worker.of("192.0.2.1") for worker in workers] == [3, 3, 3]
    assert [worker.total for worker in workers] == [4, 4, 4]


def test_a_worker_that_has_died_is_not_counted(tables: list[AddressTable], memory: int) -> None:
    """The supervisor clears what it has written."""
    workers = [counts_of(tables, memory, number) for number in range(3)]
    for number in (0, 0, 1, 2):
        workers[number].add("192.0.2.1")
    tables[0].clear(0)
    SharedCounters(memory, 3).set_sessions(0, 0)
    assert [workers[number].of("192.0.2.1") for number in (1, 2)] == [2, 2]
    assert [workers[number].total for number in (1, 2)] == [2, 2]


def test_sessions_without_an_address_are_counted_in_all(memory: int) -> None:
    """There is no limit for each address, so no table."""
    one, other = (WorkerCounts(number, SharedCounters(memory, 3), None) for number in (0, 2))
    one.add(None)
    other.add(None)
    assert (one.total, other.total) == (2, 2)
    one.remove(None)
    assert other.total == 1


def test_the_parts_of_a_limit_add_up(memory: int) -> None:
    """So the metrics of all workers together show the whole limit."""
    counters = SharedCounters(memory, 3)
    assert sum(WorkerCounts(number, counters, None).part(10) for number in range(3)) == 10


def test_slots_are_used_again(tables: list[AddressTable]) -> None:
    """More addresses than there are slots come and go, and no two are confused."""
    for number in range(addresses.SLOTS + 1000):
        name = f"address-{number}"
        tables[0].write(name, 1)
        tables[0].write(name, 0)
    assert tables[1].elsewhere("address-1") == 0
    tables[0].write("address-1", 3)
    assert tables[1].elsewhere("address-1") == 3
    assert tables[2].elsewhere("address-2") == 0


def test_an_address_without_a_slot_is_counted_by_each_worker_itself(
    tables: list[AddressTable], memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its window is full of other addresses."""
    monkeypatch.setattr(addresses, "SLOTS", 1)
    worker = counts_of(tables, memory, 0)
    for number in range(addresses.WINDOW + 5):
        worker.add(f"192.0.2.{number}")
    last = f"192.0.2.{addresses.WINDOW + 4}"
    assert tables[1].elsewhere(last) == 0
    worker.add(last)
    assert worker.of(last) == 2
