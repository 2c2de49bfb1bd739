"""An entry of a scenario's `faults`, and the `Fault` that it stands for.

    {at: 1s, link: upstream, do: down, for: 400ms, times: 5, every: 1.2s}
    {at: 1s..7s, link: client, do: latency, for: 2s, latency: 100ms, jitter: 20ms, stream: upstream}
    {at: 2s, container: db, do: disconnect, network: lab, for: 1s}

Beside the keys of every fault it has the attributes of its toxic. A moment or number may be a range, `1s..7s`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from reconnect_harness.faults.fault import CONTAINER_FAULTS, FAULTS, Fault
from reconnect_harness.toxiproxy.toxics import TOXICS
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
)
from reconnect_proxy.units import parse_size

#: What a fault can be done to: clients -> [client] -> proxy -> [middle] -> proxy -> [upstream] -> upstream. Where there
#: are several of a sort they have numbers: upstream-1, upstream-2. What containers are called the scenario says.
TARGETS: Mapping[str, tuple[str, ...] | None] = {
    "link": ("upstream", "client", "middle"),
    "process": ("upstream", "proxy", "clients"),
    "container": None,
}

_NUMBERED = re.compile(r"(upstream|middle|proxy)-[1-9]")

#: How the values of the keys of every fault are read.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "at": lambda given: value_or_range(seconds, given),
    "for": lambda given: value_or_range(seconds, given),
    "every": lambda given: value_or_range(seconds, given),
    "times": whole_number,
    "stream": str,
    "toxicity": fraction,
}

#: How the attributes of toxics are read, by their unit.
_UNITS: Mapping[str, Callable[[Any], int]] = {
    "ms": milliseconds,
    "us": microseconds,
    "bytes": parse_size,
    "KB/s": kilobytes,
}

#: What `Fault` calls a key whose name Python does not allow.
_NAMES = {"for": "lasts"}


def fault(given: object) -> Fault:
    """Return the fault of an entry; ValueError says what is wrong with it."""
    entry = mapping(given, "such as {at: 1s, link: upstream, do: down, for: 400ms}")
    for key in ("do", "at"):
        if key not in entry:
            raise ValueError(f"a fault needs `{key}`; it has {', '.join(map(str, entry)) or 'nothing'}")
    container = "container" in entry
    known = CONTAINER_FAULTS if container else FAULTS
    do = entry["do"]
    if isinstance(do, str) and do in CONTAINER_FAULTS and do not in known:
        raise ValueError(f"{do} is done to a container: it needs `container`")
    do = one_of("fault of a container" if container else "fault", do, known)
    kind = known[do]
    units = {name: attribute.unit for name, attribute in TOXICS[kind.toxic].items()} if kind.toxic else {}
    keys = ["do", *TARGETS, *_READERS, *units, *(["network"] if do in ("disconnect", "connect") else [])]
    values: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for key, value in entry.items():
        one_of(f"key of {do}", key, keys)
        try:
            if key in units:
                attributes[key] = value_or_range(_UNITS[units[key]], value)
            elif key in _READERS:
                values[_NAMES.get(key, key)] = _READERS[key](value)
            elif key == "network":
                values[key] = str(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    target = _target(entry, do, kind.target)
    return Fault(do, target, **values, attributes=attributes, container=container)


def _target(entry: Mapping[str, Any], do: str, kind: str) -> str:
    """Return the name of the link, process or container that a fault is done to."""
    others = [sort for sort in TARGETS if sort != kind and sort in entry]
    if kind not in entry or others:
        and_not = f", and not `{others[0]}`" if others else ""
        raise ValueError(f"{do} is done to a {kind}: it needs `{kind}`{and_not}")
    name = entry[kind]
    names = TARGETS[kind]
    if names is None:
        return str(name)
    found = _NUMBERED.fullmatch(name) if isinstance(name, str) else None
    # Which of them there are is for the scenario to say.
    one_of(kind, found[1] if found else name, names)
    return str(name)
