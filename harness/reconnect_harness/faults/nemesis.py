"""The nemesis: does the faults of a scenario to the links, processes and containers of a run, each at its time, and
heals all.

    at ----------> begin ----- lasts -----> end         `took_hold` is when the target confirmed the begin,
    asked      took_hold                cleared         `cleared` when it confirmed the end

The faults themselves are in `faults.fault` and `faults.container_faults`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from reconnect_harness.containers.container import Container
from reconnect_harness.containers.engine import EngineError
from reconnect_harness.faults.fault import HEALERS, Fault, FaultError, Occurrence, Patient, Process, timeline
from reconnect_harness.history.record import FaultRecord
from reconnect_harness.processes.shielded import run_shielded
from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.server import ToxiproxyError

TROUBLE = (ToxiproxyError, FaultError, EngineError, OSError)
"""What a call of a harm may raise: it did not take hold, or could not be undone."""


class Nemesis:
    """Does faults to links, processes and containers.

    Args:
        faults: what to do; the times are drawn at once, see `timeline`.
        links: the links by name. They are used by nobody else while `run` runs.
        record: called with a `FaultRecord` for each occurrence, when it has been cleared or has failed.
        processes: the processes by name.
        containers: the containers by name.
        rng: where ranges are drawn from.

    Raises:
        ValueError: a fault names a link, process or container that is not there.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        links: Mapping[str, ToxiproxyLink],
        record: Callable[[FaultRecord], None],
        *,
        processes: Mapping[str, Process] | None = None,
        containers: Mapping[str, Container] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.timeline = timeline(faults, rng or random.Random())
        self._record = record
        self._patients: dict[tuple[str, str], Patient[Any]] = {}
        named: dict[str, Mapping[str, Any]] = {
            "link": links,
            "process": processes or {},
            "container": containers or {},
        }
        for fault in faults:
            kind = fault.kind.target
            if fault.target not in named[kind]:
                there = ", ".join(named[kind]) or "none"
                raise ValueError(f"{fault.do} is to be done to the {kind} {fault.target!r}; there is {there}")
            self._patients[kind, fault.target] = Patient(fault.target, named[kind][fault.target])

    async def run(self, start: float | None = None) -> None:
        """Run the timeline from `start` (a moment of `time.monotonic`, now if not given), then heal all
        targets.

        They are healed too when this is cancelled or fails; an occurrence whose time had not come by then is
        recorded as one that never took hold.

        Raises:
            ExceptionGroup: of `TROUBLE`, for targets that could not be healed.
        """
        start = time.monotonic() if start is None else start
        accounts = [_Account(occurrence, start + occurrence.at) for occurrence in self.timeline]
        try:
            async with asyncio.TaskGroup() as group:
                for account in accounts:
                    group.create_task(self._inflict(account))
        finally:
            await self._heal(accounts)

    async def _inflict(self, account: _Account) -> None:
        occurrence = account.occurrence
        kind = occurrence.fault.kind
        patient = self._patients[kind.target, occurrence.fault.target]
        harm = kind.harm(occurrence, patient)
        await _sleep_until(account.asked)
        account.asked = time.monotonic()
        account.problem = None

        def begin() -> None:
            harm.begin()
            account.took_hold = time.monotonic()
            if harm.end is None:
                account.cleared = account.took_hold

        def end() -> None:
            assert harm.end is not None
            harm.end()
            account.cleared = time.monotonic()

        if await _done(patient, begin, account) and harm.end is not None:
            assert account.took_hold is not None
            if occurrence.lasts is not None:
                await _sleep_until(account.took_hold + occurrence.lasts)
            if not await _done(patient, end, account):
                # The link or process is healed when the run ends, and the account closed then.
                return
        self._report(account)

    async def _heal(self, accounts: Sequence[_Account]) -> None:
        failures: list[Exception] = []
        for (kind, _), patient in self._patients.items():
            mine = [a for a in accounts if a.is_of(kind, patient.name)]
            try:
                await run_shielded(partial(HEALERS[kind], patient))
            except TROUBLE as failure:
                failures.append(failure)
            else:
                for account in mine:
                    if account.took_hold is not None and account.cleared is None:
                        account.cleared = time.monotonic()
            for account in mine:
                self._report(account)
        if failures:
            raise ExceptionGroup("some targets could not be healed", failures)

    def _report(self, account: _Account) -> None:
        if not account.reported:
            account.reported = True
            self._record(account.closed())


@dataclass(slots=True)
class _Account:
    """What is known of an occurrence so far."""

    occurrence: Occurrence
    asked: float
    took_hold: float | None = None
    cleared: float | None = None
    problem: str | None = "the run ended before its time came"
    reported: bool = False

    def is_of(self, kind: str, target: str) -> bool:
        fault = self.occurrence.fault
        return fault.kind.target == kind and fault.target == target

    def closed(self) -> FaultRecord:
        fault = self.occurrence.fault
        return FaultRecord(fault.do, fault.target, self.asked, self.took_hold, self.cleared, self.problem)


async def _done(patient: Patient[Any], call: Callable[[], None], account: _Account) -> bool:
    """Make a call of a harm, alone on its patient; where it fails, note why and return False."""

    def attempt() -> bool:
        try:
            call()
        except TROUBLE as failure:
            account.problem = str(failure)
            return False
        return True

    async with patient.busy:
        handle = patient.handle
        return await run_shielded(attempt, handle.hurry if isinstance(handle, Container) else lambda: None)


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
