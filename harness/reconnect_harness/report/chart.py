"""The picture of a run: the numbers that the scripts of report.html draw, limited in size.

Times in `sessions` are whole multiples of `UNIT` seconds; departures are differences to the one before, so a message
costs some 15 bytes. In a run with more messages than `MOST_DRAWN` only one in so many of each session is drawn; the
series count all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from reconnect_harness.checks.recovery import recovery_times
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.checks.traces import Trace
from reconnect_harness.faults.link_faults import LINK_FAULTS
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, FaultRecord
from reconnect_harness.report import series

#: The resolution of the times of drawn messages, in seconds.
UNIT = 1e-5

#: How many messages are drawn at most, and how many with flaws in addition.
MOST_DRAWN = 100_000
MOST_FLAWED = 20_000

#: How many ends of links are drawn at most.
MOST_LINKS = 5_000

#: How many steps the queue's depth and the other series have at most.
FINE_STEPS = 1_000
COARSE_STEPS = 200

#: Messages that took longer than this many medians, and longer than this many seconds, are drawn as delayed.
HELD_MEDIANS = 5
HELD_SECONDS = 0.02

_LETTERS = {Flaw.LOST: "l", Flaw.DUPLICATED: "d", Flaw.REORDERED: "r", Flaw.CORRUPTED: "c", Flaw.MISDELIVERED: "m"}


def picture(history: History, traces: Sequence[Trace], *, proxied: bool) -> dict[str, Any]:
    """Return the numbers of a run.

    Args:
        history: what was recorded.
        traces: those of `history`.
        proxied: whether there is a system under test between the ends.

    """
    start, end = span(history, traces)
    fine, coarse = series.grid(start, end, FINE_STEPS), series.grid(start, end, COARSE_STEPS)
    by_direction = {direction: [trace for trace in traces if trace.direction is direction] for direction in Direction}
    flowing = {direction: found for direction, found in by_direction.items() if found}
    drawn, every = sample(traces, MOST_DRAWN, MOST_FLAWED)
    return {
        "start": round(start, 6),
        "end": round(end, 6),
        "proxied": proxied,
        "echoed": history.echoed,
        "unit": UNIT,
        "every": every,
        "held": held(traces),
        "sessions": _sessions(drawn),
        "faults": [_fault(history, fault, recovered) for fault, recovered in recoveries(history)],
        "links": _links(history),
        "fine": {"start": fine.start, "step": fine.step},
        "coarse": {"start": coarse.start, "step": coarse.step},
        "depth": {direction: series.depth(found, fine) for direction, found in flowing.items()},
        "latency": {
            direction: [[_rounded(x) for x in step] if step else None for step in series.latency(found, coarse)]
            for direction, found in flowing.items()
        },
        "sent": {
            direction: series.rate((j.sent for j in found if j.first and j.sent is not None), coarse)
            for direction, found in flowing.items()
        },
        "received": {
            direction: series.rate((j.arrived for j in found if j.arrived is not None), coarse)
            for direction, found in flowing.items()
        },
    }


def span(history: History, traces: Sequence[Trace]) -> tuple[float, float]:
    """Return the first and the last moment of the run, in seconds from the start of the traffic."""
    moments = [0.0]
    moments += [moment for trace in traces for moment in (trace.sent, trace.arrived) if moment is not None]
    for fault in history.faults:
        moments += [moment - history.start for moment in (fault.took_hold, fault.cleared) if moment is not None]
    return min(moments), max(moments) + 0.02


def held(traces: Iterable[Trace]) -> float:
    """Return from how many seconds on a message is drawn as delayed."""
    whole = series.summary([trace.travel for trace in traces if trace.travel is not None])
    return max(HELD_SECONDS, HELD_MEDIANS * whole.p50) if whole else HELD_SECONDS


def sample(traces: Sequence[Trace], most: int, most_flawed: int) -> tuple[list[Trace], int]:
    """Return the traces to be drawn, and the number n if one in n was taken.

    Traces with flaws are all taken, up to `most_flawed`; of the others one in n, counted in each session and direction.
    """
    flawed = sum(1 for trace in traces if trace.flaws)
    every = max(1, math.ceil((len(traces) - flawed) / most))
    every_flawed = max(1, math.ceil(flawed / most_flawed))
    counts: dict[tuple[str, Direction, bool], int] = {}
    drawn = []
    for trace in traces:
        key = trace.session, trace.direction, bool(trace.flaws)
        count = counts.get(key, 0)
        counts[key] = count + 1
        if count % (every_flawed if trace.flaws else every) == 0:
            drawn.append(trace)
    return drawn, every


def recoveries(history: History) -> list[tuple[FaultRecord, list[float]]]:
    """Return each fault with the recovery times of the flows after it, sorted, in seconds."""
    by_end: dict[float, list[float]] = {}
    for seconds, wrong in recovery_times(history):
        # The moment of the violation is the end of the fault. Faults that end together have one recovery.
        by_end.setdefault(wrong.t, []).append(seconds)
    return [
        (fault, by_end.get(fault.cleared, []) if fault.took_hold is not None and fault.cleared is not None else [])
        for fault in history.faults
    ]


def _sessions(drawn: Iterable[Trace]) -> list[dict[str, Any]]:
    found: dict[str, dict[Direction, list[Trace]]] = {}
    for trace in drawn:
        found.setdefault(trace.session, {}).setdefault(trace.direction, []).append(trace)
    return [
        {"name": name, **{direction: _columns(found[name][direction]) for direction in found[name]}}
        for name in sorted(found)
    ]


def _columns(traces: list[Trace]) -> dict[str, Any]:
    """Return traces as columns. `sent` is the arrival if it was never sent; `travel` is -1 if it never arrived."""
    traces = sorted(traces, key=lambda trace: _departure(trace))
    departures = [round(_departure(trace) / UNIT) for trace in traces]
    travels = [
        -1 if trace.arrived is None else max(0, round(trace.arrived / UNIT) - departure)
        for trace, departure in zip(traces, departures, strict=True)
    ]
    return {
        "sent": _differences(departures),
        "travel": travels,
        "number": _differences([trace.number for trace in traces]),
        "size": [trace.size for trace in traces],
        "flaws": [
            [index, "".join(_LETTERS[flaw] for flaw in trace.flaws), int(trace.sent is not None)]
            for index, trace in enumerate(traces)
            if trace.flaws
        ],
    }


def _departure(trace: Trace) -> float:
    return trace.t if trace.sent is None else trace.sent


def _differences(values: Sequence[int]) -> list[int]:
    return [value - before for before, value in zip([0, *values], values, strict=False)]


def _fault(history: History, fault: FaultRecord, recovered: list[float]) -> dict[str, Any]:
    slowest = recovered[-1] if recovered else None
    return {
        "name": fault.name,
        "target": fault.target,
        # A fault of a container is drawn where that of a process would be.
        "on": "link" if fault.name in LINK_FAULTS else "process",
        # It has its first effects before the target has confirmed it.
        "from": None if fault.took_hold is None else _at(history, fault.asked),
        "to": _at(history, fault.cleared),
        # JSON has no infinity: -1 stands for a flow that never recovered.
        "recovery": None if slowest is None else -1 if math.isinf(slowest) else round(slowest, 4),
    }


def _at(history: History, t: float | None) -> float | None:
    return None if t is None else round(t - history.start, 4)


def _links(history: History) -> list[list[Any]]:
    """Return the links that ended or failed: the moment, the end, the name of the peer, and what is known."""
    ended = [event for event in history.links if event.event != "connected" and not event.asked]
    every = max(1, math.ceil(len(ended) / MOST_LINKS))
    return [
        [
            round(event.t - history.start, 4),
            "client" if event.end is End.CLIENT else "upstream",
            event.name,
            " ".join(filter(None, (event.event, str(event.code or ""), event.reason))),
        ]
        for event in ended[::every]
    ]


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.3g}")
