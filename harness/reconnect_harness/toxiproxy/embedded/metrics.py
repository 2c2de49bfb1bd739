"""What `/metrics` answers: bytes of each proxy (`-proxy-metrics`), and the process (`-runtime-metrics`).

The names are the original's, but for the runtime: that one is Python's and not Go's. Bytes are counted as they pass;
the original adds them up at the end of a connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from reconnect_harness.toxiproxy.embedded.toxic import ToxicDirection


class LinkLabels(NamedTuple):
    """The labels of the bytes of one direction of a proxy, by the names of the original."""

    direction: str
    proxy: str
    listener: str
    upstream: str


class LinkBytes:
    """The bytes that links with these labels have received from their sources, and sent to their destinations."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


class ToxiproxyMetrics:
    """The metrics of one server.

    Args:
        proxies: whether the bytes of proxies are shown.
        runtime: whether the process is shown.
    """

    def __init__(self, *, proxies: bool = False, runtime: bool = False) -> None:
        self.enabled = proxies or runtime
        self._bytes: dict[LinkLabels, LinkBytes] = {}
        self._registry = CollectorRegistry()
        if proxies:
            self._registry.register(self)
        if runtime:
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)

    def link_bytes(self, direction: ToxicDirection, proxy: str, listener: str, upstream: str) -> LinkBytes:
        """Return the counts of a link's bytes, which the link increments."""
        return self._bytes.setdefault(LinkLabels(direction.value, proxy, listener, upstream), LinkBytes())

    def render(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """Yield the bytes of proxies; `prometheus_client` calls this."""
        for name, text in (("received", "Bytes received from clients and upstreams"), ("sent", "Bytes sent to them")):
            family = CounterMetricFamily(f"toxiproxy_proxy_{name}_bytes", text, labels=LinkLabels._fields)
            for labels, counted in self._bytes.items():
                family.add_metric(labels, getattr(counted, name))
            yield family
