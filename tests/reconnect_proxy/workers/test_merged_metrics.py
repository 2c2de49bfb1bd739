"""The metrics of several processes as those of one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from reconnect_proxy.workers.merged_metrics import MergedMetrics, MetricFamilies, cumulative, families_of, merged


def process(requests: int, healthy: int, start: float, latency: float) -> MetricFamilies:
    """Return the metrics of a process that has had so many requests."""
    registry = CollectorRegistry()
    Counter("requests", "What was asked.", ["kind"], registry=registry).labels("x").inc(requests)
    Gauge("open", "What is open.", registry=registry).set(requests)
    Gauge("reconnect_proxy_upstream_healthy", "Whether.", ["upstream"], registry=registry).labels("u").set(healthy)
    Gauge("process_start_time_seconds", "When.", registry=registry).set(start)
    Histogram("latency_seconds", "How long.", buckets=(1.0, 2.0), registry=registry).observe(latency)
    Info("reconnect_proxy", "Which.", registry=registry).info({"version": "1"})
    return families_of(registry)


def lines(*several: MetricFamilies) -> list[str]:
    """Return the samples of several processes together, as Prometheus reads them."""
    text = generate_latest(MergedMetrics(merged(several))).decode()  # type: ignore[arg-type]  # it only collects
    return [line for line in text.splitlines() if not line.startswith("#") and "_created" not in line]


def test_which_metrics_are_added_up() -> None:
    """Counters, gauges and histograms are; of health the least counts, of times the earliest."""
    assert lines(process(3, 1, 50.0, 0.5), process(4, 0, 40.0, 1.5)) == [
        'requests_total{kind="x"} 7.0',
        "open 7.0",
        'reconnect_proxy_upstream_healthy{upstream="u"} 0.0',
        "process_start_time_seconds 40.0",
        'latency_seconds_bucket{le="1.0"} 1.0',
        'latency_seconds_bucket{le="2.0"} 2.0',
        'latency_seconds_bucket{le="+Inf"} 2.0',
        "latency_seconds_count 2.0",
        "latency_seconds_sum 2.0",
        'reconnect_proxy_info{version="1"} 1.0',
    ]


def test_the_metrics_of_one_process_are_not_changed() -> None:
    """In either format."""
    registry = CollectorRegistry()
    Counter("requests", "What was asked.", ["kind"], registry=registry).labels('x"y\\z\n').inc()
    Histogram("latency_seconds", "How long.", registry=registry).observe(1)
    for encode in (generate_latest, generate_openmetrics):
        assert encode(MergedMetrics(merged([families_of(registry)]))) == encode(registry)  # type: ignore[arg-type, operator]


def test_a_series_of_one_process_only_is_kept() -> None:
    """For instance a close code with which only one worker has ended sessions."""
    registry = CollectorRegistry()
    requests = Counter("requests", "What was asked.", ["kind"], registry=registry)
    requests.labels("y").inc(2)
    assert lines(process(1, 1, 0.0, 0.5), families_of(registry))[:2] == [
        'requests_total{kind="x"} 1.0',
        'requests_total{kind="y"} 2.0',
    ]


def test_counters_and_histograms_are_cumulative() -> None:
    """They are kept of a process that has ended; its gauges are not."""
    assert [family[0] for family in cumulative(process(1, 1, 0.0, 0.5))] == ["requests", "latency_seconds"]
