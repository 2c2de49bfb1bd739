"""What `/metrics` answers: bytes of each proxy (`-proxy-metrics`), and the process (`-runtime-metrics`).

The names are the original's, but for the runtime: that one is Python's and not Go's. Bytes are counted as they pass;
the original adds them up at the end of a connection.
"""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

_LABELS = ("direction", "proxy", "listener", "upstream")


class LinkBytes(NamedTuple):
    """The bytes that links with the same labels have received from their sources, and sent to their destinations."""

    received: Counter
    sent: Counter


class ToxiproxyMetrics:
    """The metrics of one server: the bytes of `proxies` if they are to be shown, and the `runtime`."""

    def __init__(self, *, proxies: bool = False, runtime: bool = False) -> None:
        self.enabled = proxies or runtime
        self._registry = CollectorRegistry()
        self._bytes = LinkBytes(
            Counter("toxiproxy_proxy_received_bytes", "Bytes from clients and upstreams", _LABELS, registry=None),
            Counter("toxiproxy_proxy_sent_bytes", "Bytes to them", _LABELS, registry=None),
        )
        if proxies:
            for counter in self._bytes:
                self._registry.register(counter)
        if runtime:
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=self._registry)

    def link_bytes(self, *labels: str) -> LinkBytes:
        """Return the counts of links by direction, proxy, listener and upstream."""
        return LinkBytes(*(counter.labels(*labels) for counter in self._bytes))

    def render(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4
