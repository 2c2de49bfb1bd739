"""Measures the resources of a system under test: open files and sockets, threads, processes, memory, sessions.

The first measurement is taken before the clients connect, after one connection has been made and closed (so that what
is made once exists), the last one when all clients have left. What only the last one has is a leak. Sockets are counted
among the open files.
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

#: How long a system under test may take to release the first connection, in seconds.
SETTLE_SECONDS = 5.0

#: How many measurements in a row, _POLL_SECONDS apart, must be good.
GOOD_IN_A_ROW = 4

#: Seconds between two measurements while there is traffic.
DURING_SECONDS = 0.25

_ASK_SECONDS = 5.0
_POLL_SECONDS = 0.05


class FootprintWatch:
    """Measures systems under test before the clients connect, while there is traffic, and after the clients have left.

    Args:
        systems: for each of them its process id, and the URL of an admin listener that answers /sessions as this
            project's proxy does, if it has one.

    Attributes:
        found: the measurements so far.

    """

    def __init__(self, systems: Sequence[tuple[int, str | None]]) -> None:
        self.found: list[Footprint] = []
        self._systems = systems

    async def before(self, url: str, in_use: Callable[[], Awaitable[int]], tls: ssl.SSLContext | None = None) -> None:
        """Make a connection, close it, and measure when it has left the upstreams too; `in_use` counts their
        connections."""
        await _connect_once(url, tls)
        deadline = time.monotonic() + SETTLE_SECONDS
        # The upstreams are separate processes, which can only be polled.
        while await in_use() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        await self._settled("before", lambda found: not found.sessions, deadline - time.monotonic())

    @contextlib.asynccontextmanager
    async def during(self) -> AsyncIterator[None]:
        """Measure repeatedly until the context ends."""
        measuring = asyncio.create_task(self._repeatedly())
        try:
            yield
        finally:
            measuring.cancel()
            await asyncio.wait([measuring])

    async def after(self, within: float) -> None:
        """Measure when nothing leaks any more, or after `within` seconds."""
        if self.found:
            before = self.found[0]
            await self._settled("after", lambda found: not list(found.leaks(before)), within)

    async def _repeatedly(self) -> None:
        pids = [(pid, None) for pid, _ in self._systems]
        # Without a measurement from before, there is nothing to compare with.
        while self.found and (found := await asyncio.to_thread(measure, pids, "during")) is not None:
            self.found.append(found)
            await asyncio.sleep(DURING_SECONDS)

    async def _settled(self, when: str, good: Callable[[Footprint], bool], within: float) -> None:
        deadline = time.monotonic() + within
        in_a_row = 0
        while (found := await asyncio.to_thread(measure, self._systems, when)) is not None:
            # A leak may appear some time after the socket that it belonged to has been closed.
            in_a_row = in_a_row + 1 if good(found) else 0
            if in_a_row == GOOD_IN_A_ROW or time.monotonic() > deadline:
                self.found.append(found)
                return
            await asyncio.sleep(_POLL_SECONDS)


def measure(systems: Sequence[tuple[int, str | None]], when: str) -> Footprint | None:
    """Measure systems, as `FootprintWatch` takes them, with their descendants; None if one of them has ended."""
    # Imported here: processes that only record a history do not need it.
    import psutil

    tree: list[psutil.Process] = []
    sessions: list[int] = []
    try:
        for pid, _ in systems:
            first = psutil.Process(pid)
            tree += [first, *first.children(recursive=True)]
        # Before the admin listeners are asked: the socket of their answer may stay open for a moment, and is not a
        # leak.
        counted = [_count(process) for process in tree]
        for _, admin in systems:
            if admin is not None and (count := _sessions(admin)) is not None:
                sessions.append(count)
    except psutil.Error:
        return None
    files, threads, memory = (sum(column) for column in zip(*counted, strict=True))
    children = len(tree) - len(systems)
    return Footprint(time.monotonic(), when, files, threads, children, memory, sum(sessions) if sessions else None)


async def _connect_once(url: str, tls: ssl.SSLContext | None) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, InvalidHandshake

    # A system under test that does not work is reported when the clients connect.
    with contextlib.suppress(OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS), connect(url, proxy=None, compression=None, ssl=tls) as connection:
            # A round trip: a proxy may accept its client long before it has an upstream.
            await connection.send("warm")
            await connection.recv()


def _count(process: psutil.Process) -> tuple[int, int, int]:
    with process.oneshot():
        return process.num_fds(), process.num_threads(), process.memory_info().rss


def _sessions(admin: str) -> int | None:
    # Without proxies: one that the environment names does not lead to loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(f"{admin}/sessions", timeout=_ASK_SECONDS) as answer:
        return int(json.load(answer)["total"])
    return None
