"""An entry of a scenario's `faults`, and the `Fault` that it means.

    {at: 1s, link: upstream, do: down, for: 400ms, times: 5, every: 1.2s}
    {at: 1s..7s, link: client, do: latency, for: 2s, latency: 100ms, jitter: 20ms, stream: upstream}
    {at: 2s, container: db, do: disconnect, network: lab, for: 1s}
    {at: 3s, do: command, command: "kubectl scale deploy/chat --replicas=0", heal: "kubectl …", for: 5s}

In addition to the keys of every fault an entry has the parameters of its own fault. A time or number may be a range,
`1s..7s`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from reconnect_harness.faults.fault import Fault, FaultKind
from reconnect_harness.faults.kinds import FAULT_KINDS
from reconnect_harness.values import (
    fraction,
    kilobytes,
    mapping,
    microseconds,
    milliseconds,
    one_of,
    seconds,
    value_or_range,
    whole_number,
    words,
)
from reconnect_proxy.units import parse_size

#: The targets: clients -> [client] -> proxy -> [middle] -> proxy -> [upstream] -> upstream. Several of one kind have
#: numbers: upstream-1, upstream-2. The scenario names its containers.
TARGETS: Mapping[str, tuple[str, ...] | None] = {
    "link": ("upstream", "client", "middle"),
    "process": ("upstream", "proxy", "clients"),
    "container": None,
}

_NUMBERED = re.compile(r"(upstream|middle|proxy)-[1-9]")

#: How the values of the keys of every fault are parsed.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "at": lambda given: value_or_range(seconds, given),
    "for": lambda given: value_or_range(seconds, given),
    "every": lambda given: value_or_range(seconds, given),
    "times": whole_number,
    "stream": str,
    "toxicity": fraction,
}

#: How parameters are parsed, by their unit.
_UNITS: Mapping[str, Callable[[Any], int]] = {
    "ms": milliseconds,
    "us": microseconds,
    "bytes": parse_size,
    "KB/s": kilobytes,
}

#: The longest name of a command in reports.
_NAME_LENGTH = 40

#: The argument of `Fault` for a key that is a keyword of Python.
_NAMES = {"for": "lasts"}


def fault(given: object) -> Fault:
    """Return the fault of an entry; ValueError says what is wrong with it."""
    entry = mapping(given, "such as {at: 1s, link: upstream, do: down, for: 400ms}")
    for key in ("do", "at"):
        if key not in entry:
            raise ValueError(f"a fault needs `{key}`; it has {', '.join(map(str, entry)) or 'nothing'}")
    kind = _kind(entry)
    parameters = {name: attribute.unit for name, attribute in kind.attributes.items()}
    keys = ["do", *TARGETS, *_READERS, *parameters, *(["network"] if kind.takes_network else []), *kind.commands]
    commands: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for key, value in entry.items():
        one_of(f"key of {kind.name}", key, keys)
        try:
            if key in parameters:
                attributes[key] = value_or_range(_UNITS[parameters[key]], value)
            elif key in _READERS:
                values[_NAMES.get(key, key)] = _READERS[key](value)
            elif key in kind.commands:
                commands[key] = words(value)
            elif key == "network":
                values[key] = str(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    target = _short(shlex.join(commands.get(kind.commands[0], []))) if kind.commands else _target(entry, kind)
    return Fault(kind, target, **values, attributes=attributes, commands=commands)


def _kind(entry: Mapping[str, Any]) -> FaultKind:
    """Return the kind that `do` names. Some faults of containers have names of faults of processes."""
    do = entry["do"]
    others = {name: kind for target in ("link", "process", "command") for name, kind in FAULT_KINDS[target].items()}
    containers = FAULT_KINDS["container"]
    if "container" in entry:
        return containers[one_of("fault of a container", do, containers)]
    if isinstance(do, str) and do in containers and do not in others:
        raise ValueError(f"{do} is done to a container: it needs `container`")
    return others[one_of("fault", do, others)]


def _short(line: str) -> str:
    """Return what a command is called in reports: its beginning."""
    return line if len(line) <= _NAME_LENGTH else f"{line[: _NAME_LENGTH - 1]}…"


def _target(entry: Mapping[str, Any], kind: FaultKind) -> str:
    """Return the name of the link, process or container that a fault is done to."""
    target = kind.target_kind.name
    others = [other for other in TARGETS if other != target and other in entry]
    if target not in entry or others:
        and_not = f", and not `{others[0]}`" if others else ""
        raise ValueError(f"{kind.name} is done to a {target}: it needs `{target}`{and_not}")
    name = entry[target]
    names = TARGETS[target]
    if names is None:
        return str(name)
    found = _NUMBERED.fullmatch(name) if isinstance(name, str) else None
    # `scenario.model` checks that the scenario has a target of this name.
    one_of(target, found[1] if found else name, names)
    return str(name)
