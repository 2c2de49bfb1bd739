"""Names are looked up apart from each other, and what is found is kept for a while."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from threading import Event

import pytest

from reconnect_proxy.net.resolver import FAILED, FRESH, MOST_LOOKUPS, STALE, STALE_WAIT, NameNotFound, Resolver

ONE, TWO = ("192.0.2.1",), ("192.0.2.2",)
TEMPORARY = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

Outcome = Sequence[str] | Exception


class Names:
    """Stands where DNS is: each name has an outcome, and may hang until it is released. The clock is the test's."""

    def __init__(self, **outcomes: Outcome) -> None:
        self.outcomes = outcomes
        self.asked: list[str] = []
        self.now = 0.0
        self.released = Event()
        self.hanging: set[str] = set()
        self.resolver = Resolver(self.look_up, lambda: self.now)

    def look_up(self, host: str) -> Sequence[str]:
        """Answer as the test says, in the thread of the lookup."""
        self.asked.append(host)
        if host in self.hanging:
            self.released.wait()
        outcome = self.outcomes[host]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def outcome(self, host: str) -> Outcome:
        """Return what a dial gets."""
        try:
            return await self.resolver.addresses(host)
        except NameNotFound as error:
            return error


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does; bounded by the test's timeout."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "fe80::1%lo"])
async def test_an_address_is_not_looked_up(address: str) -> None:
    """It is its own."""
    names = Names()
    assert await names.outcome(address) == (address,)
    assert names.asked == []


async def test_dials_share_a_lookup_and_its_outcome() -> None:
    """A thousand sessions that redial at once ask once."""
    names = Names(a=["192.0.2.1", "192.0.2.2", "192.0.2.1"])
    found = await asyncio.gather(*(names.outcome("a") for _ in range(1000)))
    assert found == [("192.0.2.1", "192.0.2.2")] * 1000
    names.now = FRESH - 0.1
    await names.outcome("a")
    assert names.asked == ["a"]


async def test_an_old_outcome_is_replaced() -> None:
    """A server that has moved is found again."""
    names = Names(a=ONE)
    assert await names.outcome("a") == ONE
    names.outcomes["a"], names.now = TWO, FRESH
    assert await names.outcome("a") == TWO
    assert names.asked == ["a", "a"]


@pytest.mark.parametrize("failure", [TEMPORARY, UNKNOWN, OSError("out of order"), UnicodeError("label empty"), ()])
async def test_a_failure_is_kept_for_a_shorter_time(failure: Outcome) -> None:
    """The error names the host and the reason. A name that appears is found within a second."""
    names = Names(a=failure)
    for _ in range(2):
        error = await names.outcome("a")
        assert isinstance(error, NameNotFound)
        assert str(error).startswith("no address of 'a' can be found: ")
    assert names.asked == ["a"]
    names.outcomes["a"], names.now = ONE, FAILED
    assert await names.outcome("a") == ONE


async def test_a_lookup_that_hangs_delays_no_other_name() -> None:
    """However many hang; event loops have four threads or so for all names together."""
    hanging = [f"hanging-{number}" for number in range(20)]
    names = Names(**dict.fromkeys(hanging, ONE), other=TWO)
    names.hanging.update(hanging)
    waiting = [asyncio.create_task(names.outcome(host)) for host in hanging]
    try:
        await until(lambda: len(names.asked) == len(hanging))
        assert await names.outcome("other") == TWO
        assert not any(task.done() for task in waiting)
    finally:
        names.released.set()
    assert await asyncio.gather(*waiting) == [ONE] * len(hanging)


async def test_a_dial_that_is_given_up_leaves_the_lookup_to_the_others() -> None:
    """It ends for itself only."""
    names = Names(a=ONE)
    names.hanging.add("a")
    first, second = (asyncio.create_task(names.outcome("a")) for _ in range(2))
    await until(lambda: names.asked == ["a"])
    first.cancel()
    names.released.set()
    assert await second == ONE
    assert first.cancelled()


async def test_there_is_a_limit_of_lookups() -> None:
    """One more fails at once, and is found when the others have ended."""
    hanging = [f"hanging-{number}" for number in range(MOST_LOOKUPS)]
    names = Names(**dict.fromkeys(hanging, ONE), other=TWO)
    names.hanging.update(hanging)
    waiting = [asyncio.create_task(names.outcome(host)) for host in hanging]
    try:
        await until(lambda: len(names.asked) == MOST_LOOKUPS)
        error = await names.outcome("other")
        assert isinstance(error, NameNotFound) and error.reason == f"{MOST_LOOKUPS} other names are being looked up"
    finally:
        names.released.set()
    await asyncio.gather(*waiting)
    names.now = FAILED
    assert await names.outcome("other") == TWO


@pytest.mark.parametrize(
    ("age", "failure", "usable"),
    [(FRESH, TEMPORARY, True), (STALE - 0.1, TEMPORARY, True), (STALE, TEMPORARY, False), (FRESH, UNKNOWN, False)],
)
async def test_old_addresses_serve_while_dns_fails(age: float, failure: Exception, usable: bool) -> None:
    """But not for ever, and not for a name that DNS says is gone."""
    names = Names(a=ONE)
    await names.outcome("a")
    names.outcomes["a"], names.now = failure, age
    for _ in range(2):
        found = await names.outcome("a")
        assert found == ONE if usable else isinstance(found, NameNotFound)


async def test_old_addresses_serve_while_dns_hangs() -> None:
    """The first dial waits a second, later ones not at all; one lookup goes on, and its outcome counts."""
    names = Names(a=ONE)
    await names.outcome("a")
    names.outcomes["a"], names.now = TWO, FRESH
    names.hanging.add("a")
    try:
        first = asyncio.create_task(names.outcome("a"))
        await until(lambda: names.asked == ["a", "a"])
        names.now += STALE_WAIT
        assert await names.outcome("a") == ONE
        assert not first.done()
        assert await first == ONE
    finally:
        names.released.set()
    while await names.outcome("a") != TWO:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    assert names.asked == ["a", "a"]
