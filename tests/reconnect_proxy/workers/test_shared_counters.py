"""Numbers in shared memory: what one process writes the others see, and limits are not passed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import pytest

from reconnect_proxy.core.wire import Refusal
from reconnect_proxy.workers import addresses
from reconnect_proxy.workers.addresses import AddressTable, SharedAddresses
from reconnect_proxy.workers.shared_counters import Tallies

KEY = bytes(32)


@pytest.fixture
def memory() -> Iterator[int]:
    """Tallies of three workers."""
    descriptor = Tallies.create(3)
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


def test_what_one_writes_all_see(memory: int) -> None:
    """Through the same memory, mapped by each."""
    one, other = Tallies(memory, 3), Tallies(memory, 3)
    one.set_sessions(0, 5)
    other.set_sessions(2, 7)
    one.set_gone(1, True)
    assert [other.sessions(number) for number in range(3)] == [5, 0, 7]
    assert (one.all_sessions(), other.all_sessions()) == (12, 12)
    assert [other.gone(number) for number in range(3)] == [False, True, False]
    one.close()
    other.close()


def take_places(memory: int, held: int, number: int, start: Any, found: Any) -> None:
    """Take and leave one of two places as fast as can be, as a worker does; tell how often, and how often in excess."""
    wanted, had = Tallies(memory, 3), Tallies(held, 3)
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
    """Three that want one of two places each, without a pause, never have three, and do not keep each other out."""
    context = multiprocessing.get_context("fork")
    start, found, held = context.Barrier(3), context.Queue(), Tallies.create(3)
    racers = [context.Process(target=take_places, args=(memory, held, number, start, found)) for number in range(3)]
    for racer in racers:
        racer.start()
    results = [found.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join()
    os.close(held)
    assert [passed for passed, _ in results] == [0, 0, 0]
    assert sum(taken for _, taken in results) > 1000


def test_an_address_is_counted_wherever_its_sessions_are(tables: list[AddressTable]) -> None:
    """Each worker sees what the others have; who leaves is forgotten, and its slot free."""
    crew = [SharedAddresses(4, table) for table in tables]

    def open_session(number: int, name: str) -> None:
        try:
            crew[number].check(name)
            crew[number].add(name)
        finally:
            crew[number].settle()

    for number in (0, 1, 2, 0):
        open_session(number, "192.0.2.1")
    for number in range(3):
        with pytest.raises(Refusal) as refused:
            open_session(number, "192.0.2.1")
        assert refused.value.error == "too-many-sessions-of-address"
        open_session(number, "2001:db8::/64")
    crew[1].remove("192.0.2.1")
    open_session(2, "192.0.2.1")
    with pytest.raises(Refusal):
        open_session(1, "192.0.2.1")
    tables[0].clear(0)
    assert crew[1].count("192.0.2.1") + tables[1].elsewhere("192.0.2.1") == 2


def test_a_session_that_was_not_made_does_not_count(tables: list[AddressTable]) -> None:
    """A hook refused it after the address had been checked."""
    mine, other = SharedAddresses(1, tables[0]), SharedAddresses(1, tables[1])
    mine.check("192.0.2.1")
    with pytest.raises(Refusal):
        other.check("192.0.2.1")
    other.settle()
    mine.settle()
    other.check("192.0.2.1")
    other.settle()


def test_slots_are_used_again(tables: list[AddressTable]) -> None:
    """More addresses than there are slots come and go, and none is taken for another."""
    for number in range(addresses.SLOTS + 1000):
        name = f"address-{number}"
        tables[0].write(name, 1)
        tables[0].write(name, 0)
    assert tables[1].elsewhere("address-1") == 0
    tables[0].write("address-1", 3)
    assert tables[1].elsewhere("address-1") == 3
    assert tables[2].elsewhere("address-2") == 0


def test_a_full_window_costs_no_more_than_being_counted_apart(
    tables: list[AddressTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that finds no slot is still counted where its sessions are."""
    monkeypatch.setattr(addresses, "SLOTS", 1)
    crowd = SharedAddresses(1, tables[0])
    for number in range(addresses.WINDOW + 5):
        crowd.check(f"192.0.2.{number}")
        crowd.add(f"192.0.2.{number}")
        crowd.settle()
    last = f"192.0.2.{addresses.WINDOW + 4}"
    assert tables[1].elsewhere(last) == 0
    with pytest.raises(Refusal):
        crowd.check(last)
