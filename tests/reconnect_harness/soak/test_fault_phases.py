"""Spells of faults, drawn from a seed."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from reconnect_harness.faults.fault import Fault
from reconnect_harness.faults.link_faults import LINK_FAULTS
from reconnect_harness.faults.process_faults import PROCESS
from reconnect_harness.history.record import FaultRecord
from reconnect_harness.soak import fault_phases as weather
from reconnect_harness.soak.fault_phases import CLIENT, FAULTS, Weather, spells
from reconnect_harness.toxiproxy.find import find_toxiproxy
from reconnect_harness.toxiproxy.link import ToxiproxyLink


def _drawn(seed: int, count: int) -> list[list[Fault]]:
    return list(itertools.islice(spells(random.Random(seed)), count))


def test_the_same_seed_makes_the_same_weather() -> None:
    """And another one another."""
    assert _drawn(1, 50) == _drawn(1, 50) != _drawn(2, 50)


def test_everything_happens_in_time() -> None:
    """Each fault that there is, within a thousand spells."""
    kinds = {(fault.name, fault.target, fault.stream) for spell in _drawn(3, 1000) for fault in spell}
    assert kinds == {(fault.name, fault.target, fault.stream) for _, fault in FAULTS}


def test_who_is_dead_is_not_killed() -> None:
    """A process has one fault in a spell."""
    for spell in _drawn(4, 1000):
        processes = [fault.target for fault in spell if fault.kind.target_kind is PROCESS]
        assert len(set(processes)) == len(processes)


async def test_a_spell_ends_and_a_calm_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first calm is before the first spell; in the end the link is whole."""
    faults: list[FaultRecord] = []
    calms: list[bool] = []
    third = asyncio.Event()
    with (
        find_toxiproxy("embedded").server() as server,
        ToxiproxyLink(server, CLIENT, "127.0.0.1:9", resets=True) as link,
    ):

        async def calm() -> None:
            calms.append(made.fair)
            if len(calms) == 3:
                third.set()

        only = [(1, Fault(LINK_FAULTS["down"], CLIENT, 0.0, (0.0, 0.1)))]
        monkeypatch.setattr(weather, "FAULTS", only)
        monkeypatch.setattr(weather, "BEGIN_SECONDS", 0.1)
        monkeypatch.setattr(weather, "REST_SECONDS", 0.0)
        made = Weather({CLIENT: link}, {}, faults.append, calm, seed=1)
        making = asyncio.create_task(made.run())
        await third.wait()
        making.cancel()
        await asyncio.wait([making])
        assert not link.is_down
    assert calms == [True, True, True]
    assert len(faults) >= 2
    assert all(fault.took_hold and fault.cleared for fault in faults[:2])
