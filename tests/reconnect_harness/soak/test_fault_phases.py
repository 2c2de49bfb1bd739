"""Phases of faults, drawn from a seed."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from reconnect_harness.faults.fault import Fault
from reconnect_harness.faults.link_faults import LINK_FAULTS
from reconnect_harness.faults.process_faults import PROCESS
from reconnect_harness.history.record import FaultRecord
from reconnect_harness.soak import fault_phases
from reconnect_harness.soak.fault_phases import CLIENT, FAULTS, FaultPhases, phases
from reconnect_harness.toxiproxy.find import find_toxiproxy
from reconnect_harness.toxiproxy.link import ToxiproxyLink


def _drawn(seed: int, count: int) -> list[list[Fault]]:
    return list(itertools.islice(phases(random.Random(seed)), count))


def test_the_same_seed_makes_the_same_phases() -> None:
    """Another seed makes others."""
    assert _drawn(1, 50) == _drawn(1, 50) != _drawn(2, 50)


def test_every_fault_is_drawn() -> None:
    """Within a thousand phases."""
    kinds = {(fault.name, fault.target, fault.stream) for phase in _drawn(3, 1000) for fault in phase}
    assert kinds == {(fault.name, fault.target, fault.stream) for _, fault in FAULTS}


def test_a_process_has_one_fault_at_a_time() -> None:
    """A process that is dead cannot be stopped."""
    for phase in _drawn(4, 1000):
        processes = [fault.target for fault in phase if fault.kind.target_kind is PROCESS]
        assert len(set(processes)) == len(processes)


async def test_a_phase_ends_and_a_quiet_period_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first quiet period is before the first phase; at the end the link is whole."""
    faults: list[FaultRecord] = []
    quiets: list[bool] = []
    third = asyncio.Event()
    with (
        find_toxiproxy("embedded").server() as server,
        ToxiproxyLink(server, CLIENT, "127.0.0.1:9", resets=True) as link,
    ):

        async def in_quiet() -> None:
            quiets.append(made.is_quiet)
            if len(quiets) == 3:
                third.set()

        only = [(1, Fault(LINK_FAULTS["down"], CLIENT, 0.0, (0.0, 0.1)))]
        monkeypatch.setattr(fault_phases, "FAULTS", only)
        monkeypatch.setattr(fault_phases, "BEGIN_SECONDS", 0.1)
        monkeypatch.setattr(fault_phases, "REST_SECONDS", 0.0)
        made = FaultPhases({CLIENT: link}, {}, faults.append, in_quiet, seed=1)
        making = asyncio.create_task(made.run())
        await third.wait()
        making.cancel()
        await asyncio.wait([making])
        assert not link.is_down
    assert quiets == [True, True, True]
    assert len(faults) >= 2
    assert all(fault.took_hold and fault.cleared for fault in faults[:2])
