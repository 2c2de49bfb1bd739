"""Where a session lives: every worker says the same, ids are spread, and what one makes is its own."""

from __future__ import annotations

from collections import Counter

import pytest

from reconnect_proxy.core.wire import is_id, new_id
from reconnect_proxy.workers.placement import Homes, part, share

KEY = bytes(range(32))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_all_workers_agree(count: int) -> None:
    """The home of an id depends on the id and the key only."""
    crew = [Homes(number, count, KEY) for number in range(count)]
    for _ in range(100):
        drawn = new_id()
        assert len({homes.of(drawn) for homes in crew}) == 1


def test_ids_are_spread() -> None:
    """A thousand ids that clients choose one after the other fall on all workers alike."""
    homes = Homes(0, 4, KEY)
    found = Counter(homes.of(f"client-number-{number:08d}") for number in range(1000))
    assert set(found) == {0, 1, 2, 3}
    assert all(150 < times < 350 for times in found.values())


def test_nobody_knows_where_an_id_falls_without_the_key() -> None:
    """Ids that all fall on one worker today fall on all of them after the next start."""
    today, tomorrow = Homes(0, 4, KEY), Homes(0, 4, bytes(32))
    chosen = [drawn for drawn in (new_id() for _ in range(800)) if today.of(drawn) == 0]
    assert {tomorrow.of(drawn) for drawn in chosen} == {0, 1, 2, 3}


@pytest.mark.parametrize("number", range(3))
def test_an_id_that_a_worker_makes_is_its_own(number: int) -> None:
    """And is as good as any: legal, of the usual length, never the same twice."""
    homes = Homes(number, 3, KEY)
    made = {homes.new_id() for _ in range(200)}
    assert len(made) == 200
    assert {homes.of(each) for each in made} == {number}
    assert all(is_id(each) and len(each) == len(new_id()) for each in made)


@pytest.mark.parametrize("whole", [0, 1, 2, 3, 7, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_add_up(whole: int, count: int) -> None:
    """They are as equal as they can be; a share is the same, but never nothing."""
    parts = [part(whole, number, count) for number in range(count)]
    assert sum(parts) == whole
    assert max(parts) - min(parts) <= 1
    assert [share(whole, number, count) for number in range(count)] == [max(1, each) for each in parts]
