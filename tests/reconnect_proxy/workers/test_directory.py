"""Who knows where a session lives whose id an upstream gave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from reconnect_proxy.workers import directory as module
from reconnect_proxy.workers.directory import Directory
from reconnect_proxy.workers.placement import Homes

KEY = bytes(32)


class Crew:
    """Three workers whose letters arrive when the loop has its next turn; some of them may be stuck."""

    def __init__(self) -> None:
        self.stuck: set[int] = set()
        self.sessions: list[set[str]] = [set(), set(), set()]
        self.workers = [self.made(number) for number in range(3)]

    def made(self, number: int) -> Directory:
        """Return a directory that knows of nothing."""
        return Directory(Homes(number, 3, KEY), 3, self._send, self.sessions[number].__contains__)

    def _send(self, to: int, facts: dict[str, Any], data: bytes, then: Callable[[bool], None]) -> None:
        if to not in self.stuck:
            asyncio.get_running_loop().call_soon(lambda: self.workers[to].take(facts, data))
        then(True)

    async def claim(self, number: int, session_id: str) -> bool:
        """Have a worker claim an id, and return what comes of it."""
        decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.workers[number].claim(session_id, decided.set_result)
        async with asyncio.timeout(10):
            return await decided

    async def settled(self) -> None:
        """Wait until letters, and letters because of letters, have arrived."""
        for _ in range(5):
            await asyncio.sleep(0)


def falling_on(home: int, count: int = 1) -> list[str]:
    """Return ids that fall on a worker."""
    homes = Homes(0, 3, KEY)
    ids = (f"an-id-of-an-upstream-{number}" for number in range(10_000))
    found = [each for each in ids if homes.of(each) == home]
    return found[:count]


async def test_a_home_knows_whose_ids_they_are() -> None:
    """From when the claim is granted until the session has ended."""
    crew = Crew()
    (session_id,) = falling_on(2)
    assert await crew.claim(0, session_id)
    assert crew.workers[2].elsewhere == {session_id: 0}
    crew.workers[0].give_up(session_id)
    await crew.settled()
    assert crew.workers[2].elsewhere == {}
    assert await crew.claim(1, session_id)


async def test_an_id_is_granted_once() -> None:
    """Not to another worker, not to the same again, and not if the home has a session of its own under it."""
    crew = Crew()
    first, second = falling_on(2, 2)
    assert await crew.claim(0, first)
    assert not await crew.claim(1, first)
    assert not await crew.claim(0, first)
    crew.sessions[2].add(second)
    assert not await crew.claim(0, second)
    # Who was refused has taken nothing from who was not.
    await crew.settled()
    assert crew.workers[2].elsewhere[first] == 0


async def test_a_home_that_does_not_answer_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session gets another id in time; what the home takes note of later it is told to forget."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    crew = Crew()
    (session_id,) = falling_on(2)
    late: list[tuple[int, dict[str, Any]]] = []
    stuck = Directory(
        Homes(0, 3, KEY), 3, lambda to, facts, data, then: late.append((to, facts)), set[str]().__contains__
    )
    decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    stuck.claim(session_id, decided.set_result)
    assert not await decided
    for to, facts in late:
        crew.workers[to].take(facts, b"")
    assert crew.workers[2].elsewhere == {}
    stuck.take({"kind": "decided", "claim": 1, "granted": True, "by": 2}, b"")
    stuck.give_up(session_id)
    assert [facts["kind"] for _, facts in late] == ["claim", "gone"]


async def test_a_letter_that_does_not_leave_is_no_grant() -> None:
    """There was no room for it: at once the session gets another id."""
    lost = Directory(Homes(0, 3, KEY), 3, lambda to, facts, data, then: then(False), set[str]().__contains__)
    decided: list[bool] = []
    lost.claim(falling_on(2)[0], decided.append)
    assert decided == [False]


async def test_a_home_that_is_made_anew_learns() -> None:
    """What of the others' sessions falls on it; nobody else is any wiser."""
    crew = Crew()
    ids = falling_on(2, 50)
    for place, session_id in enumerate(ids):
        assert await crew.claim(place % 2, session_id)
    assert await crew.claim(0, falling_on(1)[0])
    crew.workers[2] = crew.made(2)
    await crew.workers[2].learn()
    assert crew.workers[2].elsewhere == {session_id: place % 2 for place, session_id in enumerate(ids)}


async def test_who_is_stuck_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others' sessions are known."""
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    crew = Crew()
    (session_id,) = falling_on(2)
    assert await crew.claim(0, session_id)
    crew.stuck.add(1)
    crew.workers[2] = crew.made(2)
    await crew.workers[2].learn()
    assert crew.workers[2].elsewhere == {session_id: 0}


async def test_the_dead_have_no_sessions() -> None:
    """What lived in a worker that has died is free."""
    crew = Crew()
    first, second = falling_on(2, 2)
    assert await crew.claim(0, first)
    assert await crew.claim(1, second)
    crew.workers[2].forget(0)
    assert crew.workers[2].elsewhere == {second: 1}
    assert await crew.claim(1, first)
