"""The faults of containers as the nemesis does them: each takes hold, ends when it should, and all is healed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from reconnect_harness.containers.container import Container
from reconnect_harness.containers.engine import Engine
from reconnect_harness.faults.nemesis import Nemesis
from reconnect_harness.history.record import FaultRecord
from reconnect_harness.scenario.fault_entry import fault
from tests.reconnect_harness.containers.test_container import ECHO, answers, started, status
from tests.reconnect_harness.toxiproxy.wires import eventually


@pytest.fixture
def container(engine: Engine, harness_image: str) -> Iterator[Container]:
    """A container on a network of its own."""
    said = {"command": [*ECHO, "--listen", "0.0.0.0:9200"], "network": "reconnect-test"}
    yield started(engine, harness_image, 9200, **said)


def nemesis(container: Container, *entries: dict[str, Any]) -> tuple[Nemesis, list[FaultRecord]]:
    """Return a nemesis for the entries, and where its records come."""
    records: list[FaultRecord] = []
    faults = [fault({"container": "boxed", **entry}) for entry in entries]
    return Nemesis(faults, {}, records.append, containers={"boxed": container}), records


async def suffer(container: Container, *entries: dict[str, Any]) -> dict[str, FaultRecord]:
    """Do faults to the container, and return the last record of each."""
    doing, records = nemesis(container, *entries)
    await doing.run()
    return {record.name: record for record in records}


@pytest.mark.parametrize(
    "entry",
    [
        {"do": "pause", "for": 0.2},
        {"do": "disconnect", "for": 0.2},
        {"do": "kill", "for": 0.1},
        {"do": "stop", "for": 0.1},
        {"do": "restart"},
    ],
    ids=lambda entry: entry["do"],
)
async def test_every_fault_takes_hold_and_ends(container: Container, entry: dict[str, Any]) -> None:
    """It lasts from when it took hold, and the container answers afterwards."""
    (done,) = (await suffer(container, {"at": 0, **entry})).values()
    assert done.problem is None
    assert done.took_hold is not None
    assert done.cleared is not None
    assert done.cleared - done.took_hold >= entry.get("for", 0)
    assert answers(container)


async def test_faults_without_an_end_are_ended_by_others(container: Container) -> None:
    """Pause by unpause, disconnect by connect, as separate entries."""
    for first, second in (("pause", "unpause"), ("disconnect", "connect")):
        doing, records = nemesis(container, {"at": 0, "do": first}, {"at": 0.1, "do": second})
        await doing.run()
        assert [(record.name, record.problem) for record in records] == [(first, None), (second, None)]
        assert answers(container)


async def test_pauses_may_overlap(container: Container) -> None:
    """The container continues when the last of them is over."""
    doing, records = nemesis(container, {"at": 0, "do": "pause", "for": 5}, {"at": 0.3, "do": "pause", "for": 0.1})
    running = asyncio.create_task(doing.run())
    assert await asyncio.to_thread(eventually, lambda: bool(records))
    # The shorter pause is over, the longer one is not.
    assert status(container) == "paused"
    await running
    assert [record.problem for record in records] == [None, None]
    assert status(container) == "running"


async def test_a_kill_ends_a_pause(container: Container) -> None:
    """The end of the pause, which comes later, has nothing to undo."""
    done = await suffer(container, {"at": 0, "do": "pause", "for": 4}, {"at": 0.5, "do": "kill", "for": 0.1})
    assert [record.problem for record in done.values()] == [None, None]
    assert answers(container)


async def test_a_fault_that_fails_is_recorded(container: Container) -> None:
    """A fault that the engine refuses did not take hold, and its record says why."""
    done = await suffer(container, {"at": 0, "do": "unpause"}, {"at": 0, "do": "disconnect", "network": "none-such"})
    assert done["unpause"].took_hold is None
    assert "to unpause the container boxed, and refused: " in (done["unpause"].problem or "")
    assert "is on no network called none-such; there is reconnect-test-" in (done["disconnect"].problem or "")


async def test_all_is_healed_when_the_run_is_cancelled(container: Container) -> None:
    """A container that is disconnected and paused is restored before the cancelled run returns."""
    doing, records = nemesis(container, {"at": 0, "do": "disconnect", "for": 60}, {"at": 0.2, "do": "pause", "for": 60})
    running = asyncio.create_task(doing.run())
    assert await asyncio.to_thread(eventually, lambda: status(container) == "paused")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [record.problem for record in records] == [None, None]
    assert all(record.cleared is not None for record in records)
    assert answers(container)
