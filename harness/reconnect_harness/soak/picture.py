"""The measurements of a soak as a picture, an SVG file; the phases of faults are shaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reconnect_harness.report.plots import new_figures
from reconnect_harness.soak.soak import SoakResult
from reconnect_harness.soak.trend import Point, slope
from reconnect_harness.soak.verdict import SoakEvidence, warm

_COLOUR = "#c2410c"
_PALE = "#9aa5b1"
_FAULT = "#f3e3d9"

#: A soak that is longer than this, in seconds, has minutes on its axis.
_MINUTES = 180.0


def draw(result: SoakResult, evidence: SoakEvidence, path: Path) -> None:
    """Draw memory, descriptors and sessions, latency, the lag of the event loop and the harness's own memory.

    Raises:
        PlotsUnavailable: matplotlib is not installed.

    """
    unit, name = (60.0, "minutes") if result.seconds > _MINUTES else (1.0, "seconds")
    with new_figures("soak", **{"path.simplify_threshold": 1.0}) as figure:
        picture = figure(layout="constrained", figsize=(9, 8))
        panels = picture.subplots(5, 1, sharex=True, height_ratios=(3, 3, 3, 2, 2))
        for axes in panels:
            _faults(axes, evidence, unit)
            axes.grid(alpha=0.3)
        memory, files, latency, lag, own = panels
        _memory(memory, result, evidence, unit)
        _line(files, evidence.points("files"), unit, _COLOUR, "descriptors")
        _line(files, evidence.points("sessions"), unit, _PALE, "sessions")
        for quantile, colour in (("p50", _COLOUR), ("p99", _PALE)):
            trips = [(one["t"], 1000 * one[quantile]) for one in evidence.trips]
            _line(latency, trips, unit, colour, f"round trip {quantile}, without faults", marker="o")
        _line(lag, [(t, 1000 * value) for t, value in evidence.points("lag")], unit, _COLOUR, "event loop lag")
        mebibytes = [(t, value / 1024**2) for t, value in evidence.points("harness")]
        _line(own, mebibytes, unit, _PALE, "memory of the harness itself")
        latency.set_yscale("log")
        lag.set_yscale("symlog", linthresh=1)
        for axes, label in zip(panels, ("MiB", "count", "ms", "ms", "MiB"), strict=True):
            axes.set_ylabel(label)
            axes.set_ylim(0 if axes is not latency else None, None)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=4, frameon=False)
        own.set_xlabel(f"{name} (shaded: a fault)")
        picture.savefig(path, metadata={"Date": None})


def _memory(axes: Any, result: SoakResult, evidence: SoakEvidence, unit: float) -> None:
    points = [(t, value / 1024**2) for t, value in evidence.points("memory")]
    _line(axes, points, unit, _COLOUR, "memory")
    judged = warm(points, result.seconds)
    found = slope(judged)
    if found is None:
        return
    start, end = judged[0][0], judged[-1][0]
    middle = sorted(value - found * t for t, value in judged)[len(judged) // 2]
    trend = [(t, middle + found * t) for t in (start, end)]
    _line(axes, trend, unit, "black", f"trend: {60 * found:+.3f} MiB a minute", linestyle="--")


def _line(axes: Any, points: Sequence[Point], unit: float, colour: str, label: str, **style: Any) -> None:
    if points:
        times, values = zip(*((t / unit, value) for t, value in points), strict=True)
        axes.plot(times, values, color=colour, label=label, linewidth=1, markersize=3, **style)


def _faults(axes: Any, evidence: SoakEvidence, unit: float) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    spans = [
        # A fault of a moment is drawn with some width, to be visible.
        (fault["t"] / unit, max(fault["cleared"] or fault["took_hold"], fault["t"] + 0.1) / unit)
        for fault in evidence.faults
        if fault["took_hold"] is not None
    ]
    if spans:
        # One outline of all: half an hour has hundreds of faults, on each panel.
        outline = Outline.make_compound_path(*(Outline([(a, 0), (a, 1), (b, 1), (b, 0), (a, 0)]) for a, b in spans))
        axes.add_patch(PathPatch(outline, transform=axes.get_xaxis_transform(), color=_FAULT, linewidth=0))
