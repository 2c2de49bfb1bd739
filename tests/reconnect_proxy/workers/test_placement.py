"""On which worker an id is placed: all workers agree, ids are spread, and a worker makes ids of its own."""

from __future__ import annotations

from collections import Counter

import pytest

from reconnect_proxy.core.wire import is_id, new_id
from reconnect_proxy.workers.placement import Placement, part, share

KEY = bytes(range(32))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_all_workers_agree(count: int) -> None:
    """The place of an id depends on the id and the key only."""
    placements = [Placement(number, count, KEY) for number in range(count)]
    for _ in range(100):
        drawn = new_id()
        assert len({placement.worker_of(drawn) for placement in placements}) == 1


def test_ids_are_spread() -> None:
    """A thousand ids that clients choose one after another are placed on all workers alike."""
    placement = Placement(0, 4, KEY)
    found = Counter(placement.worker_of(f"client-number-{number:08d}") for number in range(1000))
    assert set(found) == {0, 1, 2, 3}
    assert all(150 < times < 350 for times in found.values())


def test_the_place_of_an_id_cannot_be_known_without_the_key() -> None:
    """Ids that are all placed on one worker today are placed on all of them after the next start."""
    today, tomorrow = Placement(0, 4, KEY), Placement(0, 4, bytes(32))
    chosen = [drawn for drawn in (new_id() for _ in range(800)) if today.worker_of(drawn) == 0]
    assert {tomorrow.worker_of(drawn) for drawn in chosen} == {0, 1, 2, 3}


@pytest.mark.parametrize("number", range(3))
def test_an_id_that_a_worker_makes_is_its_own(number: int) -> None:
    """And is like any other: legal, of the usual length, never the same twice."""
    placement = Placement(number, 3, KEY)
    made = {placement.new_id() for _ in range(200)}
    assert len(made) == 200
    assert {placement.worker_of(each) for each in made} == {number}
    assert all(is_id(each) and len(each) == len(new_id()) for each in made)


@pytest.mark.parametrize("whole", [0, 1, 2, 3, 7, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_add_up(whole: int, count: int) -> None:
    """They differ by 1 at most; a share is the same, but at least 1."""
    parts = [part(whole, number, count) for number in range(count)]
    assert sum(parts) == whole
    assert max(parts) - min(parts) <= 1
    assert [share(whole, number, count) for number in range(count)] == [max(1, each) for each in parts]
