"""How much of each limit of the whole proxy is used: read when Prometheus asks, so that it costs nothing in between.

An alert on `reconnect_proxy_limit_used / reconnect_proxy_limit` says that a limit is near before it is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .census import NAMESPACE

__all__ = ["LiveUsage", "Usage"]


class Usage(NamedTuple):
    """What is `used` of `limit` (its name), of which there may be `most`; None: as many as come."""

    limit: str
    used: int
    most: int | None


class LiveUsage(Collector):
    """Asks the proxy for its limits, when Prometheus asks."""

    def __init__(self, usage: Callable[[], Iterable[Usage]]) -> None:
        self._usage = usage

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the metrics."""
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask once."""
        used, most = families = self._families()
        for usage in self._usage():
            used.add_metric([usage.limit], usage.used)
            if usage.most is not None:
                most.add_metric([usage.limit], usage.most)
        yield from families

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(f"{NAMESPACE}_limit_used", "What is used of a limit of the proxy.", labels=["limit"]),
            GaugeMetricFamily(f"{NAMESPACE}_limit", "A limit of the whole proxy.", labels=["limit"]),
        )
