"""What a `Pool` consists of: an upstream and what is known of it (`Target`), its queue, and a session's `DialSlot`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import NamedTuple

from .dial import DialRank
from .interfaces import SlotHolder, Timer
from .transitions import IllegalTransition, MachineState, Transitions


class UpstreamAddress(NamedTuple):
    """One upstream as it is configured: its URL, and its share of new sessions relative to the others."""

    url: str
    weight: int = 1


class EjectOn(StrEnum):
    """Which failed dials count against the health of an upstream."""

    #: Those without an HTTP answer. An answer of any status proves that the upstream is there.
    CONNECT = "connect"
    #: Those, and answers with a status from 500 on.
    STATUS_5XX = "5xx"


class SlotState(MachineState):
    """What has become of a `DialSlot`; see the picture in `core.pool`."""

    WAITING = auto()
    DIALLING = auto()
    CONNECTED = auto()
    OVER = auto()


_SLOT_TRANSITIONS: Transitions[SlotState] = {
    SlotState.WAITING: {SlotState.DIALLING, SlotState.OVER},
    SlotState.DIALLING: {SlotState.CONNECTED, SlotState.OVER},
    SlotState.CONNECTED: {SlotState.OVER},
    SlotState.OVER: (),
}


class DialSlot:
    """One session's slot at `target`: it waits for its turn, dials, and is connected. Only `Pool` changes it."""

    __slots__ = ("holder", "impatient", "rank", "since", "state", "target")

    def __init__(self, target: Target, holder: SlotHolder, impatient: bool = False) -> None:
        self.target = target
        self.holder = holder
        # A client waits for the outcome: if a probe fails while this slot waits, that decides for it as well.
        self.impatient = impatient
        # That of its holder when it took its place in the queue.
        self.rank = holder.rank
        self.state = SlotState.WAITING
        # When it entered this state.
        self.since = 0.0

    def enter(self, state: SlotState, now: float) -> None:
        """Move on to `state`."""
        if state not in _SLOT_TRANSITIONS[self.state]:
            raise IllegalTransition(self.state, state)
        self.state = state
        self.since = now


class DialQueue:
    """The slots that wait for a target: by their ranks, and in the order in which they came."""

    __slots__ = ("_lanes",)

    def __init__(self) -> None:
        self._lanes: tuple[OrderedDict[DialSlot, None], ...] = tuple(OrderedDict() for _ in DialRank)

    def __len__(self) -> int:
        return sum(map(len, self._lanes))

    def __iter__(self) -> Iterator[DialSlot]:
        return (slot for lane in self._lanes for slot in lane)

    @property
    def first(self) -> DialSlot | None:
        """The slot whose turn is next."""
        return next(iter(self), None)

    def add(self, slot: DialSlot) -> None:
        """Let a slot wait behind those of its rank."""
        slot.rank = slot.holder.rank
        self._lanes[slot.rank][slot] = None

    def remove(self, slot: DialSlot) -> None:
        """Take a slot out, which must be there."""
        del self._lanes[slot.rank][slot]


class Health(Enum):
    """Whether a target is used. A target is ejected after a series of failures, and brought back by a success."""

    #: Used like any other.
    IN = auto()
    #: Ejected: its dials failed. One that succeeds brings it back.
    OUT = auto()


class Target:
    """One upstream and what is known of it. Only its `Pool` changes it."""

    __slots__ = (
        "connected",
        "dialling",
        "failed_at",
        "failures",
        "health",
        "next_probe_at",
        "next_resume_at",
        "out_for",
        "out_since",
        "queue",
        "reason",
        "returned_at",
        "share",
        "succeeded_at",
        "timer",
        "timer_at",
        "tried_until",
        "url",
        "weight",
    )

    def __init__(self, address: UpstreamAddress) -> None:
        self.url, self.weight = address
        self.health = Health.IN
        # Why its latest failure failed; "" before there was one.
        self.reason = ""
        # Dials in progress.
        self.dialling = 0
        # Slots that wait for their turn, and those that are connected, the oldest first.
        self.queue = DialQueue()
        self.connected: OrderedDict[DialSlot, None] = OrderedDict()
        # Failures in a row.
        self.failures = 0
        # Current weight of the smooth weighted round robin.
        self.share = 0
        # Times; None: never.
        self.failed_at: float | None = None
        self.succeeded_at: float | None = None
        self.returned_at: float | None = None
        # While out: since when it is passed over, for how long, when the next probe may start, and when the next one of
        # a session that resumes.
        self.out_since = 0.0
        self.out_for = 0.0
        self.next_probe_at = 0.0
        self.next_resume_at = 0.0
        # While out: a request without a slot is trying it, and until this time no other needs to.
        self.tried_until = 0.0
        # Runs while the queue waits for the next probe; and when it fires.
        self.timer: Timer | None = None
        self.timer_at = 0.0

    @property
    def healthy(self) -> bool:
        """Whether it is used like any other."""
        return self.health is Health.IN

    @property
    def waiting(self) -> int:
        """How many sessions wait for their turn to dial."""
        return len(self.queue)

    @property
    def sessions(self) -> int:
        """How many sessions are connected to it."""
        return len(self.connected)


@dataclass(frozen=True, slots=True)
class UpstreamInfo:
    """A target as an operator may see it. `reason` is that of its latest failure, "" if there was none."""

    url: str
    weight: int
    healthy: bool
    reason: str
    sessions: int
    dials_running: int
    dials_waiting: int
