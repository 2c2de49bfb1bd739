"""What the proxy counts, for Prometheus: what has happened since its start, and what it holds at a scrape.

The first is counted event by event (`Metrics.count` is an `Observe`), as `event_table` says, and never per message. The
second is read at a scrape, see `gauges`. The name, the help text and the labels of each metric are declared once, in
these two places.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from importlib.metadata import version
from itertools import product
from operator import attrgetter
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.registry import Collector

from ..core.context import Context
from ..core.policy import Mode
from ..core.target import UpstreamInfo
from ..events import Event, SessionEnded
from ..introspection import Usage
from .event_table import EVENTS, Count, MetricRow
from .gauges import NAMESPACE, LimitGauges, SessionGauges, UpstreamGauges

Encoded = TypeVar("Encoded")
Add = Callable[[float], None]

#: Seconds. A loop that has time is within its clock's grain of 1 ms; at 1 s health probes begin to fail.
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The counters of one proxy, registered with `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._sessions = SessionGauges()
        registry.register(self._sessions)
        # What is called with each event of a kind.
        self._counters: dict[type[Event], tuple[Callable[[Any], None], ...]] = {}
        made: dict[MetricRow, Counter | Histogram] = {}
        for kind, row in EVENTS.items():
            for count in row.counts:
                if count.metric not in made:
                    made[count.metric] = _register(count.metric, registry)
            self._counters[kind] = tuple(_counter(count, made[count.metric]) for count in row.counts)
        self._counters[SessionEnded] += (self._sessions.ended,)
        #: Seconds by which the event loop was late, each time it was looked at.
        self.loop_lag = Histogram(
            "event_loop_lag_seconds",
            "How late the event loop ran a timer, sampled once a second. Every message waits as long.",
            namespace=NAMESPACE,
            registry=registry,
            buckets=LAG_BUCKETS,
        )

    def count(self, event: Event) -> None:
        for counter in self._counters[type(event)]:
            counter(event)

    def watch(self, mode: Mode, living: Callable[[], Collection[Context]]) -> None:
        """Report the sessions of a proxy in `mode` that `living` returns at every scrape: `Proxy.contexts`."""
        self._sessions.living = living
        build = Info(NAMESPACE, "The version that runs, and its mode.", registry=self.registry)
        build.info({"version": version("reconnect-proxy"), "mode": mode})

    def watch_upstreams(self, upstreams: Callable[[], Iterable[UpstreamInfo]]) -> None:
        """Report the upstreams that `upstreams` lists, `Proxy.upstreams` for one, at every scrape."""
        self.registry.register(UpstreamGauges(upstreams))

    def watch_limits(self, usage: Callable[[], Iterable[Usage]]) -> None:
        """Report what `usage` says, `Proxy.usage` for one, at every scrape."""
        self.registry.register(LimitGauges(usage))

    async def scrape(self, encode: Callable[[Collector], Encoded]) -> Encoded:
        """Return all metrics as `encode` writes them: `prometheus_client.generate_latest`, for one."""
        totals = await self._sessions.add_up()
        self._sessions.totals = totals
        try:
            return encode(self.registry)
        finally:
            self._sessions.totals = None


def _register(row: MetricRow, registry: CollectorRegistry) -> Counter | Histogram:
    """Make the metric of a row, with those of its series that exist from the start."""
    labels = [label.name for label in row.labels]
    metric: Counter | Histogram
    if row.buckets:
        metric = Histogram(row.name, row.help, labels, namespace=NAMESPACE, registry=registry, buckets=row.buckets)
    else:
        metric = Counter(row.name, row.help, labels, namespace=NAMESPACE, registry=registry)
    if labels:
        for values in product(*[label.known for label in row.labels]):
            metric.labels(*values)
    return metric


class _Series(dict[Any, Add]):
    """What adds to each series of a metric, by the fields of the event that its labels are written from.

    Each series is looked up in the metric once, because that takes longer than to count. There are few: all such fields
    are words of our own, or numbers of three or four digits.
    """

    def __init__(self, count: Count, metric: Counter | Histogram) -> None:
        self._metric = metric
        self._constant = count.constant or {}
        self._labels = [label for label in count.metric.labels if label.name not in self._constant]
        self.fields = [label.name for label in self._labels]

    def __missing__(self, key: Any) -> Add:
        # `attrgetter` returns the value of one field, and a tuple of several.
        values = (key,) if len(self._labels) == 1 else key
        labels = dict(self._constant)
        for label, value in zip(self._labels, values, strict=True):
            labels[label.name] = value if label.write is None else label.write(value)
        series = self._metric.labels(**labels) if labels else self._metric
        add = self[key] = series.inc if isinstance(series, Counter) else series.observe
        return add


def _counter(count: Count, metric: Counter | Histogram) -> Callable[[Any], None]:
    """Return what counts one event as `count` says: a closure that does only what this count needs."""
    series = _Series(count, metric)
    if not count.amount:
        if not series.fields:
            add = series[()]
            return lambda event: add(1)
        key = attrgetter(*series.fields)
        return lambda event: series[key(event)](1)
    amount = attrgetter(count.amount)
    key_of: Callable[[Any], Any] = attrgetter(*series.fields) if series.fields else lambda event: ()
    if isinstance(metric, Histogram):
        return lambda event: series[key_of(event)](amount(event))

    def count_some(event: Any) -> None:
        some = amount(event)
        if some:
            series[key_of(event)](some)

    return count_some
