"""What the proxy counts, for Prometheus: what has happened since its start, and what it holds at a scrape.

The first is counted event by event (`Metrics.count` is an `Observe`), never per message. The second is read from
the sessions when somebody asks for it, so that it costs nothing in between.

| metric | labels |
| --- | --- |
| `reconnect_proxy_sessions_opened_total` | `connected`: whether the upstream was there |
| `reconnect_proxy_sessions_ended_total` | `code` |
| `reconnect_proxy_legs_lost_total` | `leg`, `code` |
| `reconnect_proxy_legs_resumed_total` | `leg` |
| `reconnect_proxy_recovery_seconds` (histogram) | `leg`: from its loss until it was resumed |
| `reconnect_proxy_messages_resent_total` | `leg` they were sent on again |
| `reconnect_proxy_messages_uncertain_dropped_total` | `leg` |
| `reconnect_proxy_messages_undelivered_total` | `direction`: accepted, and lost with their session |
| `reconnect_proxy_messages_dropped_by_hook_total` | `direction`: counted when their session ends |
| `reconnect_proxy_hook_errors_total` | `hook` |
| `reconnect_proxy_legs_mute_total` | `leg` |
| `reconnect_proxy_takeovers_total`, `_slow_clients_closed_total` | |
| `reconnect_proxy_redials_total`, `_dial_failures_total` | |
| `reconnect_proxy_dial_seconds` (histogram) | `upstream`, `outcome`; from the dial's turn on |
| `reconnect_proxy_upstream_ejections_total`, `_upstream_returns_total` | `upstream` |
| `reconnect_proxy_refusals_total` | `status`, `error` |
| `reconnect_proxy_tls_handshake_failures_total` | clients that came to no TLS |
| `reconnect_proxy_tls_reloads_total` | `leg`, `outcome`: `ok`, or `failed` and left as it was |
| `reconnect_proxy_sessions` (gauge) | `state` |
| `reconnect_proxy_legs_connected` (gauge) | `leg` |
| `reconnect_proxy_session_messages` (gauge) | `direction`: relayed so far by the sessions that are alive |
| `reconnect_proxy_upstream_healthy` (gauge) | `upstream`: 1, or 0 while it is ejected |
| `reconnect_proxy_upstream_sessions` (gauge) | `upstream`: connected to it |
| `reconnect_proxy_dials` (gauge) | `upstream`, `state`: running, or waiting for their turn |
| `reconnect_proxy_queued_messages`, `_held_bytes` (gauges) | `direction`: not confirmed yet |
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .core.events import (
    DialFailed,
    Dialled,
    Event,
    HookFailed,
    LegLost,
    LegMute,
    LegName,
    MessagesDropped,
    Redial,
    Refused,
    Resumed,
    SessionEnded,
    SessionOpened,
    SlowClientClosed,
    TakenOver,
    TlsHandshakeFailed,
    TlsReloaded,
    TlsReloadFailed,
    UncertainDropped,
    UpstreamEjected,
    UpstreamReturned,
)

if TYPE_CHECKING:
    from .core.target import UpstreamInfo
    from .proxy import SessionInfo

__all__ = ["Metrics"]

NAMESPACE = "reconnect_proxy"

#: Seconds. A redial starts within 100 ms and backs off to 3 s; a client may stay away for a grace of minutes.
RECOVERY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)

#: Seconds. A handshake on a local network takes a millisecond or two; by default a dial is given up after five seconds.
DIAL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one proxy, registered with `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace=NAMESPACE, registry=registry)

        self._opened = counter("sessions_opened", "Sessions opened.", "connected")
        self._ended = counter("sessions_ended", "Sessions ended, by close code.", "code")
        self._lost = counter("legs_lost", "Links lost, by leg and close code.", "leg", "code")
        self._resumed = counter("legs_resumed", "Legs that got a link again.", "leg")
        self._resent = counter("messages_resent", "Messages sent again on a new link.", "leg")
        self._dropped = counter("messages_uncertain_dropped", "Uncertain messages dropped, as configured.", "leg")
        self._undelivered = counter("messages_undelivered", "Messages lost with their session.", "direction")
        self._hook_dropped = counter("messages_dropped_by_hook", "Messages dropped by on_message.", "direction")
        self._hook_errors = counter("hook_errors", "Failures of the embedding program's hooks.", "hook")
        self._mute = counter("legs_mute", "Legs whose peer answers no Ping.", "leg")
        self._taken_over = counter("takeovers", "Clients that came back before their old link was lost.")
        self._slow = counter("slow_clients_closed", "Receiver clients closed for being too slow.")
        self._redials = counter("redials", "Attempts to reach a lost upstream again.")
        self._dial_failures = counter("dial_failures", "Dials that came to nothing.")
        self._refusals = counter("refusals", "Clients answered with an HTTP error.", "status", "error")
        self._tls_failures = counter("tls_handshake_failures", "Clients that came to no TLS.")
        self._tls_reloads = counter(
            "tls_reloads", "Times that certificates were read anew, or failed to be.", "leg", "outcome"
        )
        self._recovery = Histogram(
            "recovery_seconds",
            "Seconds from the loss of a leg until it was resumed.",
            ["leg"],
            namespace=NAMESPACE,
            registry=registry,
            buckets=RECOVERY_BUCKETS,
        )
        self._dials = Histogram(
            "dial_seconds",
            "Seconds that dials of an upstream took, from their turn on.",
            ["upstream", "outcome"],
            namespace=NAMESPACE,
            registry=registry,
            buckets=DIAL_BUCKETS,
        )
        self._ejections = counter("upstream_ejections", "Times that an upstream was found to be down.", "upstream")
        self._returns = counter("upstream_returns", "Times that an upstream that was down came back.", "upstream")
        # A series that is there from the start can be told from one that is misspelt.
        for leg in LegName:
            for series in (self._resumed, self._resent, self._dropped, self._mute, self._recovery):
                series.labels(leg)
            for outcome in ("ok", "failed"):
                self._tls_reloads.labels(leg, outcome)
        for direction in ("c2u", "u2c"):
            self._undelivered.labels(direction)
            self._hook_dropped.labels(direction)

    def watch(self, sessions: Callable[[], Iterable[SessionInfo]]) -> None:
        """Report the sessions that `sessions` lists, `Proxy.sessions` for one, at every scrape."""
        self.registry.register(LiveSessions(sessions))

    def watch_upstreams(self, upstreams: Callable[[], Iterable[UpstreamInfo]]) -> None:
        """Report the upstreams that `upstreams` lists, `Proxy.upstreams` for one, at every scrape."""
        self.registry.register(LiveUpstreams(upstreams))

    def count(self, event: Event) -> None:
        """Count `event`."""
        match event:
            case SessionOpened(connected=connected):
                self._opened.labels("true" if connected else "false").inc()
            case SessionEnded(code=code, undelivered_c2u=c2u, undelivered_u2c=u2c):
                self._ended.labels(code_label(code)).inc()
                self._undelivered.labels("c2u").inc(c2u)
                self._undelivered.labels("u2c").inc(u2c)
            case LegLost(leg=leg, code=code):
                self._lost.labels(leg, code_label(code)).inc()
            case Resumed(leg=leg, resent=resent, away=away):
                self._resumed.labels(leg).inc()
                self._resent.labels(leg).inc(resent)
                self._recovery.labels(leg).observe(away)
            case UncertainDropped(leg=leg, count=count):
                self._dropped.labels(leg).inc(count)
            case MessagesDropped(c2u=c2u, u2c=u2c):
                self._hook_dropped.labels("c2u").inc(c2u)
                self._hook_dropped.labels("u2c").inc(u2c)
            case HookFailed(hook=hook):
                self._hook_errors.labels(hook).inc()
            case LegMute(leg=leg):
                self._mute.labels(leg).inc()
            case Refused(status=status, error=error):
                self._refusals.labels(status, error).inc()
            case TlsHandshakeFailed():
                self._tls_failures.inc()
            case TlsReloaded(leg=leg):
                self._tls_reloads.labels(leg, "ok").inc()
            case TlsReloadFailed(leg=leg):
                self._tls_reloads.labels(leg, "failed").inc()
            case TakenOver():
                self._taken_over.inc()
            case SlowClientClosed():
                self._slow.inc()
            case Redial():
                self._redials.inc()
            case DialFailed():
                self._dial_failures.inc()
            case Dialled(upstream=upstream, outcome=outcome, seconds=seconds):
                self._dials.labels(upstream, outcome).observe(seconds)
            case UpstreamEjected(upstream=upstream):
                self._ejections.labels(upstream).inc()
            case UpstreamReturned(upstream=upstream):
                self._returns.labels(upstream).inc()


def code_label(code: int) -> str:
    """Return `code` as a label.

    A peer may close with any of the two thousand codes from 3000 on. They share two labels, so that nobody can
    fill the memory of the proxy, or of Prometheus, with series; 4000 is the proxy's own "taken over".
    """
    if 1000 <= code <= 1015 or code == 4000:
        return str(code)
    return f"{code // 1000}xxx" if 1000 <= code < 5000 else "other"


class LiveSessions(Collector):
    """Adds up what the living sessions hold, when Prometheus asks."""

    def __init__(self, sessions: Callable[[], Iterable[SessionInfo]]) -> None:
        self._sessions = sessions

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the metrics, so that registering costs no walk over the sessions."""
        yield from self._families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Walk over the sessions once."""
        states: Tally[str] = Tally()
        legs: Tally[str] = Tally(dict.fromkeys(LegName, 0))
        messages: Tally[str] = Tally(c2u=0, u2c=0)
        queued: Tally[str] = Tally(c2u=0, u2c=0)
        held: Tally[str] = Tally(c2u=0, u2c=0)
        for session in self._sessions():
            states[session.state] += 1
            legs[LegName.CLIENT] += session.client_connected
            legs[LegName.UPSTREAM] += session.upstream_connected
            messages["c2u"] += session.c2u_messages
            messages["u2c"] += session.u2c_messages
            queued["c2u"] += session.c2u_queued
            queued["u2c"] += session.u2c_queued
            held["c2u"] += session.c2u_bytes_held
            held["u2c"] += session.u2c_bytes_held
        families = self._families()
        for family, tally in zip(families.values(), (states, legs, messages, queued, held), strict=True):
            for label, value in tally.items():
                family.add_metric([label], value)
            yield family

    @staticmethod
    def _families() -> dict[str, GaugeMetricFamily]:
        return {
            name: GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=[label])
            for name, text, label in (
                ("sessions", "Sessions alive, by state.", "state"),
                ("legs_connected", "Legs that have a link.", "leg"),
                ("session_messages", "Messages relayed so far by the sessions alive.", "direction"),
                ("queued_messages", "Messages owed to a peer and not confirmed.", "direction"),
                ("held_bytes", "Bytes of the messages that are owed to a peer.", "direction"),
            )
        }


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
