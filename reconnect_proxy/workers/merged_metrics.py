"""The metrics of several processes as those of one: added up, except where a sum means nothing.

| metric | of all processes |
| --- | --- |
| counters, histograms | the sum. A worker that has died counts with its last values, so that no counter falls |
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

#: Metrics as JSON can hold them: name, help, type, unit, and of each sample its name, labels and value.
MetricFamilies = list[list[Any]]

_EARLIEST = {"process_start_time_seconds"}
_LEAST = {f"{NAMESPACE}_upstream_healthy"}


def families_of(collector: Collector) -> MetricFamilies:
    """Return the metrics of `collector`. This is an encoder, like `prometheus_client.generate_latest`."""
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


def cumulative(families: MetricFamilies) -> MetricFamilies:
    """Return the counters and histograms: what they count has happened, even if the process that counted is gone."""
    return [family for family in families if family[2] in ("counter", "histogram")]


def merged(several: Iterable[MetricFamilies]) -> MetricFamilies:
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


class MergedMetrics(Collector):
    """Metrics that were merged, for an encoder."""

    def __init__(self, families: MetricFamilies) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, text, kind, unit, samples in self._families:
            metric = Metric(name, text, kind, unit)
            metric.samples = [Sample(*sample) for sample in samples]
            yield metric
