"""What the proxy holds at a scrape: its sessions, upstreams, limits and workers. Nothing here is done per message.

The numbers of messages and bytes received are computed here too. While a session lives they are its own counts, and
after its end what it had received in all, so that their sum is exact and never falls.

An alert on `reconnect_proxy_limit_used / reconnect_proxy_limit` fires before a limit is reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ..core.context import Context, SessionState
from ..core.target import UpstreamInfo
from ..events import LegName, SessionEnded
from ..introspection import Usage
from .event_table import DIRECTIONS

Family = TypeVar("Family", GaugeMetricFamily, CounterMetricFamily)

NAMESPACE = "reconnect_proxy"
#: Sessions that are counted in one turn of the loop: below a millisecond.
SESSIONS_A_TURN = 250


class SessionGauges(Collector):
    """What the living sessions hold, and what all sessions have received."""

    def __init__(self) -> None:
        # The sessions alive; the owner of the counters says where to look.
        self.living: Callable[[], Collection[Context]] = tuple
        # What is reported next, in this turn of the loop; None: the sessions are walked over in that turn.
        self.totals: SessionTotals | None = None
        # What sessions that have ended had received: messages and bytes, c2u and u2c.
        self._messages = (0, 0)
        self._bytes = (0, 0)

    def ended(self, event: SessionEnded) -> None:
        """Add what a session has received. It leaves the living ones in the same turn of the loop."""
        c2u, u2c = self._messages
        self._messages = (c2u + event.c2u_messages, u2c + event.u2c_messages)
        c2u, u2c = self._bytes
        self._bytes = (c2u + event.c2u_bytes, u2c + event.u2c_bytes)

    async def add_up(self) -> SessionTotals:
        """Walk over the sessions, some in each turn of the loop, so that no message waits for the whole walk.

        A session that ends meanwhile still counts, with what it had received, and one that begins does not. So each
        session is counted once, here or in what had ended before, and the next totals are never lower.
        """
        totals = SessionTotals(self._messages, self._bytes)
        sessions = list(self.living())
        for start in range(0, len(sessions), SESSIONS_A_TURN):
            totals.add(sessions[start : start + SESSIONS_A_TURN])
            await asyncio.sleep(0)
        return totals

    def describe(self) -> Iterator[Metric]:
        """Name the metrics, so that registering does not walk over the sessions."""
        yield from SessionTotals((0, 0), (0, 0)).families()

    def collect(self) -> Iterator[Metric]:
        """Report the totals that were added up, or add them up now."""
        totals = self.totals
        if totals is None:
            totals = SessionTotals(self._messages, self._bytes)
            totals.add(self.living())
        yield from totals.families()


class SessionTotals:
    """What sessions hold, added up."""

    def __init__(self, messages: tuple[int, int], size: tuple[int, int]) -> None:
        """Begin with the `messages`, and their bytes (`size`), that were received by sessions that have ended."""
        self._states = dict.fromkeys(SessionState, 0)
        self._legs: dict[str, int] = dict.fromkeys(LegName, 0)
        self._messages = list(messages)
        self._bytes = list(size)
        self._queued = [0, 0]
        self._held = [0, 0]
        self._full = [0, 0]

    def add(self, sessions: Iterable[Context]) -> None:
        """Count `sessions`. One that has ended counts only with what it had received."""
        for context in sessions:
            received = (context.c2u.volume, context.u2c.volume)
            for i in (0, 1):
                self._messages[i] += received[i].messages
                self._bytes[i] += received[i].bytes
            self._states[context.state] += 1
            if context.state is SessionState.ENDED:
                continue
            self._legs[LegName.CLIENT] += bool(context.clients.links)
            link = context.upstream.link
            self._legs[LegName.UPSTREAM] += link is not None and link.open
            for i, outbox in enumerate((context.c2u.outbox, context.u2c.outbox)):
                self._queued[i] += len(outbox)
                self._held[i] += outbox.bytes_held
                self._full[i] += outbox.full

    def families(self) -> Iterator[Metric]:
        def family(kind: type[Family], name: str, text: str, label: str, values: Mapping[str, int]) -> Family:
            made = kind(f"{NAMESPACE}_{name}", text, labels=[label])
            for value_of_label, value in values.items():
                made.add_metric([value_of_label], value)
            return made

        def by_direction(kind: type[Family], name: str, text: str, values: Sequence[int]) -> Family:
            return family(kind, name, text, "direction", dict(zip(DIRECTIONS, values, strict=True)))

        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        states = {state.name.lower(): n for state, n in self._states.items() if state is not SessionState.ENDED}
        yield family(gauge, "sessions", "Sessions alive, by state: opening, open or ending.", "state", states)
        yield family(gauge, "legs_connected", "Legs that have a link.", "leg", self._legs)
        text = (
            "Messages received from peers. In receiver mode each counts once, however many clients get it. Those that "
            "a hook dropped do not count."
        )
        yield by_direction(counter, "messages", text, self._messages)
        text = "Payload bytes of those messages as they came, which may be compressed."
        yield by_direction(counter, "message_bytes", text, self._bytes)
        yield by_direction(gauge, "queue_messages", "Messages owed to peers and not confirmed.", self._queued)
        yield by_direction(gauge, "queue_bytes", "Bytes of memory held for those messages.", self._held)
        text = "Queues above their limit. The peers that fill them are not read."
        yield by_direction(gauge, "queues_full", text, self._full)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels)


class UpstreamGauges(Collector):
    """The state of each upstream, read from the pool at a scrape."""

    def __init__(self, upstreams: Callable[[], Iterable[UpstreamInfo]]) -> None:
        self._upstreams = upstreams

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        healthy, sessions, dials = families = self._families()
        for upstream in self._upstreams():
            healthy.add_metric([upstream.url], upstream.healthy)
            sessions.add_metric([upstream.url], upstream.sessions)
            dials.add_metric([upstream.url, "running"], upstream.dials_running)
            dials.add_metric([upstream.url, "waiting"], upstream.dials_waiting)
        yield from families

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, ...]:
        return (
            _gauge("upstream_healthy", "Whether an upstream is used: 1, or 0 while it is ejected.", "upstream"),
            _gauge("upstream_sessions", "Sessions connected to an upstream.", "upstream"),
            _gauge("dials", "Dials of an upstream that are running, or waiting for their turn.", "upstream", "state"),
        )


class LimitGauges(Collector):
    """How much of each limit is used, read from the proxy at a scrape."""

    def __init__(self, usage: Callable[[], Iterable[Usage]]) -> None:
        self._usage = usage

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        used, most = families = self._families()
        for usage in self._usage():
            used.add_metric([usage.limit], usage.used)
            if usage.most is not None:
                most.add_metric([usage.limit], usage.most)
        yield from families

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, ...]:
        return (
            _gauge("limit_used", "How much of a limit of the whole proxy is used.", "limit"),
            _gauge("limit", "A limit of the whole proxy. A limit that is not set has no series.", "limit"),
        )


class WorkerGauges(Collector):
    """Of each worker whether it answers, and how many sessions it has."""

    def __init__(self, workers: Iterable[tuple[bool, int]]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Report the workers by their number, from 0 on."""
        text = "Whether a worker serves and answers: 1, or 0 while it is being started or does not answer."
        up = _gauge("worker_up", text, "worker")
        sessions = _gauge("worker_sessions", "Sessions that a worker has.", "worker")
        for number, (serves, count) in enumerate(self._workers):
            up.add_metric([str(number)], serves)
            sessions.add_metric([str(number)], count)
        yield from (up, sessions)
