"""How long it takes from the end of a fault until messages arrive again."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from typing import NamedTuple

from reconnect_harness.checks.judgement import Violation
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction


class _Flow(NamedTuple):
    """A stream c2u, or everything that is sent to one client: an ordinary server begins a new stream when it is
    dialled again.

    `arrivals` are moments, sorted; `last_owed` is when the last message that has to arrive was sent.
    """

    name: str
    arrivals: list[float]
    last_owed: float


def recovery_times(history: History) -> list[tuple[float, Violation]]:
    """Measure each fault and flow: seconds from the end of the fault to the first arrival after it, sorted.

    The time is infinite where a message was sent after the fault and none arrived. A flow in which nothing was sent
    after the fault is left out. The moment of each violation is the end of its fault.
    """
    measured = []
    flows = list(_flows(history))
    for fault in history.faults:
        if fault.took_hold is None or fault.cleared is None:
            continue
        for flow in flows:
            index = bisect.bisect_right(flow.arrivals, fault.cleared)
            where = f"{flow.name} after {fault.name} {fault.target}"
            if index < len(flow.arrivals):
                seconds = flow.arrivals[index] - fault.cleared
                measured.append((seconds, Violation(fault.cleared, f"{where}: {seconds:.3f} s")))
            elif flow.last_owed > fault.cleared:
                measured.append((math.inf, Violation(fault.cleared, f"{where}: nothing ever came through")))
    return sorted(measured)


def _flows(history: History) -> Iterator[_Flow]:
    arrivals: dict[str, list[float]] = {}
    last_owed: dict[str, float] = {}
    for direction in Direction:
        for stream in history.streams[direction]:
            last = max((event.t for event in stream.owed), default=-math.inf)
            for receiver, events in (stream.received or {"": []}).items():
                to_client = direction is Direction.U2C and receiver
                name = f"{direction} to {receiver}" if to_client else f"{direction} stream {stream.name}"
                arrivals.setdefault(name, []).extend(event.t for event in events)
                last_owed[name] = max(last_owed.get(name, -math.inf), last)
    for name, moments in arrivals.items():
        yield _Flow(name, sorted(moments), last_owed[name])
