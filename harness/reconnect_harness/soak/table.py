"""The result of a soak as text: lines and a table for people, and the fields of `soak.json`."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from reconnect_harness.checks.judgement import Judgement
from reconnect_harness.report.table import ResultTable
from reconnect_harness.soak.clients import PAGE_ROW
from reconnect_harness.soak.ledger import Counted
from reconnect_harness.soak.soak import SoakResult
from reconnect_harness.soak.verdict import SoakEvidence, warm
from reconnect_proxy.units import format_duration

#: How many violations of a check are printed.
_PRINTED = 10


def lines(result: SoakResult, judgement: Judgement) -> Iterator[str]:
    """Yield the verdict, and the reasons why it is not valid."""
    cut_short = ", interrupted" if result.interrupted else ""
    yield f"soak: {judgement.verdict} ({duration(round(result.seconds))}{cut_short})"
    for found in judgement.results:
        for violation in list(found.violations)[:_PRINTED]:
            yield f"    {found.label}: {violation.what}"
        if len(found.violations) > _PRINTED:
            yield f"    {found.label}: and {len(found.violations) - _PRINTED} more"
    for doubt in judgement.doubts:
        yield f"    {doubt}"


def duration(seconds: float) -> str:
    """Return a time as people write it: `10m`, `45s`."""
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else format_duration(seconds)


def table(result: SoakResult, judgement: Judgement, evidence: SoakEvidence) -> ResultTable:
    """Return the table: what was measured, the value, and the bound if it has one."""
    rows: list[tuple[str, str, str]] = []
    for found in judgement.results:
        value = "too little to measure" if found.value is None else _number(found.check, found.value)
        rows.append((found.label, value, _number(found.check, found.bound or 0)))
    measured = [*_messages(result), *_resources(result, evidence), *_round_trips(evidence), *_footprints(result)]
    measured += [("system under test", result.system), ("Toxiproxy", result.toxiproxy), *result.machine.items()]
    rows += [(what, value, "") for what, value in measured]
    return ResultTable(("what", "found", "at most"), rows, 3)


def to_markdown(table: ResultTable, judgement: Judgement, command: str) -> str:
    return "\n".join(["", f"Made by `{command}`: {judgement.verdict}.", "", *table.markdown()]) + "\n"


def to_json(result: SoakResult, judgement: Judgement, command: str) -> dict[str, Any]:
    """Return the fields of `soak.json`."""
    return {
        "verdict": judgement.verdict,
        "command": command,
        "seconds": round(result.seconds, 3),
        "interrupted": result.interrupted,
        "seed": result.plan.seed,
        "clients": result.plan.clients,
        "system": result.system,
        "toxiproxy": result.toxiproxy,
        "machine": result.machine,
        "checks": [
            {"check": found.label, "value": found.value, "at_most": found.bound, "verdict": found.verdict}
            for found in judgement.results
        ],
        "doubts": judgement.doubts,
        "wrong": [violation.what for found in judgement.results for violation in found.violations],
        "counts": {"upstream": result.upstream, "clients": result.clients},
        "faults": dict(sorted(result.faults.items())),
        "footprints": [{**found._asdict(), "t": round(found.t - result.start, 3)} for found in result.footprints],
    }


def _number(check: str, value: float) -> str:
    if check == "memory_growth":
        return f"{value / 1024**2:.1f} MiB"
    if check.startswith("latency"):
        return f"{value:.2f} x"
    return f"{value:,.0f}"


def _messages(result: SoakResult) -> Iterator[tuple[str, str]]:
    def total(rows: dict[str, dict[Counted, int]], count: Counted) -> int:
        return sum(counts[count] for name, counts in rows.items() if name != PAGE_ROW)

    yield "time", duration(round(result.seconds))
    yield "faults", f"{result.faults.total():,} of {len(result.faults)} kinds"
    for name, rows, direction in (("upstream", result.upstream, "c2u"), ("clients", result.clients, "u2c")):
        yield f"messages {direction}", f"{total(rows, Counted.ARRIVED):,}"
        links, cut = total(rows, Counted.LINKS), total(rows, Counted.CUT)
        yield f"connections, {name}", f"{links:,}, of which {cut:,} were cut"
    again = sum(counts[Counted.REPEATED] for rows in (result.upstream, result.clients) for counts in rows.values())
    yield "messages that came again, to peers that do not count", f"{again:,}"
    pages = result.clients.get(PAGE_ROW)
    if pages:
        yield (
            "plain HTTP requests",
            f"{pages[Counted.SENT]:,}, of which {pages[Counted.ARRIVED]:,} had the page in answer",
        )


def _resources(result: SoakResult, evidence: SoakEvidence) -> Iterator[tuple[str, str]]:
    for what, name, scale, digits, unit in (
        ("sessions", "sessions", 1.0, 0, ""),
        ("descriptors", "files", 1.0, 0, ""),
        ("memory", "memory", 1024.0**2, 1, " MiB"),
        ("event loop lag", "lag", 0.001, 2, " ms"),
    ):
        values = sorted(value / scale for _, value in warm(evidence.points(name), result.seconds))
        if values:
            least, middle, most = (f"{x:,.{digits}f}{unit}" for x in (values[0], statistics.median(values), values[-1]))
            yield f"{what}, after the warm-up", f"{middle} ({least} .. {most})"


def _round_trips(evidence: SoakEvidence) -> Iterator[tuple[str, str]]:
    if not evidence.trips:
        return
    for quantile in ("p50", "p99"):
        through, direct = (
            statistics.median(1000 * trips[name] for trips in evidence.trips)
            for name in (quantile, f"direct_{quantile}")
        )
        yield f"round trip without faults, {quantile}", f"{through:.2f} ms; past the proxy {direct:.2f} ms"


def _footprints(result: SoakResult) -> Iterator[tuple[str, str]]:
    found = {footprint.when: footprint for footprint in result.footprints}
    if found.keys() >= {"before", "after"}:
        first, last = found["before"], found["after"]
        yield "descriptors before, after", f"{first.files}, {last.files}"
        yield "threads before, after", f"{first.threads}, {last.threads}"
        yield "resident memory before, after", f"{first.memory / 1024**2:.1f} MiB, {last.memory / 1024**2:.1f} MiB"
