"""A soak in words: its table, and the file that a program reads."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from reconnect_harness.checks.checkers import Judgement
from reconnect_harness.soak.ledger import Count
from reconnect_harness.soak.soak import Soaked
from reconnect_harness.soak.verdict import Evidence, warm
from reconnect_proxy.units import format_duration

#: How many of the things that were wrong are told.
_TOLD = 10


def lines(done: Soaked, judgement: Judgement) -> Iterator[str]:
    """Yield what there is to say of a soak: its verdict, why it is not valid if so, and what was seen."""
    cut_short = ", interrupted" if done.interrupted else ""
    yield f"soak: {judgement.verdict} ({lasting(round(done.seconds))}{cut_short})"
    for result in judgement.results:
        for violation in list(result.violations)[:_TOLD]:
            yield f"    {result.label}: {violation.what}"
        if len(result.violations) > _TOLD:
            yield f"    {result.label}: and {len(result.violations) - _TOLD} more"
    for doubt in judgement.doubts:
        yield f"    {doubt}"


def lasting(seconds: float) -> str:
    """Return a time as people say it: `10m`, `45s`."""
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else format_duration(seconds)


def rows(done: Soaked, judgement: Judgement, evidence: Evidence) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the table: what, what was found of it, and how much it may be at most, if there is a bound."""
    for result in judgement.results:
        found = "too little to measure" if result.value is None else _number(result.check, result.value)
        yield result.label, found, _number(result.check, result.bound or 0)
    for what, was in _seen(done, evidence):
        yield what, was, ""


def markdown(rows: Iterable[Sequence[str]], judgement: Judgement, command: str) -> str:
    """Return the table as Markdown."""
    # A command may have a pipe in it.
    body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    head = ["", f"Made by `{command}`: {judgement.verdict}.", "", "| what | found | at most |", "| --- | --- | --- |"]
    return "\n".join([*head, *body]) + "\n"


def to_json(done: Soaked, judgement: Judgement, command: str) -> dict[str, Any]:
    """Return it as JSON-able fields."""
    return {
        "verdict": judgement.verdict,
        "command": command,
        "seconds": round(done.seconds, 3),
        "interrupted": done.interrupted,
        "seed": done.plan.seed,
        "guests": done.plan.guests,
        "system": done.system,
        "toxiproxy": done.toxiproxy,
        "machine": done.machine,
        "checks": [
            {"check": result.label, "value": result.value, "at_most": result.bound, "verdict": result.verdict}
            for result in judgement.results
        ],
        "doubts": judgement.doubts,
        "wrong": [violation.what for result in judgement.results for violation in result.violations],
        "counts": {"upstream": done.upstream, "guests": done.guests},
        "faults": dict(sorted(done.faults.items())),
        "footprints": [{**found._asdict(), "t": round(found.t - done.start, 3)} for found in done.footprints],
    }


def _number(check: str, value: float) -> str:
    if check == "memory_growth":
        return f"{value / 1024**2:.1f} MiB"
    if check.startswith("latency"):
        return f"{value:.2f} x"
    return f"{value:,.0f}"


def _seen(done: Soaked, evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Yield the numbers of a soak."""

    def total(rows: dict[str, dict[Count, int]], count: Count) -> int:
        return sum(counts[count] for name, counts in rows.items() if name != "page")

    yield "time", lasting(round(done.seconds))
    yield "faults", f"{done.faults.total():,} of {len(done.faults)} kinds"
    for name, rows, way in (("upstream", done.upstream, "c2u"), ("clients", done.guests, "u2c")):
        yield f"messages {way}", f"{total(rows, Count.ARRIVED):,}"
        links, cut = total(rows, Count.LINKS), total(rows, Count.CUT)
        yield f"connections, {name}", f"{links:,}, of which {cut:,} were cut"
    again = sum(counts[Count.REPEATED] for rows in (done.upstream, done.guests) for counts in rows.values())
    yield "messages that came again, to peers that do not count", f"{again:,}"
    pages = done.guests.get("page")
    if pages:
        yield "plain HTTP requests", f"{pages[Count.SENT]:,}, of which {pages[Count.ARRIVED]:,} had the page in answer"
    for what, name, scale, digits, unit in (
        ("sessions", "sessions", 1.0, 0, ""),
        ("descriptors", "files", 1.0, 0, ""),
        ("memory", "memory", 1024.0**2, 1, " MiB"),
        ("event loop lag", "lag", 0.001, 2, " ms"),
    ):
        values = sorted(value / scale for _, value in warm(evidence.points(name), done.seconds))
        if values:
            least, middle, most = (f"{x:,.{digits}f}{unit}" for x in (values[0], statistics.median(values), values[-1]))
            yield f"{what}, behind the warm-up", f"{middle} ({least} .. {most})"
    for quantile in ("p50", "p99"):
        found = [1000 * trips[quantile] for trips in evidence.trips]
        beside = [1000 * trips[f"beside_{quantile}"] for trips in evidence.trips]
        if found:
            through, direct = statistics.median(found), statistics.median(beside)
            yield f"round trip in a calm, {quantile}", f"{through:.2f} ms; beside the proxy {direct:.2f} ms"
    before = {footprint.when: footprint for footprint in done.footprints}
    if before.keys() >= {"before", "after"}:
        first, last = before["before"], before["after"]
        yield "descriptors before, after", f"{first.files}, {last.files}"
        yield "threads before, after", f"{first.threads}, {last.threads}"
        yield "resident memory before, after", f"{first.memory / 1024**2:.1f} MiB, {last.memory / 1024**2:.1f} MiB"
    yield "system under test", done.system
    yield "Toxiproxy", done.toxiproxy
    yield from done.machine.items()
