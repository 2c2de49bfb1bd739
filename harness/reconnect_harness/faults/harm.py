"""What it takes to do a fault: its target and what is on it, the two calls that begin and end it, and whether it ends.

`faults.fault` has the faults of links and processes, `faults.container_faults` those of containers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from reconnect_harness.toxiproxy.toxics import TOXICS, ToxicAttribute

if TYPE_CHECKING:
    from reconnect_harness.faults.fault import Occurrence

T = TypeVar("T")

Sort = Literal["link", "process", "container"]
"""What a fault can be done to."""

Number = int | tuple[int, int]
"""A whole number, or (least, most) between which it is drawn."""


class FaultError(RuntimeError):
    """A fault could not be done to its process or container."""


class Extent(Enum):
    """Whether a fault has an end."""

    MOMENT = "it is over at once"
    LASTING = "it needs `for`"
    EITHER = "with `for` it is undone after that, without it never"


@dataclass(slots=True)
class Patient(Generic[T]):
    """A link, process or container that faults are done to, and what is on it just now."""

    name: str
    handle: T
    holds: Counter[str] = field(default_factory=Counter)
    """How many of the overlapping faults of a name are on."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One change at a time."""


class Harm(NamedTuple):
    """The two calls of an occurrence. Both block until the target has confirmed, and run in a thread.

    Without `end` it is over when it has begun. Of one that does not last, `end` follows at once.
    """

    begin: Callable[[], None]
    end: Callable[[], None] | None = None


class FaultKind(NamedTuple):
    """What can be done to one sort of target."""

    target: Sort
    harm: Callable[[Occurrence, Patient[Any]], Harm]
    extent: Extent = Extent.LASTING
    """Whether it has an end."""
    one_way: bool = False
    """Whether it can be on one stream only."""
    toxic: str | None = None
    """The toxic that it puts on its link."""
    defaults: Mapping[str, Number] = {}
    """Attributes of the toxic that need not be given."""

    @property
    def attributes(self) -> Mapping[str, ToxicAttribute]:
        """The attributes that it takes, by name."""
        return {} if self.toxic is None else TOXICS[self.toxic]
