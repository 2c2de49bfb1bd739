"""The results of a run as pictures: SVG files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reconnect_harness.bench.bench import BenchReport
from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.figures import QUANTILES, Figure
from reconnect_harness.report.plots import new_figures
from reconnect_harness.sut.base import OWN

_CPU_SHAPES = (Shape.REQUEST_REPLY, Shape.PIPELINED, Shape.UP, Shape.DOWN, Shape.FAN_OUT)
_LATENCY_SHAPES = (Shape.REQUEST_REPLY, Shape.PACED)

#: This project's proxy has a colour that stands out. The others differ by their order too, for a print without colours.
_OWN_COLOUR = "#c2410c"
_COLOURS = ("#1e3a5f", "#3f6fa3", "#7ba3cc", "#9aa5b1", "#c3c9d0")
_BAR = 0.8


def draw(report: BenchReport, folder: Path) -> list[Path]:
    """Draw the pictures for which there are figures into `folder`, and return the files.

    Raises:
        PlotsUnavailable: matplotlib is not installed.

    """
    made = []
    with new_figures("bench") as figure:
        for name, draw_on in (("cpu", _cpu), ("latency", _latency), ("sessions", _sessions)):
            picture = figure(layout="constrained")
            if draw_on(report, picture):
                path = folder / f"{name}.svg"
                picture.savefig(path, metadata={"Date": None})
                made.append(path)
    return made


def _cpu(report: BenchReport, picture: Any) -> bool:
    """Draw the CPU time of each contender in each case as a bar, with the spread of the rounds as a line on it."""
    cases = [case for case in report.cases if case.shape in _CPU_SHAPES]
    names = [name for name in report.contenders if any(_has(report, case, name, Figure.CPU) for case in cases)]
    if not cases or not names:
        return False
    picture.set_size_inches(9, 1.2 + 0.2 * len(cases) * len(names))
    axes = picture.subplots()
    _bars(axes, report, cases, names, Figure.CPU)
    picture.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(names), frameon=False)
    axes.set_xlabel("CPU time of the proxy for each round trip or message, µs (median; line: all rounds)")
    return True


def _latency(report: BenchReport, picture: Any) -> bool:
    """Draw three percentiles of the latency of each contender, a column of bars for each."""
    cases = [case for case in report.cases if case.shape in _LATENCY_SHAPES]
    names = [name for name in report.contenders if any(_has(report, case, name, Figure.P50) for case in cases)]
    if not cases or not names:
        return False
    picture.set_size_inches(9, 1.4 + 0.2 * len(cases) * len(names))
    for axes, figure in zip(picture.subplots(1, len(QUANTILES), sharey=True), QUANTILES, strict=True):
        _bars(axes, report, cases, names, figure)
        axes.set_xlabel(f"p{100 * QUANTILES[figure]:g}, µs")
    picture.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(names), frameon=False)
    return True


def _sessions(report: BenchReport, picture: Any) -> bool:
    """Draw memory and CPU time against the number of sessions."""
    cases = sorted((case for case in report.cases if case.shape is Shape.CROWD), key=lambda case: case.count)
    names = [name for name in report.contenders if any(_has(report, case, name, Figure.MEMORY) for case in cases)]
    if not names:
        return False
    picture.set_size_inches(9, 3.2)
    for axes, figure, scale, title in zip(
        picture.subplots(1, 2),
        (Figure.MEMORY, Figure.CPU),
        (1024.0, 1.0),
        ("KiB of memory for each session", "CPU time for each round trip, µs"),
        strict=True,
    ):
        for name, colour in _coloured(report, names):
            points = [(case.count, report.results.median(case.name, name, figure)) for case in cases]
            known = [(count, value / scale) for count, value in points if value is not None]
            axes.plot(*zip(*known, strict=True), marker="o", label=name, color=colour)
        axes.set(xscale="log", xlabel="sessions", title=title, ylim=(0, None))
        axes.grid(alpha=0.3)
    picture.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(names), frameon=False)
    return True


def _bars(axes: Any, report: BenchReport, cases: Sequence[Case], names: Sequence[str], figure: Figure) -> None:
    height = _BAR / len(names)
    for index, (name, colour) in enumerate(_coloured(report, names)):
        label: str | None = name
        for row, case in enumerate(cases):
            spread = report.results.spread(case.name, name, figure)
            if spread is not None:
                place = row + (index - (len(names) - 1) / 2) * height
                axes.barh(place, spread.median, height, color=colour, label=label)
                axes.plot([spread.least, spread.most], [place, place], color="black", linewidth=0.8)
                label = None
    axes.set_yticks(range(len(cases)), [case.name for case in cases])
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def _coloured(report: BenchReport, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each name with its colour. A contender has the same colour in all pictures of a run."""
    others = [name for name in report.contenders if name != OWN]
    for name in names:
        yield name, _OWN_COLOUR if name == OWN else _COLOURS[others.index(name) % len(_COLOURS)]


def _has(report: BenchReport, case: Case, name: str, figure: Figure) -> bool:
    return report.results.spread(case.name, name, figure) is not None
