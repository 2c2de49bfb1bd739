"""The faults of processes. A new one is one entry in `PROCESS_FAULTS`."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from reconnect_harness.faults.fault import (
    Extent,
    FaultAction,
    FaultError,
    FaultKind,
    FaultTarget,
    Occurrence,
    TargetKind,
    table,
)

_CONFIRM_SECONDS = 5.0
"""How long a process may take to die of SIGKILL, to stop or to continue."""

_TERMINATE_SECONDS = 30.0
"""How long a process may take to end after SIGTERM: it may have messages to deliver first."""

_POLL_SECONDS = 0.002


class ProcessTarget(Protocol):
    """A child process, as `subprocess.Popen` and `processes.child.Child` are."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, None while it runs."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""


@runtime_checkable
class RestartableProcess(ProcessTarget, Protocol):
    """A process that can be started again when it has ended."""

    def restart(self) -> None:
        """Start it again; return when it is ready, or raise FaultError. Called from a thread."""


def _heal(target: FaultTarget[ProcessTarget]) -> None:
    if target.holds["stop"] and target.handle.returncode is None:
        # It may have ended since; asyncio notices that later.
        with contextlib.suppress(ProcessLookupError):
            target.handle.send_signal(signal.SIGCONT)
    target.holds.clear()


PROCESS = TargetKind("process", _heal)


def _kill(occurrence: Occurrence, target: FaultTarget[ProcessTarget]) -> FaultAction:
    def begin() -> None:
        _signal(target, signal.SIGKILL, os.WEXITED)
        target.holds.pop("stop", None)

    return FaultAction(begin, None if occurrence.lasts is None else lambda: _restart(target))


def _kill_worker(occurrence: Occurrence, target: FaultTarget[ProcessTarget]) -> FaultAction:
    """Kill the oldest child of a process. The fault has taken hold when that child is dead."""

    def begin() -> None:
        # Imported here: processes that only record a history do not need it.
        import psutil

        workers = psutil.Process(_alive(target).pid).children()
        if not workers:
            raise FaultError(f"process {target.name} has no workers: it has no child process that runs")
        worker = min(workers, key=lambda worker: worker.create_time())
        worker.kill()
        deadline = time.monotonic() + _CONFIRM_SECONDS
        while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise FaultError(f"a worker of {target.name} shows no SIGKILL after {_CONFIRM_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)

    return FaultAction(begin)


def _terminate(occurrence: Occurrence, target: FaultTarget[ProcessTarget]) -> FaultAction:
    """Send SIGTERM. The fault has taken hold when the signal is sent, and is cleared when the process has ended; where
    it lasts, when the process is back."""

    def begin() -> None:
        _alive(target).send_signal(signal.SIGTERM)

    def end() -> None:
        _confirm(target, signal.SIGTERM, os.WEXITED, _TERMINATE_SECONDS)
        if occurrence.lasts is not None:
            _restart(target)

    return FaultAction(begin, end)


def _stop(occurrence: Occurrence, target: FaultTarget[ProcessTarget]) -> FaultAction:
    def begin() -> None:
        _signal(target, signal.SIGSTOP, os.WSTOPPED)
        target.holds["stop"] += 1

    def end() -> None:
        if target.holds["stop"] == 1:
            _signal(target, signal.SIGCONT, os.WCONTINUED)
        # A `kill` in between has ended all stops.
        target.holds["stop"] = max(0, target.holds["stop"] - 1)

    return FaultAction(begin, end)


def _cont(occurrence: Occurrence, target: FaultTarget[ProcessTarget]) -> FaultAction:
    return FaultAction(lambda: _signal(target, signal.SIGCONT, os.WCONTINUED))


def _signal(target: FaultTarget[ProcessTarget], number: signal.Signals, becomes: int) -> None:
    """Send a signal to a child and wait until it shows; `becomes` is the flag of `os.waitid` for that."""
    _alive(target).send_signal(number)
    _confirm(target, number, becomes, _CONFIRM_SECONDS)


def _alive(target: FaultTarget[ProcessTarget]) -> ProcessTarget:
    process = target.handle
    if process.returncode is not None:
        raise FaultError(f"process {target.name} has ended already, with {process.returncode}")
    return process


def _confirm(target: FaultTarget[ProcessTarget], number: signal.Signals, becomes: int, within: float) -> None:
    pid = target.handle.pid
    deadline = time.monotonic() + within
    while not _shows(pid, becomes):
        if time.monotonic() > deadline:
            raise FaultError(f"process {target.name} shows no {number.name} after {within:.0f} s")
        time.sleep(_POLL_SECONDS)


def _shows(pid: int, becomes: int) -> bool:
    try:
        # WNOWAIT leaves the child to be waited for by its parent's own code.
        return os.waitid(os.P_PID, pid, becomes | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        # asyncio has waited for it already, so it has ended.
        return becomes == os.WEXITED


def _restart(target: FaultTarget[ProcessTarget]) -> None:
    if not isinstance(target.handle, RestartableProcess):
        raise FaultError(f"process {target.name} cannot be started again")
    target.handle.restart()


PROCESS_FAULTS: Mapping[str, FaultKind] = table(
    FaultKind(
        "kill",
        PROCESS,
        "SIGKILL. With `for` it is started again then: the same port and record; an aware upstream has forgotten its "
        "sessions",
        _kill,
        Extent.EITHER,
    ),
    FaultKind(
        "kill-worker",
        PROCESS,
        "SIGKILL to the oldest of its child processes: `proxy: {workers: 2}`. The proxy has to replace it",
        _kill_worker,
        Extent.MOMENT,
    ),
    FaultKind(
        "terminate",
        PROCESS,
        "SIGTERM: an upstream closes all connections with 1012, the proxy drains. With `for` it is started again then",
        _terminate,
        Extent.EITHER,
    ),
    FaultKind("stop", PROCESS, "SIGSTOP until it is over, then SIGCONT", _stop),
    FaultKind("cont", PROCESS, "SIGCONT", _cont, Extent.MOMENT),
)
"""Every fault of a process by name."""
