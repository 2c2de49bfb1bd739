"""The run of a soak: what is done in which order, and how it ends.

start ─ footprint before: what the proxy holds at rest
  │     quiet, faults, quiet, faults, …     a sample each second; clients connect and leave
  │     the time is over, or Ctrl-C: everything is healed
  │     upstream quiet, clients leave       what is under way arrives, or is lost
  └─── footprint after: what the proxy holds when all clients have left
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reconnect_harness.history.record import FaultRecord, Footprint
from reconnect_harness.processes.machine import machine
from reconnect_harness.run.builder import TopologyBuilder
from reconnect_harness.run.results_folder import make_folder
from reconnect_harness.run.runner import raise_failures
from reconnect_harness.soak import clients, samples, upstream
from reconnect_harness.soak.fault_phases import FaultPhases
from reconnect_harness.soak.ledger import Counted, Ledger
from reconnect_harness.soak.plan import SoakPlan, check
from reconnect_harness.soak.samples import ResourceSample
from reconnect_harness.soak.testbed import CLIENTS_LEDGER, UPSTREAM_LEDGER, SoakTestbed, build
from reconnect_harness.toxiproxy.server import ToxiproxyServer
from reconnect_proxy.units import format_duration

#: Where a soak leaves its files if the user does not say.
DEFAULT_OUT = Path("soak-runs")

#: What the progress line calls wrong.
_WRONG = (Counted.LOST, Counted.REORDERED, Counted.CORRUPTED, Counted.MISDELIVERED)

#: How long the proxy may take to be at rest after the last client has left, in seconds: it waits for ordinary clients
#: that vanished for its grace, 15 s, and idle threads of a pool live for a while.
REST_SECONDS = 60.0

_LEAVE_SECONDS = 30.0
_POLL_SECONDS = 0.1


class SystemEnded(Exception):
    """The system under test has ended of itself. The message says how."""


@dataclass(slots=True)
class SoakResult:
    """What was counted in a soak; what was measured is in the files of `folder`."""

    plan: SoakPlan
    folder: Path
    #: The system under test, and the Toxiproxy, in a line each.
    system: str
    toxiproxy: str
    machine: dict[str, str]
    #: When it began, in seconds of `time.monotonic`, and for how many seconds there were faults.
    start: float = 0.0
    seconds: float = 0.0
    #: Whether Ctrl-C has ended it early.
    interrupted: bool = False
    #: How the system under test has ended, if it has.
    ended: str | None = None
    #: How many clients have not left when they were told to.
    stayed: int = 0
    #: The counts of the two ledgers, by row.
    upstream: dict[str, dict[Counted, int]] = field(default_factory=dict)
    clients: dict[str, dict[Counted, int]] = field(default_factory=dict)
    #: What the system under test held before and after.
    footprints: list[Footprint] = field(default_factory=list)
    #: How often each fault took hold.
    faults: Counter[str] = field(default_factory=Counter)


class Soak:
    """One soak through a started Toxiproxy, with its files in `out`. `progress` is called with lines about it.

    Raises:
        ScenarioError: as `check`.

    """

    def __init__(self, plan: SoakPlan, toxiproxy: ToxiproxyServer, out: Path, progress: Callable[[str], None]) -> None:
        self.plan = plan
        self._toxiproxy = toxiproxy
        self._system = check(plan)
        self._progress = progress
        self._over = asyncio.Event()
        self._closing = False
        self._start = 0.0
        self._latest: ResourceSample | None = None
        self._p50: float | None = None
        folder = out / f"soak-{plan.seed}"
        self.result = SoakResult(plan, folder, self._system.describe(), toxiproxy.describe(), machine())
        self._out = out

    async def run(self) -> SoakResult:
        """Run it. The first Ctrl-C ends the faults, and the rest follows in good order; a second one ends it at once.

        Raises:
            ProcessFailed: a process of the harness did not start, or died of itself, or a fault could not be healed.
            ToxiproxyError: a link could not be made.

        """
        folder = self.result.folder
        make_folder(self._out)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with self._interruptible():
            async with TopologyBuilder(folder) as builder:
                ledgers = [
                    upstream.open_ledger(folder / UPSTREAM_LEDGER, self.plan.clients),
                    Ledger(folder / CLIENTS_LEDGER, clients.ROWS),
                ]
                for ledger in ledgers:
                    builder.exits.callback(ledger.close)
                testbed = await build(builder, self.plan, self._system, self._toxiproxy)
                try:
                    await self._measured_run(testbed, *ledgers)
                except SystemEnded as ended:
                    self.result.ended = str(ended)
                self.result.footprints = testbed.watch.found
                self.result.upstream, self.result.clients = (
                    {name: row.counts() for name, row in ledger.rows.items()} for ledger in ledgers
                )
        return self.result

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            if self.result.interrupted:
                task.cancel()
            self.result.interrupted = True
            self._over.set()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    async def _measured_run(self, testbed: SoakTestbed, *ledgers: Ledger) -> None:
        """Run faults and traffic until the time is over, let the clients leave, and measure what is left."""
        self._start = self.result.start = time.monotonic()
        in_quiet = partial(self._measure, testbed)
        phases = FaultPhases(testbed.links, testbed.processes, self._record, in_quiet, self.plan.seed)
        sampling = asyncio.create_task(self._sample(testbed, phases, ledgers))
        try:
            await self._do_faults(phases, sampling)
            self._look(testbed)
            await self._measure(testbed)
            await self._leave(testbed)
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])
        if not sampling.cancelled():
            sampling.result()
        await testbed.watch.after(REST_SECONDS)

    async def _do_faults(self, phases: FaultPhases, sampling: asyncio.Task[None]) -> None:
        """Run phases of faults until the time is over, Ctrl-C, or something has failed; then everything is healed."""
        faults = asyncio.create_task(phases.run())
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait([faults, sampling, over], timeout=self.plan.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._closing = True
            for task in (faults, over):
                task.cancel()
            await asyncio.wait([faults, over])
        self.result.seconds = time.monotonic() - self._start
        if not faults.cancelled():
            raise_failures(faults)

    async def _leave(self, testbed: SoakTestbed) -> None:
        """Have nothing more sent, wait for what is under way, and have all clients leave."""
        self._say("the clients leave")
        await testbed.upstream.ask("quiet")
        await testbed.probe.ask("close")
        await testbed.clients.ask("close")
        deadline = time.monotonic() + testbed.patience + _LEAVE_SECONDS
        while here := (await testbed.clients.ask("count"))["here"]:
            self._look(testbed)
            if time.monotonic() > deadline:
                self.result.stayed = here
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _sample(self, testbed: SoakTestbed, phases: FaultPhases, ledgers: tuple[Ledger, ...]) -> None:
        """Take samples until cancelled."""
        due = self._start
        while True:
            t = time.monotonic() - self._start
            # A phase of faults may begin while the sample is taken.
            quiet = phases.is_quiet
            taken = await asyncio.to_thread(testbed.sampler.take, t, quiet=quiet)
            self._look(testbed)
            if taken is not None:
                self._latest = taken._replace(quiet=quiet and phases.is_quiet)
                samples.append(self.result.folder / samples.SAMPLES, self._latest._asdict())
                self._report_progress(ledgers)
            due += samples.EVERY
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _look(self, testbed: SoakTestbed) -> None:
        """Raise SystemEnded if the system under test has ended, and ProcessFailed if one of our processes has."""
        process = self._system.process
        assert process is not None
        if process.returncode is not None:
            raise SystemEnded(f"the system under test has ended, with status {process.returncode}")
        for actor in (testbed.clients, testbed.probe):
            if actor.returncode is not None:
                raise actor.failure(f"ended with status {actor.returncode}")

    async def _measure(self, testbed: SoakTestbed) -> None:
        found = await testbed.probe.ask("measure")
        if found:
            self._p50 = found["p50"]
            samples.append(self.result.folder / samples.TRIPS, {"t": time.monotonic() - self._start, **found})

    def _record(self, fault: FaultRecord) -> None:
        """Record a fault, unless the soak was over before its time came."""
        if fault.took_hold is None and self._closing:
            return
        if fault.took_hold is not None:
            self.result.faults[f"{fault.name} {fault.target}"] += 1
        fields = fault.shifted(-self._start)._asdict()
        fields["t"] = fields.pop("asked")
        samples.append(self.result.folder / samples.FAULTS, fields)

    def _report_progress(self, ledgers: tuple[Ledger, ...]) -> None:
        found = self._latest
        assert found is not None
        counts = [row.counts() for ledger in ledgers for row in ledger.rows.values()]
        wrong = sum(one[count] for one in counts for count in _WRONG)
        parts = [
            f"{found.memory / 1e6:.1f} MB",
            f"{found.files} descriptors",
            *([f"{found.sessions} sessions"] if found.sessions is not None else []),
            *([f"p50 {1000 * self._p50:.2f} ms"] if self._p50 is not None else []),
            f"{self.result.faults.total()} faults",
            f"{sum(one[Counted.ARRIVED] for one in counts):,} messages",
            f"{wrong} wrong" if wrong else "nothing wrong",
        ]
        self._say(", ".join(parts))

    def _say(self, what: str) -> None:
        elapsed = format_duration(round(min(time.monotonic() - self._start, self.plan.seconds)))
        self._progress(f"soak: {elapsed} of {format_duration(self.plan.seconds)}, {what}")
