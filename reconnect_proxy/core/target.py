"""What a `Pool` is made of: an upstream and what is known of it (`Target`), and a session's `DialSlot` there."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol

from .clock import Timer


class UpstreamAddress(NamedTuple):
    """One upstream as it is configured: its URL, and its share of new sessions relative to the others'."""

    url: str
    weight: int = 1


class SlotState(Enum):
    """What has become of a `DialSlot`; see the picture in `core.pool`."""

    WAITING = auto()
    DIALLING = auto()
    CONNECTED = auto()
    OVER = auto()


class SlotHolder(Protocol):
    """Who has a slot: the outgoing leg of a session."""

    def on_turn(self, slot: DialSlot) -> None:
        """Dial `place.target` now. To be ended with one of `Pool`'s reports, on every path."""

    def on_turned_away(self, reason: str) -> None:
        """Ask again, or give up: the slot is over, because its target is down (`reason`) or another one is back."""

    def on_upstream_back(self) -> None:
        """A target has come back: there is no reason to sleep any longer (`Pool.sleep`)."""


class DialSlot:
    """One session's place at `target`: it waits for its turn, dials, and is connected. A value; `Pool` moves it on."""

    __slots__ = ("failures_before", "holder", "impatient", "since", "state", "target")

    def __init__(self, target: Target, holder: SlotHolder, impatient: bool, since: float) -> None:
        self.target = target
        self.holder = holder
        # A client waits for the outcome: a probe that fails while it waits decides for it as well.
        self.impatient = impatient
        self.state = SlotState.WAITING
        # When it got into this state.
        self.since = since
        # How many failures in a row the target had when this dial succeeded.
        self.failures_before = 0


class Target:
    """One upstream and what is known of it. Others than its `Pool` read it only."""

    __slots__ = (
        "connected",
        "dialling",
        "failed_at",
        "failures",
        "fragile",
        "healthy",
        "next_probe_at",
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

    def __init__(self, server: UpstreamAddress) -> None:
        self.url, self.weight = server
        # In, not out.
        self.healthy = True
        # Why its latest failure failed; "" before there was one.
        self.reason = ""
        # Dials in progress.
        self.dialling = 0
        # Places that wait for their turn, and those that are connected, the oldest first.
        self.queue: OrderedDict[DialSlot, None] = OrderedDict()
        self.connected: OrderedDict[DialSlot, None] = OrderedDict()
        self.failures = 0
        # Its links die right after they open: it takes one that holds to bring it back in.
        self.fragile = False
        # Current weight of the smooth weighted round robin.
        self.share = 0
        # Moments; None: never.
        self.failed_at: float | None = None
        self.succeeded_at: float | None = None
        self.returned_at: float | None = None
        # While out: passed over from when, for how long, and when the next probe may start.
        self.out_since = 0.0
        self.out_for = 0.0
        self.next_probe_at = 0.0
        # While out: a request that has no place tries it, and until then need not be joined by another.
        self.tried_until = 0.0
        # Runs while the queue waits for that, and until when.
        self.timer: Timer | None = None
        self.timer_at = 0.0

    @property
    def waiting(self) -> int:
        """How many wait for their turn to dial."""
        return len(self.queue)

    @property
    def sessions(self) -> int:
        """How many sessions are connected to it."""
        return len(self.connected)


@dataclass(frozen=True, slots=True)
class UpstreamInfo:
    """A target as an operator may see it. `reason` is that of its latest failure, "" where there was none."""

    url: str
    weight: int
    healthy: bool
    reason: str
    sessions: int
    dials_running: int
    dials_waiting: int
