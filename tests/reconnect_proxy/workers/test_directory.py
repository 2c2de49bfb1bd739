"""How workers agree in which of them a session lives whose id an upstream gave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from reconnect_proxy.workers import directory as module
from reconnect_proxy.workers.directory import Directory
from reconnect_proxy.workers.placement import Placement

KEY = bytes(32)


class Network:
    """Three workers whose messages arrive when the loop has its next turn; those in `stuck` get none."""

    def __init__(self) -> None:
        self.stuck: set[int] = set()
        self.sessions: list[set[str]] = [set(), set(), set()]
        self.workers = [self.make(number) for number in range(3)]

    def make(self, number: int) -> Directory:
        """Return a directory without ids."""
        return Directory(Placement(number, 3, KEY), self._send, self.sessions[number].__contains__)

    def _send(self, to: int, facts: dict[str, Any], data: bytes, then: Callable[[bool], None]) -> None:
        if to not in self.stuck:
            asyncio.get_running_loop().call_soon(lambda: self.workers[to].take(facts, data))
        then(True)

    async def claim(self, number: int, session_id: str) -> bool:
        """Let a worker claim an id, and return the decision."""
        decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.workers[number].claim(session_id, decided.set_result)
        async with asyncio.timeout(10):
            return await decided

    async def settled(self) -> None:
        """Wait until all messages and their answers have arrived."""
        for _ in range(5):
            await asyncio.sleep(0)


def placed_on(worker: int, count: int = 1) -> list[str]:
    """Return ids that are placed on a worker."""
    placement = Placement(0, 3, KEY)
    ids = (f"an-id-of-an-upstream-{number}" for number in range(10_000))
    found = [each for each in ids if placement.worker_of(each) == worker]
    return found[:count]


async def test_the_worker_that_an_id_is_placed_on_knows_where_its_session_lives() -> None:
    """From when the claim is granted until the session has ended."""
    network = Network()
    (session_id,) = placed_on(2)
    assert await network.claim(0, session_id)
    assert network.workers[2].elsewhere == {session_id: 0}
    assert [worker.worker_of(session_id) for worker in network.workers] == [2, 2, 0]
    network.workers[0].release(session_id)
    await network.settled()
    assert network.workers[2].elsewhere == {}
    assert await network.claim(1, session_id)


async def test_an_id_is_granted_once() -> None:
    """Not to another worker, not to the same again, and not if a session of the worker that it is placed on has it."""
    network = Network()
    first, second = placed_on(2, 2)
    assert await network.claim(0, first)
    assert not await network.claim(1, first)
    assert not await network.claim(0, first)
    assert not await network.claim(2, first)
    network.sessions[2].add(second)
    assert not await network.claim(0, second)
    # A claim that was not granted has changed nothing.
    await network.settled()
    assert network.workers[2].elsewhere[first] == 0


async def test_an_id_that_is_placed_on_its_own_worker_is_granted_at_once() -> None:
    """No other worker has to be asked."""
    network = Network()
    decided: list[bool] = []
    network.workers[2].claim(placed_on(2)[0], decided.append)
    assert decided == [True]


async def test_a_claim_without_an_answer_in_time_is_not_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session gets another id. The other worker is told to release the id, for when it answers later."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    network = Network()
    (session_id,) = placed_on(2)
    late: list[tuple[int, dict[str, Any]]] = []
    claiming = Directory(
        Placement(0, 3, KEY), lambda to, facts, data, then: late.append((to, facts)), set[str]().__contains__
    )
    decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    claiming.claim(session_id, decided.set_result)
    assert not await decided
    for to, facts in late:
        network.workers[to].take(facts, b"")
    assert network.workers[2].elsewhere == {}
    claiming.take({"kind": "decided", "claim": 1, "granted": True, "by": 2}, b"")
    claiming.release(session_id)
    assert [facts["kind"] for _, facts in late] == ["claim", "released"]


async def test_a_claim_that_cannot_be_sent_is_not_granted() -> None:
    """There was no room for the message: the session gets another id at once."""
    lost = Directory(Placement(0, 3, KEY), lambda to, facts, data, then: then(False), set[str]().__contains__)
    decided: list[bool] = []
    lost.claim(placed_on(2)[0], decided.append)
    assert decided == [False]


async def test_a_replacement_learns_which_ids_are_placed_on_it() -> None:
    """From both others, and only those ids."""
    network = Network()
    ids = placed_on(2, 50)
    for index, session_id in enumerate(ids):
        assert await network.claim(index % 2, session_id)
    assert await network.claim(0, placed_on(1)[0])
    network.workers[2] = network.make(2)
    await network.workers[2].learn()
    assert network.workers[2].elsewhere == {session_id: index % 2 for index, session_id in enumerate(ids)}


async def test_a_replacement_does_not_wait_for_a_worker_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows the ids of the other one."""
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    network = Network()
    (session_id,) = placed_on(2)
    assert await network.claim(0, session_id)
    network.stuck.add(1)
    network.workers[2] = network.make(2)
    await network.workers[2].learn()
    assert network.workers[2].elsewhere == {session_id: 0}


async def test_the_ids_of_a_worker_that_has_died_are_free() -> None:
    """Those of other workers are kept."""
    network = Network()
    first, second = placed_on(2, 2)
    assert await network.claim(0, first)
    assert await network.claim(1, second)
    network.workers[2].forget(0)
    assert network.workers[2].elsewhere == {second: 1}
    assert await network.claim(1, first)
