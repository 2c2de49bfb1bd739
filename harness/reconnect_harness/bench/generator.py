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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import picows
import uvloop

from reconnect_harness.bench import flows
from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.connections import GeneratorConnections
from reconnect_harness.bench.figures import ContenderFailed, Figure, Interval, UsageAt, latencies
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
        # What `begin` has begun, the contender, and its usage until then.
        self._begun: tuple[flows.UntilLast, Sequence[int], UsageAt]
        self._commands: Mapping[str, Callable[..., Awaitable[Mapping[str, Any]]]] = {
            "open": self.open,
            "measure": self.measure,
            "begin": self.begin,
            "last": self.last,
            "close": self.close,
        }

    async def answer(self, line: str) -> Mapping[str, Any]:
        """Do what a line says. A failure of the contender is an answer; one of the generator is raised."""
        asked = json.loads(line)
        command = self._commands[asked.pop("do")]
        if "shape" in asked:
            asked["case"] = Case(Shape(asked.pop("shape")), asked.pop("size"), asked.pop("count"))
        try:
            return await command(**asked)
        except ContenderFailed as failure:
            return {"problem": str(failure)}
        except (picows.WSError, OSError) as failure:
            return {"problem": f"could not be connected to: {failure}"}
        except TimeoutError:
            return {"problem": "took too long"}

    async def open(self, url: str, case: Case, contender: Sequence[int]) -> Mapping[str, Any]:
        """Open connections until there are as many as the case has."""
        missing = case.connections - len(self._connections.open_ones)
        path = flows.FLOWS[case.shape].path.replace("{grant}", str(flows.grant(case)))
        begin = self._usage(0, contender)
        await self._connections.open(url, missing, path)
        return self._told(Interval(begin, self._usage(missing, contender), self._cores))

    async def measure(self, case: Case, contender: Sequence[int], seconds: float) -> Mapping[str, Any]:
        """Start the traffic of a case, and measure it for so many seconds once it flows."""
        traffic = self._flow(case)
        try:
            await self._connections.unbroken(_flowing(traffic))
            begin = self._usage(traffic.count, contender)
            traffic.found.clear()
            await self._connections.unbroken(asyncio.sleep(seconds))
            interval = Interval(begin, self._usage(traffic.count, contender), self._cores)
        finally:
            traffic.end()
        await self._connections.unbroken(asyncio.wait_for(traffic.finished(), LATE))
        return self._told(interval, traffic.found)

    async def begin(self, case: Case, contender: Sequence[int]) -> Mapping[str, Any]:
        """Send the messages of a case at once."""
        begin = self._usage(0, contender)
        traffic = self._flow(case)
        assert isinstance(traffic, flows.UntilLast)
        self._begun = traffic, contender, begin
        return {}

    async def last(self) -> Mapping[str, Any]:
        """Wait until what was begun has arrived; return when that was, its rate from first to last, its CPU time."""
        traffic, contender, begin = self._begun
        last = await self._connections.unbroken(asyncio.wait_for(traffic.last, BURST_SECONDS))
        told = self._told(Interval(begin, self._usage(traffic.window, contender), self._cores))
        rate = (traffic.window - 1) / max(1e-9, last - traffic.first)
        return {"t": last, "figures": told["figures"] | {Figure.RATE: rate}}

    async def close(self) -> Mapping[str, Any]:
        await self._connections.close()
        return {}

    def _flow(self, case: Case) -> flows.TrafficFlow:
        """Begin the traffic of a case."""
        traffic = self._connections.flow = flows.FLOWS[case.shape](self._connections, case)
        traffic.begin()
        return traffic

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
