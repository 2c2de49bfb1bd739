"""A scenario as text pictures for a terminal: its topology, and when each fault happens.

traffic          ================================================
upstream down    ......####...####...#####........................
client reset     ..........!...................!.................
                 0s       1s       2s       3s       4s       5s
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from reconnect_harness.faults.fault import Occurrence, timeline
from reconnect_harness.scenario.model import Scenario
from reconnect_proxy.units import format_duration

#: How many characters a chart is wide, without its labels.
WIDTH = 60

_SCALES = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)


def seconds(chosen: Scenario) -> float:
    """Return how long the traffic and the faults of a scenario take, in seconds, without `settle`."""
    ends = [occurrence.at + (occurrence.lasts or 0.0) for occurrence in timeline(chosen.faults, random.Random(1))]
    return max([chosen.clients.lasts, *ends])


def topology(chosen: Scenario) -> str:
    """Return the boxes and links of a scenario in a line; links with faults are in brackets."""
    parts = ["clients"]
    between = [*chosen.link_names[: len(chosen.proxies)], "upstream"]
    boxes = [*chosen.proxy_names, " + ".join(chosen.upstream_names)]
    faulty = {name.partition("-")[0] if name.startswith("upstream-") else name for name in chosen.links}
    for link, box in zip(between, boxes, strict=True):
        parts += [f"--[{link} link]--" if link in faulty else "------", box]
    return " ".join(parts)


def chart(chosen: Scenario, seed: int) -> list[str]:
    """Return the timeline of a scenario in lines: the traffic, and each fault on its target, as the seed draws them."""
    whole = seconds(chosen)
    rows: dict[str, list[Occurrence]] = {}
    for occurrence in timeline(chosen.faults, random.Random(seed)):
        fault = occurrence.fault
        way = "" if fault.stream == "both" else f" ({fault.stream})"
        rows.setdefault(f"{fault.target} {fault.name}{way}", []).append(occurrence)
    margin = max(map(len, ["traffic", *rows])) + 2
    lines = [f"{'traffic':{margin}}{'=' * _column(chosen.clients.lasts, whole)}"]
    lines += [f"{label:{margin}}{_row(occurrences, whole)}" for label, occurrences in rows.items()]
    return [*lines, " " * margin + _axis(whole)]


def _row(occurrences: list[Occurrence], whole: float) -> str:
    cells = ["."] * WIDTH
    for occurrence in occurrences:
        begin = min(_column(occurrence.at, whole), WIDTH - 1)
        if occurrence.lasts is None:
            cells[begin] = "!"
        else:
            end = max(_column(occurrence.at + occurrence.lasts, whole), begin + 1)
            cells[begin:end] = "#" * (end - begin)
    return "".join(cells)


def _axis(whole: float) -> str:
    line = ""
    for moment in _ticks(whole):
        column = _column(moment, whole)
        if column >= len(line):
            line = f"{line:{column}}{format_duration(moment)} "
    return line.rstrip()


def _ticks(whole: float) -> Iterator[float]:
    step = next((scale for scale in _SCALES if whole / scale <= WIDTH / 8), _SCALES[-1])
    moment = 0.0
    while moment <= whole:
        yield moment
        moment += step


def _column(moment: float, whole: float) -> int:
    # A little more, so that a time on the border of a column is not rounded into the column before.
    return int(moment / whole * WIDTH + 1e-6)
