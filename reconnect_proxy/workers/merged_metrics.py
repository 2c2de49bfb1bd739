"""The metrics of several processes as those of one: added up, but for those of which a sum says nothing.

| what | of all |
| --- | --- |
| counters, histograms | the sum; also of a worker that has died, as it was last heard of, lest they fall |
| gauges | the sum |
| `_created` of either, `process_start_time_seconds` | the earliest |
| `reconnect_proxy_upstream_healthy` | the least: 0 if any worker has ejected it |
| `reconnect_proxy_info` | that of one |
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from ..observe.gauges import NAMESPACE

__all__ = ["Families", "Merged", "families_of", "lasting", "merged"]

#: Metrics as JSON can hold them: name, help, type, unit, and of each sample its name, labels and value.
Families = list[list[Any]]

_EARLIEST = {"process_start_time_seconds"}
_LEAST = {f"{NAMESPACE}_upstream_healthy"}


def families_of(collector: Collector) -> Families:
    """Return the metrics of `collector`: an encoder like `prometheus_client.generate_latest`."""
    return [
        [
            family.name,
            family.documentation,
            family.type,
            family.unit,
            [[sample.name, sample.labels, sample.value] for sample in family.samples],
        ]
        for family in collector.collect()
    ]


def lasting(families: Families) -> Families:
    """Return those that count what has happened, which does not end with the process that it has happened in."""
    return [family for family in families if family[2] in ("counter", "histogram")]


def merged(several: Iterable[Families]) -> Families:
    """Return the metrics of several processes as those of one."""
    found: dict[str, list[Any]] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in several:
        for name, text, kind, unit, samples in families:
            found.setdefault(name, [name, text, kind, unit, []])
            known = values.setdefault(name, {})
            for sample, labels, value in samples:
                key = sample, tuple(labels.items())
                known[key] = _rule(name, kind, sample)(known[key], value) if key in known else value
    for name, family in found.items():
        family[4] = [[sample, dict(labels), value] for (sample, labels), value in values[name].items()]
    return list(found.values())


def _rule(name: str, kind: str, sample: str) -> Callable[[float, float], float]:
    if kind == "info" or name in _LEAST or name in _EARLIEST or sample.endswith("_created"):
        return min
    return operator.add


class Merged(Collector):
    """Metrics that have been collected already, for an encoder."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Return them."""
        for name, text, kind, unit, samples in self._families:
            metric = Metric(name, text, kind, unit)
            metric.samples = [Sample(*sample) for sample in samples]
            yield metric
