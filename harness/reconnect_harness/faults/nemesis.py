"""The nemesis: does the faults of a scenario to the links, processes and containers of a run, and heals all of them.

    at --> asked ~~~ took_hold ----- lasts -----> end ~~~ cleared

`asked` is when the call that begins it was made, and `took_hold` when the target confirmed it: between the two it has
its first effects. `cleared` is when the target confirmed the end.

What each fault does is in `link_faults`, `process_faults` and `container_faults`.
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
from reconnect_harness.faults.command_faults import CommandTarget
from reconnect_harness.faults.fault import Fault, FaultError, FaultTarget, Occurrence, TargetKind, timeline
from reconnect_harness.faults.process_faults import ProcessTarget
from reconnect_harness.history.record import FaultRecord
from reconnect_harness.processes.shielded import run_shielded
from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.server import ToxiproxyError

TARGET_ERRORS = (ToxiproxyError, FaultError, EngineError, OSError)
"""What a call of an action may raise: the fault did not take hold, or could not be undone."""


class Nemesis:
    """Does faults to links, processes and containers.

    Args:
        faults: what to do; the times are drawn at once, see `timeline`.
        links: the links by name. Only the nemesis may use them while `run` runs.
        record: called with a `FaultRecord` for each occurrence, when it has been cleared or has failed.
        processes: the processes by name.
        containers: the containers by name.
        rng: draws from ranges.

    Raises:
        ValueError: a fault names a link, process or container that does not exist.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        links: Mapping[str, ToxiproxyLink],
        record: Callable[[FaultRecord], None],
        *,
        processes: Mapping[str, ProcessTarget] | None = None,
        containers: Mapping[str, Container] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.timeline = timeline(faults, rng or random.Random())
        self._record = record
        self._targets: dict[tuple[TargetKind, str], FaultTarget[Any]] = {}
        handles: dict[str, Mapping[str, Any]] = {
            "link": links,
            "process": processes or {},
            "container": containers or {},
            "command": {fault.target: CommandTarget() for fault in faults if fault.commands},
        }
        for fault in faults:
            kind = fault.kind.target_kind
            if fault.target not in handles[kind.name]:
                known = ", ".join(handles[kind.name]) or "none"
                raise ValueError(f"{fault.name} is to be done to the {kind.name} {fault.target!r}; there is {known}")
            self._targets[kind, fault.target] = FaultTarget(fault.target, handles[kind.name][fault.target])

    async def run(self, start: float | None = None) -> None:
        """Run the timeline from `start` (a time of `time.monotonic`, now if not given), then heal all targets.

        The targets are healed too when this is cancelled or fails; an occurrence whose time had not come by then is
        recorded as one that never took hold.

        Raises:
            ExceptionGroup: of `TARGET_ERRORS`, for targets that could not be healed.
        """
        start = time.monotonic() if start is None else start
        accounts = [_Account(occurrence, start + occurrence.at) for occurrence in self.timeline]
        try:
            async with asyncio.TaskGroup() as group:
                for account in accounts:
                    group.create_task(self._do(account))
        finally:
            await self._heal(accounts)

    async def _do(self, account: _Account) -> None:
        occurrence = account.occurrence
        kind = occurrence.fault.kind
        target = self._targets[kind.target_kind, occurrence.fault.target]
        action = kind.effect(occurrence, target)
        await _sleep_until(account.asked)
        account.asked = time.monotonic()
        account.problem = None

        def begin() -> None:
            # An earlier call to the target may have been waited for.
            account.asked = time.monotonic()
            action.begin()
            account.took_hold = time.monotonic()
            if action.end is None:
                account.cleared = account.took_hold

        def end() -> None:
            assert action.end is not None
            action.end()
            account.cleared = time.monotonic()

        if await _called(target, begin, account) and action.end is not None:
            assert account.took_hold is not None
            if occurrence.lasts is not None:
                await _sleep_until(account.took_hold + occurrence.lasts)
            if not await _called(target, end, account):
                # The target is healed when the run ends, and the account is closed then.
                return
        self._report(account)

    async def _heal(self, accounts: Sequence[_Account]) -> None:
        failures: list[Exception] = []
        for (kind, _), target in self._targets.items():
            own = [account for account in accounts if account.is_of(kind, target.name)]
            try:
                await run_shielded(partial(kind.heal, target))
            except TARGET_ERRORS as failure:
                failures.append(failure)
            else:
                for account in own:
                    if account.took_hold is not None and account.cleared is None:
                        account.cleared = time.monotonic()
            for account in own:
                self._report(account)
        if failures:
            raise ExceptionGroup("some targets could not be healed", failures)

    def _report(self, account: _Account) -> None:
        if not account.reported:
            account.reported = True
            self._record(account.record())


@dataclass(slots=True)
class _Account:
    """What is known of an occurrence so far."""

    occurrence: Occurrence
    asked: float
    took_hold: float | None = None
    cleared: float | None = None
    problem: str | None = "the run ended before its time came"
    reported: bool = False

    def is_of(self, kind: TargetKind, target: str) -> bool:
        fault = self.occurrence.fault
        return fault.kind.target_kind is kind and fault.target == target

    def record(self) -> FaultRecord:
        fault = self.occurrence.fault
        return FaultRecord(fault.name, fault.target, self.asked, self.took_hold, self.cleared, self.problem)

    def hurry(self, target: FaultTarget[Any]) -> None:
        """Make a call to the target that waits return soon."""
        self.occurrence.fault.kind.target_kind.hurry(target.handle)


async def _called(target: FaultTarget[Any], call: Callable[[], None], account: _Account) -> bool:
    """Make a call of an action, one at a time for each target. If it fails, keep the reason and return False."""

    def attempt() -> bool:
        try:
            call()
        except TARGET_ERRORS as failure:
            account.problem = str(failure)
            return False
        return True

    async with target.busy:
        return await run_shielded(attempt, partial(account.hurry, target))


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
