"""One run of a scenario: build its topology, start the traffic, do the faults, wait for the rest, judge.

    build ─ go ─ faults, traffic ─ quiet ─ settle ─ close ─ tear down ─ judge
                                   upstreams  nothing new
                                   push no    arrives, or
                                   more       all has arrived

On every path, everything that was started is stopped.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reconnect_harness.checks.checkers import RESOURCES, judge
from reconnect_harness.checks.judgement import Expectation
from reconnect_harness.faults.container_faults import CONTAINER
from reconnect_harness.faults.nemesis import Nemesis
from reconnect_harness.history.audience import Audience
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import FaultRecord
from reconnect_harness.processes.child import ProcessFailed
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.scenario_topology import TopologySpec, build
from reconnect_harness.run.topology import Counts, Topology
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.sut.base import SystemUnderTest

#: How often the ends are asked for their progress, in seconds.
POLL_SECONDS = 0.1

#: How long to go on when everything has arrived, for messages that should not arrive, in seconds.
LINGER_SECONDS = 0.3

#: How long nothing may arrive before the run is over, where each message goes to several clients, in seconds. How many
#: arrivals there should be depends on which clients were connected, so they cannot be counted.
STILL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ScenarioRunner(TopologySpec):
    """Builds the topology of a scenario, and runs it. `progress` is called with lines about the run."""

    progress: Callable[[str], None] = lambda line: None

    async def run(self) -> RunResult:
        """Run the scenario and judge it.

        Raises:
            ScenarioError: it cannot be run with this system under test.
            ProcessFailed: a process or container did not start, or died of itself; or a fault could not be healed.
            ToxiproxyError: a link could not be made.
            EngineUnavailable: there is no engine, or no image.

        """
        check_system(self.system, self.scenario)
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self._files():
            path.unlink(missing_ok=True)
        faults: list[FaultRecord] = []
        async with build(self) as topology:
            start = await topology.go()
            async with topology.measured():
                await self._do_faults(topology, start, faults)
                await topology.quiet()
                await self._settle(topology)
            seconds = time.monotonic() - start
            ends = topology.ends()
            programs = topology.programs_ended()
            containers_ended = await topology.containers_ended()
            await topology.close()
            if topology.watch is not None:
                await topology.watch.after(self.scenario.settle)
        history = History.merge(
            [path for path in self._files() if path.suffix == ".jsonl" and path.stem != "history"],
            faults,
            start=start,
            echoed=self._echoes,
            shared=self.scenario.shared,
            audience=self._audience if self._echoes else None,
        )
        if topology.watch is not None:
            history.footprints += topology.watch.found
        judgement = judge(history, self._expected(topology), self._directions())
        for doubt in (*self._doubts(ends), *self._ended(containers_ended), *programs, *self._not_done(history)):
            judgement = judgement.doubted(doubt)
        toxiproxy = self.toxiproxy.describe() if self.toxiproxy and self.scenario.links else None
        system = " before ".join([self.system.describe()] * len(self.scenario.proxies))
        return RunResult(self.scenario, self.seed, system, toxiproxy, self.folder, history, judgement, seconds)

    @property
    def _echoes(self) -> bool:
        """Whether the server behind the system under test is not ours: what the clients send has to come back."""
        return self.system.echoes or self.scenario.upstream.is_foreign

    @property
    def _audience(self) -> Audience:
        """Who has to receive what a client sends to a server that is not ours: without an adapter its sender."""
        return self.scenario.audience or Audience()

    def _expected(self, topology: Topology) -> list[Expectation]:
        """Return what is expected of the run: nothing of the resources of a system that has no process of the run."""
        if any(system.process is not None for system in topology.servers.systems.values()):
            return self.scenario.expect
        return [each for each in self.scenario.expect if each.check not in RESOURCES]

    def _directions(self) -> list[Direction]:
        return [Direction.U2C] if self._echoes else self.scenario.directions

    def _files(self) -> list[Path]:
        """Return the files that a run leaves, and may overwrite; the records of its processes first."""
        containers = self.scenario.container_specs
        foreign = self.scenario.upstream.is_foreign
        actors = [*([] if foreign else self.scenario.upstream_names), "clients"]
        programs = self.scenario.upstream_names if self.scenario.upstream.is_program else []
        own = [self.folder / name if self.scenario.chain else self.folder for name in self.scenario.proxy_names]
        return [
            *(self.folder / f"{name}.{kind}" for kind in ("jsonl", "log") for name in actors),
            *(self.folder / f"{name}.log" for name in (*containers, *programs)),
            *(folder / "sut.log" for folder in own),
            *(self.folder / name for name in ("history.jsonl", "report.html", "results.json")),
        ]

    def _doubts(self, ends: Mapping[str, int | None]) -> Iterator[str]:
        """Yield the systems under test that have ended and should not have, or the other way round."""
        for name, status in ends.items():
            done = {fault.name for fault in self.scenario.faults if fault.target == name}
            if not done & {"kill", "terminate"} and status is not None:
                yield f"the system under test has ended, with status {status}"
            elif "terminate" in done and "kill" not in done and status != 0:
                ended = "has not ended" if status is None else f"ended with status {status}, not 0"
                yield f"the system under test was told to end, and {ended}"

    def _ended(self, containers: Mapping[str, int]) -> Iterator[str]:
        """Yield the containers that have ended and should not have."""
        for name, status in containers.items():
            done = {
                fault.name
                for fault in self.scenario.faults
                if fault.kind.target_kind is CONTAINER and fault.target == name
            }
            if not done & {"kill", "stop"}:
                yield f"container {name} has ended, with status {status}"

    def _not_done(self, history: History) -> Iterator[str]:
        """Yield the misbehaviour of the upstream that the scenario asks for, and that did not happen."""
        done = {event.reason.partition(":")[0] for event in history.links if event.event == "rude"}
        for misbehaviour in self.scenario.upstream.misbehaviours:
            if misbehaviour not in done:
                yield f"the upstream was to be rude, and never was: {misbehaviour}"

    async def _do_faults(self, topology: Topology, start: float, faults: list[FaultRecord]) -> None:
        """Run the nemesis until its timeline is over and the clients have sent all that they were to send."""
        nemesis = Nemesis(
            self.scenario.faults,
            topology.servers.links,
            faults.append,
            processes=topology.processes,
            containers=topology.servers.containers,
            rng=random.Random(self.seed),
        )
        timeline = asyncio.create_task(nemesis.run(start))
        try:
            while True:
                counts = await topology.counts()
                self._report_progress(start, counts, len(faults))
                if timeline.done() and not counts.sending:
                    break
                await asyncio.wait([timeline], timeout=POLL_SECONDS)
                if timeline.done():
                    raise_failures(timeline)
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            timeline.cancel()
            await asyncio.wait([timeline])

    async def _settle(self, topology: Topology) -> None:
        """Wait until everything has arrived, or nothing new has for as long as the scenario allows."""
        latest: Counts | None = None
        changed = time.monotonic()
        while (still := time.monotonic() - changed) < self.scenario.settle:
            counts = await topology.counts()
            if self._has_arrived(counts) and (still > STILL_SECONDS or not self.scenario.shared):
                await asyncio.sleep(LINGER_SECONDS)
                return
            if counts != latest:
                latest, changed = counts, time.monotonic()
            await asyncio.sleep(POLL_SECONDS)

    def _has_arrived(self, counts: Counts) -> bool:
        if self._echoes:
            audience, clients = self._audience, self.scenario.clients.count
            rooms = len(set(audience.rooms.values())) or 1
            return counts.c2u_sent * audience.receivers(clients, rooms) == counts.u2c_arrived
        u2c_arrived = counts.u2c_distinct if self.scenario.shared else counts.u2c_arrived
        return counts.c2u_sent == counts.c2u_arrived and counts.u2c_sent == u2c_arrived

    def _report_progress(self, start: float, counts: Counts, faults: int) -> None:
        self.progress(
            f"{self.scenario.name}: {time.monotonic() - start:4.1f} s, {faults} faults, "
            f"c2u {counts.c2u_sent:,} sent {counts.c2u_arrived:,} arrived, "
            f"u2c {counts.u2c_sent:,} sent {counts.u2c_arrived:,} arrived"
        )


def check_system(system: SystemUnderTest, scenario: Scenario) -> None:
    """Raise ScenarioError if a scenario cannot be run with a system under test."""
    system.check(scenario)
    if scenario.adapter is not None and not (system.echoes or scenario.upstream.is_foreign):
        raise ScenarioError(
            f"scenario {scenario.name} has an adapter, so it needs a server that speaks this protocol: "
            "`upstream: {command: …}`, a container, or a service as --sut; those of the harness do not"
        )


def raise_failures(timeline: asyncio.Task[None]) -> None:
    """Raise what has ended a nemesis, if anything has.

    Raises:
        ProcessFailed: a fault could not be done, or not be healed. The message says which.

    """
    try:
        timeline.result()
    except ExceptionGroup as failures:
        raise ProcessFailed("; ".join(map(str, failures.exceptions))) from failures
