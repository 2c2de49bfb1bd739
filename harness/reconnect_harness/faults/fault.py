"""What a fault is, and when it happens. What each fault does is in `link_faults`, `process_faults`, `container_faults`,
`command_faults`.

    Fault         what a scenario says: which kind, to which target, when, how often
    FaultKind     one entry of a table: name, parameters, text and effect
    timeline()    draws all times and numbers: one Occurrence for each time that a fault happens
    FaultTarget   a link, process or container of the run, and how many faults of each name are on it
    FaultAction   the two calls that begin and end an occurrence on its target

Faults on one target may overlap: a link is up again when the last of its `down` faults has ended, and each toxic is
removed by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

from reconnect_harness.toxiproxy.toxics import STREAMS, TOXICS, Toxic, ToxicAttribute, ToxicStream

T = TypeVar("T")

Span = float | tuple[float, float]
"""Seconds, or (least, most) between which they are drawn."""

Number = int | tuple[int, int]
"""A whole number, or (least, most) between which it is drawn."""


class FaultError(RuntimeError):
    """A fault could not be done to its target."""


class Extent(Enum):
    """Whether a fault has an end."""

    MOMENT = "it is over at once, and takes no `for`"
    LASTING = "it needs `for`"
    EITHER = "with `for` it is undone after that time, without it never"


@dataclass(slots=True)
class FaultTarget(Generic[T]):
    """A link, process or container of the run, and the faults that are on it now."""

    name: str
    handle: T
    holds: Counter[str] = field(default_factory=Counter)
    """How many overlapping faults of each name are on."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a call changes the target: one change at a time."""


class FaultAction(NamedTuple):
    """The two calls of an occurrence. Both block until the target has confirmed the change, and run in a thread.

    Without `end` the occurrence is over when it has begun. Where it does not last, `end` is called at once.
    """

    begin: Callable[[], None]
    end: Callable[[], None] | None = None


def _nothing(handle: Any) -> None:
    """Do nothing: most calls do not wait for anything that could be cut short."""


@dataclass(frozen=True, slots=True)
class TargetKind:
    """A kind of target: the key in a scenario file, and how any target of the kind is healed.

    Args:
        name: `link`, `process` or `container`.
        heal: undoes every fault that is still on a target; blocks until the target has confirmed.
        hurry: makes a call that waits for this handle return soon, because the run is cancelled.
    """

    name: str
    heal: Callable[[FaultTarget[Any]], None]
    hurry: Callable[[Any], None] = _nothing


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One fault that a scenario can ask for.

    Args:
        name: what a scenario calls it, under `do`.
        target_kind: what it can be done to.
        text: what happens, in a sentence for the user.
        effect: returns the calls that do an occurrence to a target.
        extent: whether it has an end.
        one_way: whether it can be limited to one stream of a link.
        toxic: the toxic that it puts on its link. Its parameters are the toxic's attributes.
        defaults: values of attributes that a scenario need not give.
        takes_network: whether it has the parameter `network`.
        needs_resets: whether its link must be made with `resets=True`.
        commands: the names of its parameters that are commands; the first one is needed.
    """

    name: str
    target_kind: TargetKind
    text: str
    effect: Callable[[Occurrence, FaultTarget[Any]], FaultAction]
    extent: Extent = Extent.LASTING
    one_way: bool = False
    toxic: str | None = None
    defaults: Mapping[str, Number] = field(default_factory=dict)
    takes_network: bool = False
    needs_resets: bool = False
    commands: Sequence[str] = ()

    @property
    def attributes(self) -> Mapping[str, ToxicAttribute]:
        """The attributes of its toxic by name; none where it is not a toxic."""
        return {} if self.toxic is None else TOXICS[self.toxic]


def table(*kinds: FaultKind) -> Mapping[str, FaultKind]:
    """Return the kinds by name."""
    return {kind.name: kind for kind in kinds}


@dataclass(frozen=True, slots=True)
class Fault:
    """What a scenario says about one fault.

    Args:
        kind: what is done.
        target: the name of the link, process or container that it is done to.
        at: seconds from the start of the run to the first occurrence.
        lasts: seconds from when it took hold until it is ended; None for faults of a moment, and for those
            that may have no end (see `Extent`).
        times: how often it happens.
        every: seconds from the begin of one occurrence to the next. Where `times` is more than one and this is
            None, each time is drawn from `at`, which must then be a range.
        stream: the direction of the bytes that it affects.
        toxicity: the fraction of the connections that it affects, 0 to 1.
        attributes: of the toxic, by name.
        network: the network that a container is disconnected from or connected to; None for the only possible one.
        commands: the words of commands, by the names of its kind.

    Raises:
        ValueError: one sentence that says what was given, and what is allowed.
    """

    kind: FaultKind
    target: str
    at: Span
    lasts: Span | None = None
    times: int = 1
    every: Span | None = None
    stream: ToxicStream = "both"
    toxicity: float = 1.0
    attributes: Mapping[str, Number] = field(default_factory=dict)
    network: str | None = None
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its kind."""
        return self.kind.name

    def __post_init__(self) -> None:
        name = self.name
        if self.times < 1:
            raise ValueError(f"times of {name} is {self.times}; it must be 1 or more")
        if self.times > 1 and self.every is None and not isinstance(self.at, tuple):
            raise ValueError(f"{name} happens {self.times} times: it needs `every`, or a range of `at`")
        for key, span in (("at", self.at), ("for", self.lasts), ("every", self.every)):
            if span is not None and (_least(span) < 0 or _least(span) > _most(span)):
                problem = "it must be 0 s or more, the lesser number first"
                raise ValueError(f"`{key}` of {name} is {span}; {problem}")
        if self.kind.extent is Extent.LASTING and self.lasts is None:
            raise ValueError(f"{name} needs `for`: how long it lasts")
        if self.kind.extent is Extent.MOMENT and self.lasts is not None:
            raise ValueError(f"{name} is over at once and has no `for`")
        self._check_reach()

    def _check_reach(self) -> None:
        kind, name = self.kind, self.name
        if self.network is not None and not kind.takes_network:
            raise ValueError(f"{name} has no `network`, it was given {self.network}")
        if kind.commands and not self.commands.get(kind.commands[0]):
            raise ValueError(f"{name} needs `{kind.commands[0]}`: the program that does it")
        if kind.commands and self.lasts is not None and len(self.commands) < len(kind.commands):
            raise ValueError(f"{name} with `for` needs `{kind.commands[-1]}`: the program that undoes it")
        if self.stream not in STREAMS:
            raise ValueError(f"the stream of {name} is {self.stream!r}; it may be {', '.join(STREAMS)}")
        if self.stream != "both" and not kind.one_way:
            raise ValueError(f"{name} affects both streams, it cannot be on {self.stream} only")
        if kind.toxic is None:
            if self.toxicity != 1:
                raise ValueError(f"{name} affects every connection, it has no toxicity")
            if self.attributes:
                raise ValueError(f"{name} has no attributes, it was given {', '.join(self.attributes)}")
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


def needs_resets(faults: Iterable[Fault], link: str) -> bool:
    """Return whether a link must be made with ``resets=True`` for these faults."""
    return any(fault.target == link and fault.kind.needs_resets for fault in faults)


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
