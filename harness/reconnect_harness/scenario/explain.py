"""A scenario in lines of text: its clients, proxies and upstream, its faults, and its expectations."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from reconnect_harness.checks.judgement import Expectation, is_size, is_timed
from reconnect_harness.faults.fault import Fault
from reconnect_harness.history.audience import To
from reconnect_harness.scenario.fit import profiles_of
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.values import Section
from reconnect_proxy.units import format_duration, format_size


def explain(chosen: Scenario) -> list[str]:
    """Return the lines that explain a scenario: its parts, its faults, and its expectations."""
    clients, upstream = chosen.clients, chosen.upstream
    count = f"{upstream.count} " if upstream.count > 1 else ""
    pushes = f"{upstream.kind}, pushes {upstream.push:g}/s of {_sizes(upstream.size)} ({upstream.type}) to each client"
    foreign = "in a container" if upstream.is_container else "a program"
    does = (
        f"{foreign}, {_RETURNS[chosen.audience.to if chosen.audience else To.SENDER]}"
        if upstream.is_foreign
        else pushes
    )
    kind = "programs" if clients.command else clients.kind
    lines = [
        chosen.name,
        chosen.summary.strip(),
        "",
        f"clients    {clients.count} {kind}, each sends {clients.send:g}/s of {_sizes(clients.size)} "
        f"({clients.type}) for {format_duration(clients.lasts)}{_more(clients, _CLIENTS)}",
        *(f"proxy      {_options(options)}" for options in chosen.proxies),
        f"upstream   {count}{does}{_more(upstream, _UPSTREAM)}",
    ]
    lines += [f"fits       systems that are {', '.join(profiles_of(chosen))}"]
    lines += [f"adapter    {chosen.adapter.name.rpartition(':')[2]}"] if chosen.adapter else []
    lines += [f"container  {name}{_more(spec, ())}" for name, spec in chosen.containers.items()]
    lines += [f"fault      {_fault(fault)}" for fault in chosen.faults]
    texts = dict.fromkeys(f"{fault.name}: {fault.kind.text}" for fault in chosen.faults)
    lines += [f"means      {text}" for text in texts]
    for expected in chosen.expect:
        direction = f" {expected.direction}" if expected.direction else ""
        bound = expected.said or ("is reported" if expected.bound is None else f"at most {_bound(expected)}")
        lines.append(f"expect     {expected.check}{direction}: {bound}")
    return lines


#: What an upstream that is not one of the harness does with messages.
_RETURNS = {
    To.SENDER: "sends back what it receives",
    To.OTHERS: "sends what it receives to the other clients",
    To.ALL: "sends what it receives to all clients",
}

#: Keys that the line of the clients, and that of the upstream, already has.
_CLIENTS = ("kind", "count", "send", "size", "type", "lasts")
_UPSTREAM = ("kind", "count", "push", "size", "type")

#: Keys whose values are messages a second; other values of type float are seconds.
_RATES = ("takes",)


def _more(section: Section, shown: tuple[str, ...]) -> str:
    """Return the keys of a section that are not `shown` already."""
    return "".join(f"; {part}" for part in _parts(section, shown))


def _parts(section: Section, shown: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{field.alias or name} {_value(name, getattr(section, name))}"
        for name, field in type(section).model_fields.items()
        if name in section.model_fields_set and name not in shown
    ]


def _value(name: str, value: object) -> str:
    if isinstance(value, Section):
        return f"({', '.join(_parts(value))})"
    if isinstance(value, float):
        return f"{value:g}/s" if name in _RATES else format_duration(value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={text}" for key, text in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "yes" if value is True else str(value)


def _bound(expected: Expectation) -> str:
    assert expected.bound is not None
    if is_size(expected.check):
        return format_size(int(expected.bound))
    return format_duration(expected.bound) if is_timed(expected.check) else f"{expected.bound:g}"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items()) or "its defaults"


def _fault(fault: Fault) -> str:
    parts = [f"{fault.name} {fault.target} at {_span(fault.at)}"]
    if fault.lasts is not None:
        parts.append(f"for {_span(fault.lasts)}")
    if fault.times > 1:
        parts.append(f"{fault.times} times" + (f", every {_span(fault.every)}" if fault.every is not None else ""))
    if fault.stream != "both":
        parts.append(f"{fault.stream} only")
    parts += [f"{name} {value}" for name, value in fault.attributes.items()]
    parts += [f"{name} `{shlex.join(line)}`" for name, line in fault.commands.items()]
    parts += [f"network {fault.network}"] if fault.network is not None else []
    return ", ".join(parts)


def _span(span: float | tuple[float, float]) -> str:
    return "..".join(map(format_duration, span)) if isinstance(span, tuple) else format_duration(span)


def _sizes(sizes: tuple[int, int]) -> str:
    least, most = map(format_size, sizes)
    return f"{least} to {most}" if least != most else least
