"""The load generator, a process of its own, made with picows on uvloop so that it is not the bottleneck.

    python -m reconnect_harness.bench.generator '{"server": "ws://HOST:PORT", "pids": […]}'

It reads commands, one JSON line each, `{"do": …}`, and answers each with one line: what `Generator` returns for it, or
the `problem`. It reads the CPU times itself, at the moments at which it counts, so that both belong together. `pids`
are the processes of the server.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import picows
import uvloop

from reconnect_harness.bench import flows
from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.connections import GeneratorConnections
from reconnect_harness.bench.figures import ContenderFailed, Figure, Interval, UsageAt, latencies
from reconnect_harness.bench.open_loop import called_on
from reconnect_harness.processes import actor
from reconnect_harness.processes.cores import cpu_seconds

#: How long traffic flows before it is measured, in seconds.
WARM_UP = 0.1

#: How long the last echoes of a paced case, and a burst, may take, in seconds.
LATE = 10.0
BURST_SECONDS = 30.0


class Generator:
    """The commands of the generator. `contender` has the ids of the processes whose CPU time is measured."""

    def __init__(self, server: str, pids: Sequence[int], cores: int) -> None:
        self._connections = GeneratorConnections(server)
        self._server_pids = pids
        self._cores = cores
        self._owed: flows.Owed | None = None
        self._burst: tuple[flows.Burst, Sequence[int], UsageAt] | None = None

    async def answer(self, line: str) -> Mapping[str, Any]:
        """Do what a line says. A failure of the contender is an answer; one of the generator is raised."""
        asked = json.loads(line)
        try:
            return await self._do(asked) or {}
        except ContenderFailed as failure:
            return {"problem": str(failure)}
        except (picows.WSError, OSError) as failure:
            return {"problem": f"could not be connected to: {failure}"}
        except TimeoutError:
            return {"problem": "took too long"}

    async def _do(self, asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
        case = Case(Shape(asked["shape"]), asked["size"], asked["count"]) if "shape" in asked else None
        match asked["do"], case:
            case "open", Case():
                return await self.open(asked["url"], case, asked["contender"])
            case "measure", Case():
                return await self.measure(case, asked["contender"], asked["seconds"])
            case "owe", Case():
                self._owe(case)
            case "owed", None:
                return await self.owed()
            case "send", Case():
                self._send(case, asked["contender"])
            case "sent", None:
                return await self.sent()
            case "close", None:
                await self._connections.close()
            case unknown:
                raise ValueError(f"there is no command {unknown}")
        return None

    async def open(self, url: str, case: Case, contender: Sequence[int]) -> Mapping[str, Any]:
        """Open connections until there are as many as the case has."""
        kind = flows.STEADY.get(case.shape, flows.TrafficFlow)
        if case.shape in (Shape.BURST, Shape.DRAIN):
            kind, missing = flows.Burst, 1
        else:
            missing = case.count - len(self._connections.open_ones)
        path = kind.path.replace("{grant}", str(flows.grant(case)))
        begin = self._usage(0, contender)
        await self._connections.open(url, missing, path)
        return self._told(Interval(begin, self._usage(missing, contender), self._cores))

    async def measure(self, case: Case, contender: Sequence[int], seconds: float) -> Mapping[str, Any]:
        """Start the traffic of a case, and measure it for so many seconds."""
        if case.shape is Shape.PACED:
            return await self._pace(case, contender, seconds)
        traffic = flows.STEADY[case.shape](self._connections, case)
        self._connections.flow = traffic
        traffic.begin()
        try:
            await self._connections.unbroken(_flowing(traffic))
            interval = await self._measure(traffic, contender, seconds)
        finally:
            traffic.end()
        return self._told(interval, traffic.found)

    async def _pace(self, case: Case, contender: Sequence[int], seconds: float) -> Mapping[str, Any]:
        traffic = flows.Paced(self._connections, case)
        self._connections.flow = traffic
        try:
            with called_on(traffic.schedule, traffic.send_due):
                await self._connections.unbroken(asyncio.sleep(WARM_UP))
                interval = await self._measure(traffic, contender, seconds)
        finally:
            traffic.end()
        # The slowest echoes come last, and matter most.
        await self._connections.unbroken(asyncio.wait_for(traffic.idle.wait(), LATE))
        return self._told(interval, traffic.found)

    async def _measure(self, traffic: flows.TrafficFlow, contender: Sequence[int], seconds: float) -> Interval:
        """Measure traffic that flows already."""
        begin = self._usage(traffic.count, contender)
        traffic.found.clear()
        await self._connections.unbroken(asyncio.sleep(seconds))
        return Interval(begin, self._usage(traffic.count, contender), self._cores)

    def _owe(self, case: Case) -> None:
        self._owed = flows.Owed(self._connections, case)
        self._connections.flow = self._owed
        self._owed.begin()

    async def owed(self) -> Mapping[str, Any]:
        """Wait until each session has its echo; return when that was, on the clock that all processes share."""
        assert self._owed is not None
        last = await self._connections.unbroken(asyncio.wait_for(asyncio.shield(self._owed.last), BURST_SECONDS))
        return {"t": last}

    def _send(self, case: Case, contender: Sequence[int]) -> None:
        traffic = flows.Burst(self._connections, case)
        self._burst = traffic, contender, self._usage(0, contender)
        self._connections.flow = traffic
        traffic.begin()

    async def sent(self) -> Mapping[str, Any]:
        """Wait until a burst has arrived; return its rate from its first message to its last, and its CPU time."""
        assert self._burst is not None
        traffic, contender, begin = self._burst
        last = await self._connections.unbroken(asyncio.wait_for(asyncio.shield(traffic.last), BURST_SECONDS))
        told = self._told(Interval(begin, self._usage(traffic.window, contender), self._cores))
        return {"figures": told["figures"] | {Figure.RATE: (traffic.window - 1) / max(1e-9, last - traffic.first)}}

    def _usage(self, count: int, contender: Sequence[int]) -> UsageAt:
        try:
            cpu = cpu_seconds(contender)
        except ProcessLookupError as gone:
            raise ContenderFailed(f"has lost a process: {gone}") from None
        return UsageAt(time.monotonic(), count, cpu, [cpu_seconds([os.getpid()]), cpu_seconds(self._server_pids)])

    def _told(self, interval: Interval, found: Sequence[float] = ()) -> Mapping[str, Any]:
        figures = interval.figures
        if not figures:
            raise ContenderFailed(f"has let nothing through for {interval.seconds:.1f} s")
        if not interval.begin.contender and not interval.end.contender:
            del figures[Figure.CPU]
        return {"figures": figures | latencies(found), "limit": interval.bottleneck}


async def _flowing(traffic: flows.TrafficFlow) -> None:
    """Wait for the warm-up, and until something was done."""
    deadline = time.monotonic() + LATE
    await asyncio.sleep(WARM_UP)
    # Polling costs less than an event that would be set with each message.
    while not traffic.count and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(WARM_UP)


async def play(spec: dict[str, Any]) -> None:
    """Generate load until told to stop."""
    generator = Generator(spec["server"], spec["pids"], spec["cores"])
    # A collection would add to the latency of some message, and there is nothing to collect.
    gc.disable()
    actor.say({"pid": os.getpid()})
    await actor.converse(generator.answer)


if __name__ == "__main__":
    actor.run(play, uvloop.new_event_loop)
