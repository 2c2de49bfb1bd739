"""What Toxiproxy can do to the bytes of a link: every toxic with its attributes, as data.

Read in the source of Toxiproxy 2.12; tests/reconnect_harness/toxiproxy/test_link.py checks it against a running server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

ToxicStream = Literal["upstream", "downstream", "both"]
"""The direction of the bytes that a toxic affects: to the upstream, to the client, or one toxic for each."""

STREAMS: tuple[ToxicStream, ...] = ("upstream", "downstream", "both")


class ToxicAttribute(NamedTuple):
    """One whole-number attribute of a toxic."""

    unit: str
    default: int | None = None
    """The value if none is given; None where there must be one."""
    least: int = 0


TOXICS: Mapping[str, Mapping[str, ToxicAttribute]] = {
    "latency": {"latency": ToxicAttribute("ms"), "jitter": ToxicAttribute("ms", 0)},
    "bandwidth": {"rate": ToxicAttribute("KB/s")},
    "slow_close": {"delay": ToxicAttribute("ms")},
    "timeout": {"timeout": ToxicAttribute("ms", 0)},
    "reset_peer": {"timeout": ToxicAttribute("ms", 0)},
    "slicer": {
        "average_size": ToxicAttribute("bytes", least=1),
        "size_variation": ToxicAttribute("bytes", 0),
        "delay": ToxicAttribute("us", 0),
    },
    "limit_data": {"bytes": ToxicAttribute("bytes")},
}
"""Every toxic of Toxiproxy 2.12 with its attributes.

- ``latency``: every chunk is late by latency +- jitter.
- ``bandwidth``: at most `rate` KB/s pass; 0 holds everything back for as long as it is on, and loses nothing.
- ``slow_close``: the end of a connection is passed on late.
- ``timeout``: all data is dropped, and the connection closed after `timeout`; 0 never closes it. Removing the
  toxic closes the connections that it was on: they have lost bytes.
- ``reset_peer``: at the next data, and `timeout` later, the connection is closed: with an RST if it was made
  on a link with `resets`, or while the toxic was on; else with a FIN.
- ``slicer``: data is cut into packets of average_size +- size_variation, each `delay` after the one before.
- ``limit_data``: each connection is closed after `bytes`, counted from when the toxic was added.
"""


@dataclass(frozen=True, slots=True)
class Toxic:
    """What is done to the bytes of a link.

    Args:
        type: one of `TOXICS`.
        attributes: by name, in the units of `TOXICS`; those with a default may be left out.
        stream: the direction it is on.
        toxicity: the fraction of the connections that it affects, 0 to 1.

    Raises:
        ValueError: one sentence that says what was given, and what is allowed.
    """

    type: str
    attributes: Mapping[str, int] = field(default_factory=dict)
    stream: ToxicStream = "downstream"
    toxicity: float = 1.0

    def __post_init__(self) -> None:
        known = TOXICS.get(self.type)
        if known is None:
            raise ValueError(f"there is no toxic {self.type!r}; there are {', '.join(TOXICS)}")
        if self.stream not in STREAMS:
            raise ValueError(f"the stream of {self.type} is {self.stream!r}; it may be {', '.join(STREAMS)}")
        if not 0 <= self.toxicity <= 1:
            raise ValueError(f"the toxicity of {self.type} is {self.toxicity!r}; it may be 0 to 1")
        for name in self.attributes:
            if name not in known:
                raise ValueError(f"{self.type} has no attribute {name!r}; it has {', '.join(known)}")
        whole = {name: _checked(self.type, name, self.attributes.get(name), known[name]) for name in known}
        # Otherwise Toxiproxy overflows its stack, or slices outside of its data.
        if self.type == "slicer" and whole["size_variation"] >= whole["average_size"]:
            raise ValueError(
                f"the size_variation of slicer is {whole['size_variation']}; "
                f"it must be less than average_size, {whole['average_size']}"
            )
        object.__setattr__(self, "attributes", whole)

    def __str__(self) -> str:
        """Return a short description for reports: ``latency(latency=100ms, jitter=0ms) downstream``."""
        units = TOXICS[self.type]
        inside = ", ".join(f"{name}={value}{units[name].unit}" for name, value in self.attributes.items())
        share = "" if self.toxicity == 1 else f" on {self.toxicity:.0%} of connections"
        return f"{self.type}({inside}) {self.stream}{share}"


def _checked(toxic: str, name: str, value: int | None, attribute: ToxicAttribute) -> int:
    if value is None:
        if attribute.default is None:
            raise ValueError(f"{toxic} needs its attribute {name!r}, in {attribute.unit}")
        return attribute.default
    if isinstance(value, bool) or not isinstance(value, int) or value < attribute.least:
        raise ValueError(
            f"the attribute {name} of {toxic} is {value!r}; "
            f"it must be a whole number of {attribute.unit}, {attribute.least} or more"
        )
    return value
