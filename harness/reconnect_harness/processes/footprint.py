"""What a system under test holds: open files and sockets, threads, processes, memory, sessions. Leaks show in it.

It is measured before the clients come, when one connection has come and gone (so that what is made once is there), and
when they have all left. What is there then and was not before is a leak. Sockets are among the open files.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from reconnect_harness.history.record import Footprint

if TYPE_CHECKING:
    import psutil

#: How long a system under test may take to come to rest after the first connection, in seconds.
REST_SECONDS = 5.0

#: How many measurements in a row, _POLL_SECONDS apart, must show rest.
CALM = 4

#: How often it is measured while there is traffic, in seconds.
DURING_SECONDS = 0.25

_ASK_SECONDS = 5.0
_POLL_SECONDS = 0.05


class Watch:
    """Measures systems under test before the clients come, and after they have left.

    Args:
        systems: for each of them its process id, and the URL of an admin listener that answers /sessions as this
            project's proxy does, where there is one.

    Attributes:
        found: what was measured so far.

    """

    def __init__(self, systems: Sequence[tuple[int, str | None]]) -> None:
        self.found: list[Footprint] = []
        self._systems = systems

    async def before(self, url: str, in_use: Callable[[], Awaitable[int]], tls: ssl.SSLContext | None = None) -> None:
        """Make a connection, close it, and measure when it has left the upstreams too: `in_use` counts theirs."""
        await _come_and_go(url, tls)
        deadline = time.monotonic() + REST_SECONDS
        # The upstreams are processes of their own: they are asked.
        while await in_use() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        await self._settled("before", lambda found: not found.sessions, deadline - time.monotonic())

    @contextlib.asynccontextmanager
    async def during(self) -> AsyncIterator[None]:
        """Measure now and then for as long as the context lasts."""
        measuring = asyncio.create_task(self._now_and_then())
        try:
            yield
        finally:
            measuring.cancel()
            await asyncio.wait([measuring])

    async def after(self, within: float) -> None:
        """Measure when nothing has leaked, or after so many seconds."""
        if self.found:
            before = self.found[0]
            await self._settled("after", lambda found: not list(found.leaks(before)), within)

    async def _now_and_then(self) -> None:
        pids = [(pid, None) for pid, _ in self._systems]
        # Without a measurement from before there is nothing to compare with.
        while self.found and (found := await asyncio.to_thread(measure, pids, "during")) is not None:
            self.found.append(found)
            await asyncio.sleep(DURING_SECONDS)

    async def _settled(self, when: str, good: Callable[[Footprint], bool], within: float) -> None:
        deadline = time.monotonic() + within
        calm = 0
        while (found := await asyncio.to_thread(measure, self._systems, when)) is not None:
            # What leaks may be left behind a moment after the socket that it belonged to has gone.
            calm = calm + 1 if good(found) else 0
            if calm == CALM or time.monotonic() > deadline:
                self.found.append(found)
                return
            await asyncio.sleep(_POLL_SECONDS)


def measure(systems: Sequence[tuple[int, str | None]], when: str) -> Footprint | None:
    """Measure processes with all that they have started, as `Watch` is told of them; None if one of them is gone."""
    # Here: the processes of a run that record histories have no use for it.
    import psutil

    tree: list[psutil.Process] = []
    sessions: list[int] = []
    try:
        for pid, _ in systems:
            first = psutil.Process(pid)
            tree += [first, *first.children(recursive=True)]
        # Before the admin listeners are asked: the socket of an answer may live on for a moment, and is no leak.
        counted = [_count(process) for process in tree]
        for _, admin in systems:
            if admin is not None and (count := _sessions(admin)) is not None:
                sessions.append(count)
    except psutil.Error:
        return None
    files, threads, memory = (sum(column) for column in zip(*counted, strict=True))
    children = len(tree) - len(systems)
    return Footprint(time.monotonic(), when, files, threads, children, memory, sum(sessions) if sessions else None)


async def _come_and_go(url: str, tls: ssl.SSLContext | None) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, InvalidHandshake

    # What is wrong with the system under test will show when the clients come.
    with contextlib.suppress(OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
        async with asyncio.timeout(REST_SECONDS), connect(url, proxy=None, compression=None, ssl=tls) as connection:
            # There and back: a proxy may accept its client long before it has an upstream.
            await connection.send("warm")
            await connection.recv()


def _count(process: psutil.Process) -> tuple[int, int, int]:
    with process.oneshot():
        return process.num_fds(), process.num_threads(), process.memory_info().rss


def _sessions(admin: str) -> int | None:
    # A handler without proxies: the environment may name one, which is not the way to loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(f"{admin}/sessions", timeout=_ASK_SECONDS) as answer:
        return int(json.load(answer)["total"])
    return None
