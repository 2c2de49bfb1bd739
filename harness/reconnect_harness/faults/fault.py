"""Faults: what a scenario can have done to a link, a process or a container, and how each is done.

A `Fault` is what a scenario says. `timeline` draws its times and numbers, and gives one `Occurrence` for each
time that it happens. What can be done, and to what, is the table `FAULTS`: another fault is another entry; those of
containers are in `faults.container_faults`.
Faults on one target may overlap: a link is up again when the last of its `down`s has ended, and each toxic
that was put on is taken off by itself.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from reconnect_harness.faults.container_faults import CONTAINER_FAULTS, heal_container
from reconnect_harness.faults.harm import Extent, FaultError, FaultKind, Harm, Number, Patient
from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.toxics import STREAMS, TOXICS, Toxic, ToxicStream
from reconnect_harness.values import one_of

__all__ = [
    "CONTAINER_FAULTS",
    "FAULTS",
    "HEALERS",
    "Extent",
    "Fault",
    "FaultError",
    "FaultKind",
    "Harm",
    "Occurrence",
    "Patient",
    "Process",
    "Restartable",
    "needs_resets",
    "timeline",
]

T = TypeVar("T")

_CONFIRM_SECONDS = 5.0
"""How long a process may take to die of SIGKILL, to stop or to continue."""

_GOODBYE_SECONDS = 30.0
"""How long a process may take to end when it is told to: it may have things to deliver first."""

Span = float | tuple[float, float]
"""Seconds, or (least, most) between which they are drawn."""


class Process(Protocol):
    """A child process of ours, as `subprocess.Popen` and `processes.child.Child` are."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def returncode(self) -> int | None:
        """What it ended with, None while it runs."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""


@runtime_checkable
class Restartable(Process, Protocol):
    """A process that can be started again when it has ended."""

    def restart(self) -> None:
        """Start it again; return when it is ready, or raise FaultError. Called from a thread."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a scenario says about one fault.

    Args:
        do: an entry of `FAULTS`, or of `CONTAINER_FAULTS`.
        target: the name of the link, process or container that it is done to.
        at: seconds from the start of the run to its first time.
        lasts: seconds from when it took hold until it is ended; None for faults of a moment, and for those
            that may have no end (see `Extent`).
        times: how often it happens.
        every: seconds from the begin of one time to the next. Where `times` is more than one and this is
            None, each time is drawn from `at`, which must then be a range.
        stream: the direction of the bytes that it touches.
        toxicity: the share of the connections that it touches, 0 to 1.
        attributes: of the toxic, by name.
        container: whether the target is a container: some faults of processes have their names from there.
        network: the network that a container is taken off or put on; None for the only one that it may be.

    Raises:
        ValueError: one sentence that says what was given, and what is allowed.
    """

    do: str
    target: str
    at: Span
    lasts: Span | None = None
    times: int = 1
    every: Span | None = None
    stream: ToxicStream = "both"
    toxicity: float = 1.0
    attributes: Mapping[str, Number] = field(default_factory=dict)
    container: bool = False
    network: str | None = None

    @property
    def kind(self) -> FaultKind:
        """What it is, in the table."""
        return (CONTAINER_FAULTS if self.container else FAULTS)[self.do]

    def __post_init__(self) -> None:
        if self.container:
            one_of("fault of a container", self.do, CONTAINER_FAULTS)
        else:
            one_of("fault", self.do, FAULTS)
        kind = self.kind
        if self.times < 1:
            raise ValueError(f"times of {self.do} is {self.times}; it must be 1 or more")
        if self.times > 1 and self.every is None and not isinstance(self.at, tuple):
            raise ValueError(f"{self.do} happens {self.times} times: it needs `every`, or a range of `at`")
        for name, span in (("at", self.at), ("for", self.lasts), ("every", self.every)):
            if span is not None and (_least(span) < 0 or _least(span) > _most(span)):
                problem = "it must be 0 s or more, the lesser number first"
                raise ValueError(f"`{name}` of {self.do} is {span}; {problem}")
        if kind.extent is Extent.LASTING and self.lasts is None:
            raise ValueError(f"{self.do} needs `for`: how long it lasts")
        if kind.extent is Extent.MOMENT and self.lasts is not None:
            raise ValueError(f"{self.do} is a thing of a moment and has no `for`")
        self._check_reach(kind)

    def _check_reach(self, kind: FaultKind) -> None:
        if self.network is not None and self.do not in ("disconnect", "connect"):
            raise ValueError(f"{self.do} has nothing to do with a network, it was given {self.network}")
        if self.stream not in STREAMS:
            raise ValueError(f"the stream of {self.do} is {self.stream!r}; it may be {', '.join(STREAMS)}")
        if self.stream != "both" and not kind.one_way:
            raise ValueError(f"{self.do} touches both streams, it cannot be on {self.stream} only")
        if kind.toxic is None:
            if self.toxicity != 1:
                raise ValueError(f"{self.do} touches every connection, it has no toxicity")
            if self.attributes:
                raise ValueError(f"{self.do} has no attributes, it was given {', '.join(self.attributes)}")
            return
        given = {**kind.defaults, **self.attributes}
        for bounds in itertools.product(*({_least(number), _most(number)} for number in given.values())):
            Toxic(kind.toxic, dict(zip(given, bounds, strict=True)), self.stream, self.toxicity)


class Occurrence(NamedTuple):
    """One time that a fault happens, all numbers drawn."""

    fault: Fault
    at: float
    """Seconds from the start of the run."""
    lasts: float | None
    toxic: Toxic | None
    """What is put on the link, where the fault is a toxic."""


def _down(occurrence: Occurrence, patient: Patient[ToxiproxyLink]) -> Harm:
    def begin() -> None:
        patient.handle.down()
        patient.holds["down"] += 1

    def end() -> None:
        if patient.holds["down"] == 1:
            patient.handle.up()
        patient.holds["down"] -= 1

    return Harm(begin, end)


def _reset(occurrence: Occurrence, patient: Patient[ToxiproxyLink]) -> Harm:
    return Harm(patient.handle.reset)


def _silence(occurrence: Occurrence, patient: Patient[ToxiproxyLink]) -> Harm:
    link, stream = patient.handle, occurrence.fault.stream
    return Harm(lambda: link.silence(stream), lambda: link.end_silence(stream))


def _toxic(occurrence: Occurrence, patient: Patient[ToxiproxyLink]) -> Harm:
    link, toxic = patient.handle, occurrence.toxic
    assert toxic is not None
    return Harm(lambda: link.add(toxic), lambda: link.remove(toxic))


def _kill(occurrence: Occurrence, patient: Patient[Process]) -> Harm:
    def begin() -> None:
        _signal(patient, signal.SIGKILL, os.WEXITED)
        patient.holds.pop("stop", None)

    return Harm(begin, None if occurrence.lasts is None else lambda: _restart(patient))


def _kill_worker(occurrence: Occurrence, patient: Patient[Process]) -> Harm:
    """Kill one of the processes that a process has started: the oldest. It has taken hold when that one is dead."""

    def begin() -> None:
        # Here: the processes of a run that record histories have no use for it.
        import psutil

        workers = psutil.Process(_alive(patient).pid).children()
        if not workers:
            raise FaultError(f"process {patient.name} has no workers: nothing that it has started runs")
        victim = min(workers, key=lambda worker: worker.create_time())
        victim.kill()
        deadline = time.monotonic() + _CONFIRM_SECONDS
        while victim.is_running() and victim.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise FaultError(f"a worker of {patient.name} shows no SIGKILL after {_CONFIRM_SECONDS:.0f} s")
            time.sleep(0.002)

    return Harm(begin)


def _terminate(occurrence: Occurrence, patient: Patient[Process]) -> Harm:
    """Tell a process to end. It has taken hold when the process was told, and is cleared when it has ended; where it
    lasts, when it is back."""

    def begin() -> None:
        _alive(patient).send_signal(signal.SIGTERM)

    def end() -> None:
        _confirm(patient, signal.SIGTERM, os.WEXITED, _GOODBYE_SECONDS)
        if occurrence.lasts is not None:
            _restart(patient)

    return Harm(begin, end)


def _stop(occurrence: Occurrence, patient: Patient[Process]) -> Harm:
    def begin() -> None:
        _signal(patient, signal.SIGSTOP, os.WSTOPPED)
        patient.holds["stop"] += 1

    def end() -> None:
        if patient.holds["stop"] == 1:
            _signal(patient, signal.SIGCONT, os.WCONTINUED)
        # A `kill` meanwhile has ended all stops.
        patient.holds["stop"] = max(0, patient.holds["stop"] - 1)

    return Harm(begin, end)


def _cont(occurrence: Occurrence, patient: Patient[Process]) -> Harm:
    return Harm(lambda: _signal(patient, signal.SIGCONT, os.WCONTINUED))


def _signal(patient: Patient[Process], number: signal.Signals, becomes: int) -> None:
    """Send a signal to a child and wait until it shows; `becomes` is the flag of `os.waitid` for that."""
    _alive(patient).send_signal(number)
    _confirm(patient, number, becomes, _CONFIRM_SECONDS)


def _alive(patient: Patient[Process]) -> Process:
    process = patient.handle
    if process.returncode is not None:
        raise FaultError(f"process {patient.name} has ended already, with {process.returncode}")
    return process


def _confirm(patient: Patient[Process], number: signal.Signals, becomes: int, within: float) -> None:
    pid = patient.handle.pid
    deadline = time.monotonic() + within
    while not _shows(pid, becomes):
        if time.monotonic() > deadline:
            raise FaultError(f"process {patient.name} shows no {number.name} after {within:.0f} s")
        time.sleep(0.002)


def _shows(pid: int, becomes: int) -> bool:
    try:
        # WNOWAIT leaves the child to be waited for by whoever started it.
        return os.waitid(os.P_PID, pid, becomes | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        # asyncio has waited for it already, so it has ended.
        return becomes == os.WEXITED


def _restart(patient: Patient[Process]) -> None:
    if not isinstance(patient.handle, Restartable):
        raise FaultError(f"process {patient.name} cannot be started again")
    patient.handle.restart()


FAULTS: Mapping[str, FaultKind] = {
    "down": FaultKind("link", _down),
    "reset": FaultKind("link", _reset, Extent.MOMENT),
    "silence": FaultKind("link", _silence, one_way=True),
    "cut": FaultKind("link", _toxic, one_way=True, toxic="limit_data", defaults={"bytes": (1, 2000)}),
    **{name: FaultKind("link", _toxic, one_way=True, toxic=name) for name in TOXICS},
    "kill": FaultKind("process", _kill, Extent.EITHER),
    "kill-worker": FaultKind("process", _kill_worker, Extent.MOMENT),
    "terminate": FaultKind("process", _terminate, Extent.EITHER),
    "stop": FaultKind("process", _stop),
    "cont": FaultKind("process", _cont, Extent.MOMENT),
}
"""Every fault by name: those of links (see `toxiproxy.link`), and of processes: SIGKILL and SIGTERM, after which it
is started again where they last, SIGKILL to one that it has started itself, SIGSTOP until its end, SIGCONT. `cut` is
`limit_data` with a number of bytes drawn anew each time, so that a connection ends in the middle of a frame."""


def _heal_link(patient: Patient[ToxiproxyLink]) -> None:
    patient.handle.heal()
    patient.holds.clear()


def _heal_process(patient: Patient[Process]) -> None:
    if patient.holds["stop"] and patient.handle.returncode is None:
        # Whether it has ended a moment ago is for asyncio to find out.
        with contextlib.suppress(ProcessLookupError):
            patient.handle.send_signal(signal.SIGCONT)
    patient.holds.clear()


HEALERS: Mapping[str, Callable[[Patient[Any]], None]] = {
    "link": _heal_link,
    "process": _heal_process,
    "container": heal_container,
}
"""How a target is made well again, whatever is on it."""


def needs_resets(faults: Iterable[Fault], link: str) -> bool:
    """Return whether a link must be made with ``resets=True`` for these faults."""
    return any(fault.target == link and fault.do in ("reset", "reset_peer") for fault in faults)


def timeline(faults: Iterable[Fault], rng: random.Random) -> list[Occurrence]:
    """Draw the occurrences of `faults`, in order of time. The same seed gives the same list."""
    drawn: list[Occurrence] = []
    for fault in faults:
        kind = fault.kind
        for at in _moments(fault, rng):
            lasts = None if fault.lasts is None else _draw(fault.lasts, rng)
            toxic = None
            if kind.toxic is not None:
                given = {**kind.defaults, **fault.attributes}
                numbers = {name: rng.randint(_least(n), _most(n)) for name, n in given.items()}
                toxic = Toxic(kind.toxic, numbers, fault.stream, fault.toxicity)
            drawn.append(Occurrence(fault, at, lasts, toxic))
    return sorted(drawn, key=lambda occurrence: occurrence.at)


def _moments(fault: Fault, rng: random.Random) -> Iterator[float]:
    at = 0.0
    for index in range(fault.times):
        if index == 0 or fault.every is None:
            at = _draw(fault.at, rng)
        else:
            at += _draw(fault.every, rng)
        yield at


def _least(span: T | tuple[T, T]) -> T:
    return span[0] if isinstance(span, tuple) else span


def _most(span: T | tuple[T, T]) -> T:
    return span[1] if isinstance(span, tuple) else span


def _draw(span: Span, rng: random.Random) -> float:
    return rng.uniform(_least(span), _most(span))
