"""The log and the metrics of a process, which are told of each event."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

from ..config.model import Config
from ..core.context import Context
from ..core.target import UpstreamInfo
from ..events import Event
from ..introspection import Usage
from .log_writer import DroppedLines
from .logs import EventLog
from .loop_lag import lag_of_loop
from .metrics import Metrics


class Observed(Protocol):
    """What the metrics read at a scrape: a `Proxy`."""

    config: Config

    @property
    def contexts(self) -> Collection[Context]:
        """The living sessions."""

    def upstreams(self) -> Iterable[UpstreamInfo]:
        """Return the state of each upstream."""

    def usage(self) -> Iterable[Usage]:
        """Return how much of each limit is used."""


class Observers:
    """The log and the metrics of this process, for as long as its `with` block runs; an `Observe`."""

    def __init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        ProcessCollector(registry=self.metrics.registry)
        GCCollector(registry=self.metrics.registry)
        self.metrics.registry.register(DroppedLines())
        self._log = EventLog(asyncio.get_running_loop())
        self._watching = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching, and sum up in the log what it has left out."""
        self._watching.close()
        self._log.close()

    def __call__(self, event: Event) -> None:
        self._log(event)
        self.metrics.count(event)

    def watch(self, proxy: Observed) -> None:
        """Have the metrics show what `proxy`, which has started, holds, and how late its event loop is."""
        self.metrics.watch(proxy.config.mode, lambda: proxy.contexts)
        self._watching.enter_context(lag_of_loop(self.metrics.loop_lag.observe))
        self.metrics.watch_upstreams(proxy.upstreams)
        self.metrics.watch_limits(proxy.usage)
