"""A scenario, explained in lines: who talks to whom, what is done to them, and what has to hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.checkers import Expectation, is_timed
from harness.faults import Fault
from harness.scenario import Scenario
from reconnect_proxy.units import format_duration, format_size


def explain(chosen: Scenario) -> list[str]:
    """Return the lines that explain a scenario: who talks to whom, what is done to them, and what has to hold."""
    talkers, upstream = chosen.clients, chosen.upstream
    count = f"{upstream.count} " if upstream.count > 1 else ""
    lines = [
        chosen.name,
        chosen.summary.strip(),
        "",
        f"clients    {talkers.count} {talkers.kind}, each sends {talkers.send:g}/s of {_sizes(talkers.size)} "
        f"({talkers.type}) for {format_duration(talkers.lasts)}",
        *(f"proxy      {_options(options)}" for options in chosen.proxies),
        f"upstream   {count}{upstream.kind}, pushes {upstream.push:g}/s of {_sizes(upstream.size)} ({upstream.type}) "
        "to each client",
    ]
    lines += [f"fault      {_fault(fault)}" for fault in chosen.faults]
    for expected in chosen.expect:
        direction = f" {expected.direction}" if expected.direction else ""
        bound = expected.said or ("is reported" if expected.bound is None else f"at most {_bound(expected)}")
        lines.append(f"expect     {expected.check}{direction}: {bound}")
    return lines


def _bound(expected: Expectation) -> str:
    assert expected.bound is not None
    return format_duration(expected.bound) if is_timed(expected.check) else f"{expected.bound:g}"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items()) or "its defaults"


def _fault(fault: Fault) -> str:
    parts = [f"{fault.do} {fault.target} at {_span(fault.at)}"]
    if fault.lasts is not None:
        parts.append(f"for {_span(fault.lasts)}")
    if fault.times > 1:
        parts.append(f"{fault.times} times" + (f", every {_span(fault.every)}" if fault.every is not None else ""))
    if fault.stream != "both":
        parts.append(f"{fault.stream} only")
    parts += [f"{name} {value}" for name, value in fault.attributes.items()]
    return ", ".join(parts)


def _span(span: float | tuple[float, float]) -> str:
    return "..".join(map(format_duration, span)) if isinstance(span, tuple) else format_duration(span)


def _sizes(sizes: tuple[int, int]) -> str:
    least, most = map(format_size, sizes)
    return f"{least} to {most}" if least != most else least
