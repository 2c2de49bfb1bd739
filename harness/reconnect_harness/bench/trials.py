"""One trial: one contender in one case, from the first connection until the last one has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.figures import Bottleneck, ContenderFailed, Figure, TrialSample
from reconnect_harness.bench.testbed import BenchTestbed, Contender
from reconnect_harness.processes.cores import memory
from reconnect_harness.sut.base import OWN

#: How long a server that has died stays away, in seconds.
AWAY = 0.5

#: How long a contender is idle before its memory is measured, in seconds.
REST = 0.3

_Figures = Mapping[str, Any]


async def trial(testbed: BenchTestbed, case: Case, name: str, number: int, seconds: float) -> TrialSample:
    """Measure one contender in one case; `number` is the round, `seconds` how long steady traffic is measured."""
    measure = _TRIALS.get(case.shape, _steady)
    try:
        found = await measure(testbed, case, name, seconds)
    except ContenderFailed as failure:
        sample = TrialSample(case.name, name, number, problem=str(failure).splitlines()[0])
    else:
        figures = {Figure(figure): value for figure, value in found["figures"].items()}
        bottleneck = Bottleneck(found["limit"]) if "limit" in found else None
        sample = TrialSample(case.name, name, number, figures, bottleneck)
    await testbed.generate("close")
    await testbed.emptied()
    return sample


def _asked(case: Case, contender: Contender) -> dict[str, Any]:
    return {"shape": case.shape, "size": case.size, "count": case.count, "contender": contender.pids}


async def _opened(testbed: BenchTestbed, case: Case, contender: Contender) -> dict[str, Any]:
    return await testbed.generate("open", url=contender.url, **_asked(case, contender))


async def _steady(testbed: BenchTestbed, case: Case, name: str, seconds: float) -> _Figures:
    contender = testbed.contenders[name]
    await _opened(testbed, case, contender)
    await testbed.reached(case.count)
    return await testbed.generate("measure", seconds=seconds, **_asked(case, contender))


async def _fan_out(testbed: BenchTestbed, case: Case, name: str, seconds: float) -> _Figures:
    # In `receiver` mode the clients share one session, which outlives them: so the proxy is started for this case.
    shared = name == OWN
    async with testbed.fresh(name, **({"mode": "receiver"} if shared else {})) as contender:
        await _opened(testbed, case, contender)
        await testbed.reached(1 if shared else case.count)
        found = await testbed.generate("measure", seconds=seconds, **_asked(case, contender))
        await testbed.generate("close")
        return found


async def _open(testbed: BenchTestbed, case: Case, name: str, seconds: float) -> _Figures:
    found = await _opened(testbed, case, testbed.contenders[name])
    found["figures"][Figure.SECONDS] = case.count / found["figures"][Figure.RATE]
    return found


async def _crowd(testbed: BenchTestbed, case: Case, name: str, seconds: float) -> _Figures:
    async with testbed.fresh(name) as contender:
        # One session first: memory that the contender needs once does not count for the sessions.
        await _opened(testbed, Case(Shape.OPEN, count=1), contender)
        await asyncio.sleep(REST)
        before = memory(contender.pids)
        await _opened(testbed, case, contender)
        await asyncio.sleep(REST)
        after = memory(contender.pids)
        found = await testbed.generate("measure", seconds=seconds, **_asked(case, contender))
        await testbed.generate("close")
    if contender.pids and before is not None and after is not None:
        found["figures"][Figure.MEMORY] = (after - before) / max(1, case.count - 1)
    return found


async def _at_once(testbed: BenchTestbed, case: Case, name: str, seconds: float) -> _Figures:
    """Send messages at once: to a server that runs (burst), or that is away for AWAY seconds (drain, recover)."""
    async with testbed.fresh(name) as contender:
        await _opened(testbed, case, contender)
        await testbed.reached(case.connections)
        if case.shape is Shape.BURST:
            await testbed.generate("begin", **_asked(case, contender))
            return await testbed.generate("last")
        await testbed.server("die")
        try:
            await testbed.generate("begin", **_asked(case, contender))
            await asyncio.sleep(AWAY)
        finally:
            back = await testbed.server("live")
        found = await testbed.generate("last")
        return found if case.shape is Shape.DRAIN else {"figures": {Figure.SECONDS: found["t"] - back["t"]}}


_TRIALS: Mapping[Shape, Callable[[BenchTestbed, Case, str, float], Awaitable[_Figures]]] = {
    Shape.FAN_OUT: _fan_out,
    Shape.OPEN: _open,
    Shape.CROWD: _crowd,
    Shape.RECOVER: _at_once,
    Shape.BURST: _at_once,
    Shape.DRAIN: _at_once,
}
