"""One trial: one contender in one case, from the first connection to the last that has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.figures import Figure, Limit, Sample
from reconnect_harness.bench.testbed import Contender, ContenderFailed, Stage
from reconnect_harness.processes.cores import memory
from reconnect_harness.sut.base import OWN

#: How long a server that has died stays away, in seconds.
AWAY = 0.5

#: How long a contender is left alone before its memory is measured, in seconds.
REST = 0.3

_Figures = Mapping[str, Any]


async def trial(stage: Stage, case: Case, name: str, number: int, seconds: float) -> Sample:
    """Measure one contender in one case, for so many seconds where that is to be chosen; `number` is the round."""
    measure = _TRIALS.get(case.shape, _steady)
    try:
        found = await measure(stage, case, name, seconds)
    except ContenderFailed as failure:
        sample = Sample(case.name, name, number, problem=str(failure).splitlines()[0])
    else:
        figures = {Figure(figure): value for figure, value in found["figures"].items()}
        sample = Sample(case.name, name, number, figures, Limit(found["limit"]) if "limit" in found else None)
    await stage.generate("close")
    await stage.emptied()
    return sample


def _asked(case: Case, contender: Contender) -> dict[str, Any]:
    return {"shape": case.shape, "size": case.size, "count": case.count, "contender": contender.pids}


async def _opened(stage: Stage, case: Case, contender: Contender) -> dict[str, Any]:
    return await stage.generate("open", url=contender.url, **_asked(case, contender))


async def _steady(stage: Stage, case: Case, name: str, seconds: float) -> _Figures:
    contender = stage.contenders[name]
    await _opened(stage, case, contender)
    await stage.reached(case.count)
    return await stage.generate("measure", seconds=seconds, **_asked(case, contender))


async def _fan_out(stage: Stage, case: Case, name: str, seconds: float) -> _Figures:
    # Its clients share one session in `receiver` mode, which outlives them: so it is a process of its own.
    shared = name == OWN
    async with stage.fresh(name, **({"mode": "receiver"} if shared else {})) as contender:
        await _opened(stage, case, contender)
        await stage.reached(1 if shared else case.count)
        found = await stage.generate("measure", seconds=seconds, **_asked(case, contender))
        await stage.generate("close")
        return found


async def _open(stage: Stage, case: Case, name: str, seconds: float) -> _Figures:
    found = await _opened(stage, case, stage.contenders[name])
    found["figures"][Figure.SECONDS] = case.count / found["figures"][Figure.RATE]
    return found


async def _crowd(stage: Stage, case: Case, name: str, seconds: float) -> _Figures:
    async with stage.fresh(name) as contender:
        # Once there and back: what is made once is there, and is not of the sessions.
        await _opened(stage, Case(Shape.OPEN, count=1), contender)
        await asyncio.sleep(REST)
        before = memory(contender.pids)
        await _opened(stage, case, contender)
        await asyncio.sleep(REST)
        after = memory(contender.pids)
        found = await stage.generate("measure", seconds=seconds, **_asked(case, contender))
        await stage.generate("close")
    if contender.pids and before is not None and after is not None:
        found["figures"][Figure.MEMORY] = (after - before) / max(1, case.count - 1)
    return found


async def _recover(stage: Stage, case: Case, name: str, seconds: float) -> _Figures:
    async with stage.fresh(name) as contender:
        await _opened(stage, case, contender)
        async with _without_server(stage) as back:
            await stage.generate("owe", **_asked(case, contender))
        return {"figures": {Figure.SECONDS: (await stage.generate("owed"))["t"] - back["t"]}}


async def _burst(stage: Stage, case: Case, name: str, seconds: float) -> _Figures:
    async with stage.fresh(name) as contender:
        await _opened(stage, case, contender)
        await stage.reached(1)
        await stage.generate("send", **_asked(case, contender))
        return await stage.generate("sent")


async def _drain(stage: Stage, case: Case, name: str, seconds: float) -> _Figures:
    async with stage.fresh(name) as contender:
        await _opened(stage, case, contender)
        await stage.reached(1)
        async with _without_server(stage):
            await stage.generate("send", **_asked(case, contender))
        return await stage.generate("sent")


class _without_server:  # used as a function
    """While this context lasts, and for AWAY seconds, the server is dead. Its value then gets when it came back."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._back: dict[str, float] = {}

    async def __aenter__(self) -> dict[str, float]:
        await self._stage.server("die")
        return self._back

    async def __aexit__(self, *exception: object) -> None:
        await asyncio.sleep(AWAY)
        self._back.update(await self._stage.server("live"))


_TRIALS: Mapping[Shape, Callable[[Stage, Case, str, float], Awaitable[_Figures]]] = {
    Shape.FAN_OUT: _fan_out,
    Shape.OPEN: _open,
    Shape.CROWD: _crowd,
    Shape.RECOVER: _recover,
    Shape.BURST: _burst,
    Shape.DRAIN: _drain,
}
