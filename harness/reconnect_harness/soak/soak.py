"""The run of a soak: what is done in which order, and how it all comes to its end.

start ─ before: what the proxy holds at rest
  │     calm, spell, calm, spell, …       a sample each second; guests come and go
  │     the time is over, or Ctrl-C: all is healed
  │     upstream quiet, guests leave       what is under way arrives, or is lost
  └─── after: what the proxy holds when the last one has left
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from reconnect_harness.history.record import FaultRecord, Footprint
from reconnect_harness.processes.machine import machine
from reconnect_harness.run.campaign import make_folder
from reconnect_harness.soak import clients as guests
from reconnect_harness.soak import samples, upstream
from reconnect_harness.soak.fault_phases import Weather
from reconnect_harness.soak.ledger import Count, Ledger
from reconnect_harness.soak.plan import Plan, check
from reconnect_harness.soak.samples import Sample
from reconnect_harness.soak.testbed import Stage, build
from reconnect_harness.toxiproxy.server import ToxiproxyError, ToxiproxyServer
from reconnect_proxy.units import format_duration

#: Where a soak leaves its files if the user does not say.
DEFAULT_OUT = Path("soak-runs")

#: How long the proxy may take to be at rest when the last guest has left: ordinary guests that vanished are awaited for
#: its grace, 15 s, and idle threads of a pool stay a while.
REST_SECONDS = 60.0

_LEAVE_SECONDS = 30.0
_POLL_SECONDS = 0.1


class Ended(Exception):
    """The system under test has ended of itself. The message says how."""


@dataclass(slots=True)
class Soaked:
    """What was seen in a soak; what was measured lies in the files of `folder`.

    `start` is a moment of `time.monotonic`, `seconds` how long there were faults; `interrupted` whether Ctrl-C made it
    shorter. `ended` says how the system under test has ended, if it has; `stayed` is how many guests never came to
    their end. `upstream` and `guests` have the counts of their ledgers, by row; `footprints` what the system under test
    held before and after; `faults` how often each took hold.
    """

    plan: Plan
    folder: Path
    system: str
    toxiproxy: str
    machine: dict[str, str]
    start: float = 0.0
    seconds: float = 0.0
    interrupted: bool = False
    ended: str | None = None
    stayed: int = 0
    upstream: dict[str, dict[Count, int]] = field(default_factory=dict)
    guests: dict[str, dict[Count, int]] = field(default_factory=dict)
    footprints: list[Footprint] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


class Soak:
    """One soak.

    Args:
        plan: what is to be done.
        toxiproxy: a started server.
        out: the folder for its files.
        progress: is told now and then, in a line, how far it is.

    Raises:
        ScenarioError: as `check`.

    """

    def __init__(
        self,
        plan: Plan,
        toxiproxy: ToxiproxyServer,
        out: Path = DEFAULT_OUT,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.plan = plan
        self._toxiproxy = toxiproxy
        self._system = check(plan)
        self._progress = progress
        self._over = asyncio.Event()
        self._closing = False
        self._start = 0.0
        self._latest: Sample | None = None
        self._p50: float | None = None
        folder = out / f"soak-{plan.seed}"
        self.done = Soaked(plan, folder, self._system.describe(), toxiproxy.describe(), machine())
        self._out = out

    async def run(self) -> Soaked:
        """Do it all. The first Ctrl-C ends the traffic, and the rest follows in good order; a second one ends it all.

        Raises:
            ProcessFailed: a process of the harness did not start, or died of itself.
            ToxiproxyError: a link could not be made, or healed.

        """
        folder = self.done.folder
        make_folder(self._out)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with self._interruptible():
            async with AsyncExitStack() as built:
                books = [
                    upstream.ledger(folder / "upstream.ledger", self.plan.guests),
                    Ledger(folder / "guests.ledger", guests.ROWS),
                ]
                for book in books:
                    built.callback(book.close)
                stage = await build(built, self.plan, self._system, self._toxiproxy, folder)
                try:
                    await self._endure(stage, *books)
                except Ended as ended:
                    self.done.ended = str(ended)
                self.done.footprints = stage.watch.found
                self._count(*books)
        return self.done

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            if self.done.interrupted:
                task.cancel()
            self.done.interrupted = True
            self._over.set()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    async def _endure(self, stage: Stage, *books: Ledger) -> None:
        """Have the weather until the time is over, and then come to an end."""
        self._start = self.done.start = time.monotonic()

        async def calm() -> None:
            await self._measure(stage)

        weather = Weather(stage.links, stage.processes, self._record, calm, self.plan.seed)
        sampling = asyncio.create_task(self._sample(stage, weather, books))
        try:
            suffering = asyncio.create_task(weather.run())
            over = asyncio.create_task(self._over.wait())
            try:
                await asyncio.wait(
                    [suffering, sampling, over], timeout=self.plan.seconds, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                self._closing = True
                for task in (suffering, over):
                    task.cancel()
                await asyncio.wait([suffering, over])
            self.done.seconds = time.monotonic() - self._start
            if not suffering.cancelled():
                _healed(suffering)
            self._look(stage)
            await self._measure(stage)
            await self._leave(stage)
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])
        if not sampling.cancelled():
            sampling.result()
        await stage.watch.after(REST_SECONDS)

    async def _leave(self, stage: Stage) -> None:
        """Have everybody say no more, get what is under way, and leave."""
        self._say("the guests leave")
        await stage.upstream.ask("quiet")
        await stage.probe.ask("close")
        await stage.guests.ask("close")
        deadline = time.monotonic() + stage.patience + _LEAVE_SECONDS
        while here := (await stage.guests.ask("count"))["here"]:
            self._look(stage)
            if time.monotonic() > deadline:
                self.done.stayed = here
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _sample(self, stage: Stage, weather: Weather, books: tuple[Ledger, ...]) -> None:
        """Take samples until cancelled."""
        due = self._start
        while True:
            t = time.monotonic() - self._start
            # Between the two the weather may change.
            fair = weather.fair
            taken = await asyncio.to_thread(stage.sampler.take, t, fair=fair)
            self._look(stage)
            if taken is not None:
                self._latest = taken._replace(fair=fair and weather.fair)
                samples.append(self.done.folder / "samples.jsonl", self._latest._asdict())
                self._tell(books)
            due += samples.EVERY
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _look(self, stage: Stage) -> None:
        """Raise Ended if the system under test has ended, and ProcessFailed if one of ours has."""
        process = self._system.process
        assert process is not None
        if process.returncode is not None:
            raise Ended(f"the system under test has ended, with status {process.returncode}")
        for actor in (stage.guests, stage.probe):
            if actor.returncode is not None:
                raise actor.failure(f"ended with status {actor.returncode}")

    async def _measure(self, stage: Stage) -> None:
        found = await stage.probe.ask("measure")
        if found:
            self._p50 = found["p50"]
            samples.append(self.done.folder / "trips.jsonl", {"t": time.monotonic() - self._start, **found})

    def _record(self, fault: FaultRecord) -> None:
        """Take note of a fault, unless its time had not come when all was over."""
        if fault.took_hold is None and self._closing:
            return
        if fault.took_hold is not None:
            self.done.faults[f"{fault.name} {fault.target}"] += 1
        moments = {
            name: None if moment is None else moment - self._start
            for name, moment in (("t", fault.asked), ("took_hold", fault.took_hold), ("cleared", fault.cleared))
        }
        fields = {"name": fault.name, "target": fault.target, **moments, "problem": fault.problem}
        samples.append(self.done.folder / "faults.jsonl", fields)

    def _count(self, there: Ledger, here: Ledger) -> None:
        self.done.upstream = {name: row.counts() for name, row in there.rows.items()}
        self.done.guests = {name: row.counts() for name, row in here.rows.items()}

    def _tell(self, books: tuple[Ledger, ...]) -> None:
        found = self._latest
        assert found is not None
        counts = [row.counts() for book in books for row in book.rows.values()]
        wrong = sum(one[count] for one in counts for count in (Count.LOST, Count.REORDERED, Count.CORRUPTED))
        parts = [
            f"{found.memory / 1e6:.1f} MB",
            f"{found.files} descriptors",
            *([f"{found.sessions} sessions"] if found.sessions is not None else []),
            *([f"p50 {1000 * self._p50:.2f} ms"] if self._p50 is not None else []),
            f"{self.done.faults.total()} faults",
            f"{sum(one[Count.ARRIVED] for one in counts):,} messages",
            f"{wrong} wrong" if wrong else "nothing wrong",
        ]
        self._say(", ".join(parts))

    def _say(self, what: str) -> None:
        elapsed = format_duration(round(min(time.monotonic() - self._start, self.plan.seconds)))
        self._progress(f"soak: {elapsed} of {format_duration(self.plan.seconds)}, {what}")


def _healed(weather: asyncio.Task[None]) -> None:
    """Raise what has ended the weather, as one error."""
    try:
        weather.result()
    except ExceptionGroup as failures:
        raise ToxiproxyError("; ".join(map(str, failures.exceptions))) from failures
