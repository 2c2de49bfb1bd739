"""What the living sessions hold and how much of each limit is used, computed at a scrape: messages cost nothing here.

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
from ..events import LegName, SessionEnded
from ..introspection import Usage

__all__ = ["DIRECTIONS", "NAMESPACE", "SESSIONS_A_TURN", "Census", "LiveUsage", "Sessions"]

Family = TypeVar("Family", GaugeMetricFamily, CounterMetricFamily)

NAMESPACE = "reconnect_proxy"
DIRECTIONS = ("c2u", "u2c")
#: Sessions that are counted in one turn of the loop: below a millisecond.
SESSIONS_A_TURN = 250


class Sessions(Collector):
    """Adds up what the living sessions hold, when Prometheus asks, and what ended ones have received."""

    def __init__(self) -> None:
        # The sessions alive; the owner of the counters says where to look.
        self.living: Callable[[], Collection[Context]] = tuple
        # What is reported next, in this turn of the loop; None: what is found by walking over the sessions.
        self.census: Census | None = None
        # What sessions that have ended had received: messages and bytes, c2u and u2c.
        self._messages = (0, 0)
        self._bytes = (0, 0)

    def ended(self, event: SessionEnded) -> None:
        """Take over what a session has received: it leaves the living ones in the same turn of the loop."""
        c2u, u2c = self._messages
        self._messages = (c2u + event.c2u_messages, u2c + event.u2c_messages)
        c2u, u2c = self._bytes
        self._bytes = (c2u + event.c2u_bytes, u2c + event.u2c_bytes)

    async def take_census(self) -> Census:
        """Walk over the sessions, some in each turn of the loop, so that no message waits for the whole walk.

        A session that ends meanwhile is counted all the same, with what it had received, and one that begins is not:
        so each session is in this census or in what ended before it, once, and the next census never has less.
        """
        census = Census(self._messages, self._bytes)
        sessions = list(self.living())
        for start in range(0, len(sessions), SESSIONS_A_TURN):
            census.add(sessions[start : start + SESSIONS_A_TURN])
            await asyncio.sleep(0)
        return census

    def describe(self) -> Iterator[Metric]:
        """Name the metrics, so that registering costs no walk over the sessions."""
        yield from Census((0, 0), (0, 0)).families()

    def collect(self) -> Iterator[Metric]:
        """Report the census that was taken, or take it now."""
        census = self.census
        if census is None:
            census = Census(self._messages, self._bytes)
            census.add(self.living())
        yield from census.families()


class Census:
    """What sessions hold, added up."""

    def __init__(self, messages: tuple[int, int], size: tuple[int, int]) -> None:
        """Begin with the `messages` and their bytes, c2u and u2c, that were received by sessions not to be counted."""
        self._states = dict.fromkeys(SessionState, 0)
        self._legs: dict[str, int] = dict.fromkeys(LegName, 0)
        self._messages = list(messages)
        self._bytes = list(size)
        self._queued = [0, 0]
        self._held = [0, 0]
        self._full = [0, 0]

    def add(self, sessions: Iterable[Context]) -> None:
        """Count `sessions`. One that has ended counts with what it had received only."""
        for context in sessions:
            received = (context.c2u_traffic, context.u2c_traffic)
            for i in (0, 1):
                self._messages[i] += received[i].messages
                self._bytes[i] += received[i].bytes
            self._states[context.state] += 1
            if context.state is SessionState.ENDED:
                continue
            self._legs[LegName.CLIENT] += bool(context.incoming)
            link = context.upstream.link
            self._legs[LegName.UPSTREAM] += link is not None and link.open
            for i, outbox in enumerate((context.c2u, context.u2c)):
                self._queued[i] += len(outbox)
                self._held[i] += outbox.bytes_held
                self._full[i] += outbox.full

    def families(self) -> Iterator[Metric]:
        """Yield the metrics."""

        def family(kind: type[Family], name: str, text: str, label: str, values: Mapping[str, int]) -> Family:
            made = kind(f"{NAMESPACE}_{name}", text, labels=[label])
            for value_of_label, value in values.items():
                made.add_metric([value_of_label], value)
            return made

        def by_direction(kind: type[Family], name: str, text: str, values: Sequence[int]) -> Family:
            return family(kind, name, text, "direction", dict(zip(DIRECTIONS, values, strict=True)))

        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        states = {state.name.lower(): n for state, n in self._states.items() if state is not SessionState.ENDED}
        yield family(gauge, "sessions", "Sessions alive, by state.", "state", states)
        yield family(gauge, "legs_connected", "Legs that have a link.", "leg", self._legs)
        yield by_direction(counter, "messages", "Messages received from peers.", self._messages)
        yield by_direction(counter, "message_bytes", "Payload bytes of those messages, as they came.", self._bytes)
        yield by_direction(gauge, "queue_messages", "Messages owed to a peer and not confirmed.", self._queued)
        yield by_direction(gauge, "queue_bytes", "Bytes held for the messages owed to a peer.", self._held)
        yield by_direction(gauge, "queues_full", "Queues above their limit, whose feeder is not read.", self._full)


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
