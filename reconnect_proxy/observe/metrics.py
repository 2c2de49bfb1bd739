"""What the proxy counts, for Prometheus: what has happened since its start, and what it holds at a scrape.

The first is counted event by event (`Metrics.count` is an `Observe`), never per message. The second is read from
the sessions when somebody asks for it, so that it costs nothing in between. The messages and bytes that came are both:
a session's own counts while it lives, and what it had received in all once it has ended, so that their sum is exact
and never falls.

| metric | labels |
| --- | --- |
| `reconnect_proxy_info` | `version`, `mode` |
| `reconnect_proxy_sessions_opened_total` | `connected`: whether the upstream was there |
| `reconnect_proxy_sessions_ended_total` | `code` |
| `reconnect_proxy_legs_lost_total` | `leg`, `code` |
| `reconnect_proxy_legs_resumed_total` | `leg` |
| `reconnect_proxy_recovery_seconds` (histogram) | `leg`: from its loss until it was resumed |
| `reconnect_proxy_messages_total`, `_message_bytes_total` | `direction`: received from peers |
| `reconnect_proxy_messages_resent_total` | `leg` they were sent on again |
| `reconnect_proxy_messages_uncertain_total` | `leg`, `outcome`: `resent` or `dropped` |
| `reconnect_proxy_messages_undelivered_total` | `direction`: accepted, and lost with their session |
| `reconnect_proxy_messages_dropped_by_hook_total` | `direction`: counted when their session ends |
| `reconnect_proxy_hook_errors_total` | `hook` |
| `reconnect_proxy_legs_mute_total` | `leg` |
| `reconnect_proxy_takeovers_total`, `_slow_clients_closed_total` | |
| `reconnect_proxy_redials_total`, `_dial_failures_total` | |
| `reconnect_proxy_dial_seconds` (histogram) | `upstream`, `outcome`; from the dial's turn on |
| `reconnect_proxy_upstream_ejections_total`, `_upstream_returns_total` | `upstream` |
| `reconnect_proxy_refusals_total` | `status`, `error` |
| `reconnect_proxy_limits_reached_total` | `limit`: one of a session, or `held` of all |
| `reconnect_proxy_limit_used`, `reconnect_proxy_limit` (gauges) | `limit`: `sessions`, `handshakes`, `held` |
| `reconnect_proxy_tls_handshake_failures_total` | clients that came to no TLS |
| `reconnect_proxy_tls_reloads_total` | `leg`, `outcome`: `ok`, or `failed` and left as it was |
| `reconnect_proxy_http_requests_total` | `status`: of the upstream's answer, `2xx` |
| `reconnect_proxy_http_failures_total` | `status`: `502`, `504`, `cut` where the answer had begun |
| `reconnect_proxy_sessions_ended_by_operator_total` | |
| `reconnect_proxy_admin_refusals_total` | `status`: 401, 403, 421 |
| `reconnect_proxy_clients_handed_on_total` | `relayed`: their TLS could not go with them |
| `reconnect_proxy_workers_lost_total`, `_sessions_lost_total` | |
| `reconnect_proxy_worker_up`, `_worker_sessions` (gauges) | `worker`: with several, see `workers` |
| `reconnect_proxy_sessions` (gauge) | `state` |
| `reconnect_proxy_legs_connected` (gauge) | `leg` |
| `reconnect_proxy_upstream_healthy` (gauge) | `upstream`: 1, or 0 while it is ejected |
| `reconnect_proxy_upstream_sessions` (gauge) | `upstream`: connected to it |
| `reconnect_proxy_dials` (gauge) | `upstream`, `state`: running, or waiting for their turn |
| `reconnect_proxy_queue_messages`, `_queue_bytes`, `_queues_full` (gauges) | `direction`: not confirmed yet |
| `reconnect_proxy_event_loop_lag_seconds` (histogram) | how late the event loop was, see `loop_lag` |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from .. import events
from ..core.context import Context
from ..core.policy import Mode
from ..events import Event, LegName
from ..introspection import Usage
from .gauges import DIRECTIONS, NAMESPACE, LiveUsage, Sessions

if TYPE_CHECKING:
    from ..core.target import UpstreamInfo

__all__ = ["Metrics"]

M = TypeVar("M", bound=MetricWrapperBase)
Encoded = TypeVar("Encoded")

#: The label of the limit that no single session reaches.
HELD = "held"

#: Seconds. A redial starts within 100 ms and backs off to 3 s; a client may stay away for a grace of minutes.
RECOVERY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)
#: Seconds. A loop that has time is within its clock's grain of 1 ms; at 1 s health probes begin to fail.
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

#: Seconds. A handshake on a local network takes a millisecond or two; by default a dial is given up after five seconds.
DIAL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Series(Generic[M]):
    """The series of one metric with labels, each looked up in the metric once: that takes longer than to count.

    All labels are words of our own, so there are no more series than there are such words.
    """

    __slots__ = ("_metric", "_series")

    def __init__(self, metric: M) -> None:
        self._metric = metric
        self._series: dict[tuple[str | int, ...], M] = {}

    def labels(self, *labels: str | int) -> M:
        """Return the series with these labels."""
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = self._metric.labels(*labels)
        return found


class Metrics:
    """The counters of one proxy, registered with `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, namespace=NAMESPACE, registry=registry)

        def counters(name: str, text: str, *labels: str) -> _Series[Counter]:
            return _Series(Counter(name, text, labels, namespace=NAMESPACE, registry=registry))

        self._opened = counters("sessions_opened", "Sessions opened, by whether the upstream was there.", "connected")
        self._ended = counters("sessions_ended", "Sessions ended, by close code.", "code")
        self._lost = counters("legs_lost", "Links lost, by leg and close code.", "leg", "code")
        self._resumed = counters("legs_resumed", "Legs that got a link again.", "leg")
        self._resent = counters("messages_resent", "Messages sent again on a new link.", "leg")
        self._uncertain = counters(
            "messages_uncertain",
            "Messages whose arrival a lost peer could not tell: resent, and may have come twice, or dropped.",
            "leg",
            "outcome",
        )
        self._undelivered = counters("messages_undelivered", "Messages lost with their session.", "direction")
        self._hook_dropped = counters("messages_dropped_by_hook", "Messages dropped by on_message.", "direction")
        self._hook_errors = counters("hook_errors", "Failures of the embedding program's hooks.", "hook")
        self._mute = counters("legs_mute", "Legs whose peer answers no Ping.", "leg")
        self._taken_over = counter("takeovers", "Clients that came back before their old link was lost.")
        self._slow = counter("slow_clients_closed", "Receiver clients closed for being too slow.")
        self._redials = counter("redials", "Attempts to reach a lost upstream again.")
        self._dial_failures = counter("dial_failures", "Dials that came to nothing.")
        self._refusals = counters("refusals", "Clients answered with an HTTP error.", "status", "error")
        self._tls_failures = counter("tls_handshake_failures", "Clients that came to no TLS.")
        self._tls_reloads = counters(
            "tls_reloads", "Times that certificates were read anew, or failed to be.", "leg", "outcome"
        )
        self._http = counters("http_requests", "Plain HTTP requests answered by an upstream.", "status")
        self._http_failures = counters("http_failures", "Plain HTTP requests failed by an upstream.", "status")
        self._ended_by_operator = counter("sessions_ended_by_operator", "Sessions ended through the admin listener.")
        self._admin_refusals = counters("admin_refusals", "Requests that the admin listener refused.", "status")
        self._limits = counters("limits_reached", "Times that a limit was reached by sessions that are alive.", "limit")
        self._handed_on = counters(
            "clients_handed_on", "Clients that had come to another worker than their session's.", "relayed"
        )
        self._workers_lost = counter("workers_lost", "Workers that died.")
        self._sessions_lost = counter("sessions_lost", "Sessions that died with their worker.")
        self._recovery = _Series(
            Histogram(
                "recovery_seconds",
                "Seconds from the loss of a leg until it was resumed.",
                ["leg"],
                namespace=NAMESPACE,
                registry=registry,
                buckets=RECOVERY_BUCKETS,
            )
        )
        self._dials = _Series(
            Histogram(
                "dial_seconds",
                "Seconds that dials of an upstream took, from their turn on.",
                ["upstream", "outcome"],
                namespace=NAMESPACE,
                registry=registry,
                buckets=DIAL_BUCKETS,
            )
        )
        self._ejections = counters("upstream_ejections", "Times that an upstream was found to be down.", "upstream")
        self._returns = counters("upstream_returns", "Times that an upstream that was down came back.", "upstream")
        #: Seconds by which the event loop was late, each time it was looked at.
        self.loop_lag = Histogram(
            "event_loop_lag_seconds",
            "How late the event loop ran a timer, sampled once a second.",
            namespace=NAMESPACE,
            registry=registry,
            buckets=LAG_BUCKETS,
        )
        self._sessions = Sessions()
        registry.register(self._sessions)
        # A series that is there from the start can be told from one that is misspelt.
        for leg in LegName:
            for series in (self._resumed, self._resent, self._mute, self._recovery):
                series.labels(leg)
            for outcome in ("ok", "failed"):
                self._tls_reloads.labels(leg, outcome)
            for outcome in ("resent", "dropped"):
                self._uncertain.labels(leg, outcome)
        for direction in DIRECTIONS:
            self._undelivered.labels(direction)
            self._hook_dropped.labels(direction)
        for connected in ("true", "false"):
            self._opened.labels(connected)
        for relayed in ("true", "false"):
            self._handed_on.labels(relayed)
        for code in (1000, 1001, 1014):
            self._ended.labels(code_label(code))
        for limit in (*events.Limit, HELD):
            self._limits.labels(limit)

    def watch(self, mode: Mode, living: Callable[[], Collection[Context]]) -> None:
        """Report the sessions of a proxy in `mode` that `living` returns at every scrape: `Proxy.contexts`."""
        self._sessions.living = living
        build = Info(NAMESPACE, "The version that runs, and in which mode.", registry=self.registry)
        build.info({"version": version("reconnect-proxy"), "mode": mode})

    async def scrape(self, encode: Callable[[Collector], Encoded]) -> Encoded:
        """Return all metrics as `encode` writes them: `prometheus_client.generate_latest`, for one."""
        census = await self._sessions.take_census()
        self._sessions.census = census
        try:
            return encode(self.registry)
        finally:
            self._sessions.census = None

    def watch_upstreams(self, upstreams: Callable[[], Iterable[UpstreamInfo]]) -> None:
        """Report the upstreams that `upstreams` lists, `Proxy.upstreams` for one, at every scrape."""
        self.registry.register(LiveUpstreams(upstreams))

    def watch_limits(self, usage: Callable[[], Iterable[Usage]]) -> None:
        """Report what `usage` says, `Proxy.usage` for one, at every scrape."""
        self.registry.register(LiveUsage(usage))

    def count(self, event: Event) -> None:
        """Count `event`."""
        match event:
            case events.Dialled(upstream=upstream, outcome=outcome, seconds=seconds):
                self._dials.labels(upstream, outcome).observe(seconds)
            case events.SessionOpened(connected=connected):
                self._opened.labels("true" if connected else "false").inc()
            case events.SessionEnded():
                self._ended.labels(code_label(event.code)).inc()
                if event.undelivered_c2u or event.undelivered_u2c:
                    self._undelivered.labels("c2u").inc(event.undelivered_c2u)
                    self._undelivered.labels("u2c").inc(event.undelivered_u2c)
                self._sessions.ended(event)
            case events.LegLost(leg=leg, code=code):
                self._lost.labels(leg, code_label(code)).inc()
            case events.Resumed(leg=leg, resent=resent, away=away, aware=aware):
                self._resumed.labels(leg).inc()
                self._recovery.labels(leg).observe(away)
                if resent:
                    self._resent.labels(leg).inc(resent)
                if resent and not aware:
                    self._uncertain.labels(leg, "resent").inc(resent)
            case events.UncertainDropped(leg=leg, count=count):
                self._uncertain.labels(leg, "dropped").inc(count)
            case events.MessagesDropped(c2u=c2u, u2c=u2c):
                self._hook_dropped.labels("c2u").inc(c2u)
                self._hook_dropped.labels("u2c").inc(u2c)
            case events.HookFailed(hook=hook):
                self._hook_errors.labels(hook).inc()
            case events.LegMute(leg=leg):
                self._mute.labels(leg).inc()
            case events.Refused(status=status, error=error):
                self._refusals.labels(status, error).inc()
            case events.TlsHandshakeFailed():
                self._tls_failures.inc()
            case events.TlsReloaded(leg=leg):
                self._tls_reloads.labels(leg, "ok").inc()
            case events.TlsReloadFailed(leg=leg):
                self._tls_reloads.labels(leg, "failed").inc()
            case events.HttpRelayed(status=status):
                self._http.labels(f"{status // 100}xx").inc()
            case events.HttpFailed(status=status):
                self._http_failures.labels(str(status) if status else "cut").inc()
            case events.EndedByOperator():
                self._ended_by_operator.inc()
            case events.AdminRefused(status=status):
                self._admin_refusals.labels(status).inc()
            case events.HandedOn(relayed=relayed):
                self._handed_on.labels("true" if relayed else "false").inc()
            case events.WorkerLost(sessions=sessions):
                self._workers_lost.inc()
                self._sessions_lost.inc(sessions)
            case events.LimitReached(limit=limit):
                self._limits.labels(limit).inc()
            case events.HeldLimitReached():
                self._limits.labels(HELD).inc()
            case events.TakenOver():
                self._taken_over.inc()
            case events.SlowClientClosed():
                self._slow.inc()
            case events.Redial():
                self._redials.inc()
            case events.DialFailed():
                self._dial_failures.inc()
            case events.UpstreamEjected(upstream=upstream):
                self._ejections.labels(upstream).inc()
            case events.UpstreamReturned(upstream=upstream):
                self._returns.labels(upstream).inc()


def worker_families(workers: Iterable[tuple[bool, int]]) -> Collector:
    """Return a collector of the metrics about workers: of each, whether it answers, and how many sessions it has."""
    up = GaugeMetricFamily(f"{NAMESPACE}_worker_up", "Whether a worker serves, and answers.", labels=["worker"])
    sessions = GaugeMetricFamily(f"{NAMESPACE}_worker_sessions", "Sessions that a worker has.", labels=["worker"])
    for number, (serves, count) in enumerate(workers):
        up.add_metric([str(number)], serves)
        sessions.add_metric([str(number)], count)
    return Gathered([up, sessions])


class Gathered(Collector):
    """Metrics that are there already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Return them."""
        yield from self._families


def code_label(code: int) -> str:
    """Return `code` as a label.

    A peer may close with any of the two thousand codes from 3000 on. They share two labels, so that nobody can
    fill the memory of the proxy, or of Prometheus, with series; 4000 is the proxy's own "taken over".
    """
    if 1000 <= code <= 1015 or code == 4000:
        return str(code)
    return f"{code // 1000}xxx" if 1000 <= code < 5000 else "other"


class LiveUpstreams(Collector):
    """Asks the pool how its upstreams are, when Prometheus asks."""

    def __init__(self, upstreams: Callable[[], Iterable[UpstreamInfo]]) -> None:
        self._upstreams = upstreams

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the metrics."""
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask once."""
        healthy, sessions, dials = families = self._families()
        for upstream in self._upstreams():
            healthy.add_metric([upstream.url], upstream.healthy)
            sessions.add_metric([upstream.url], upstream.sessions)
            dials.add_metric([upstream.url, "running"], upstream.dials_running)
            dials.add_metric([upstream.url, "waiting"], upstream.dials_waiting)
        yield from families

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
        name = f"{NAMESPACE}_upstream"
        return (
            GaugeMetricFamily(f"{name}_healthy", "Whether an upstream is used; 0 while ejected.", labels=["upstream"]),
            GaugeMetricFamily(f"{name}_sessions", "Sessions connected to an upstream.", labels=["upstream"]),
            GaugeMetricFamily(
                f"{NAMESPACE}_dials", "Dials in progress, and waiting for their turn.", labels=["upstream", "state"]
            ),
        )
