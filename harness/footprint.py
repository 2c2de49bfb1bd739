"""What a system under test holds: open files and sockets, threads, processes, memory, sessions. Leaks show in it.

It is measured before the clients come, when one connection has come and gone (so that what is made once is there), and
when they have all left. What is there then and was not before is a leak. Sockets are among the open files.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import psutil

#: Threads that may be there in the end and were not at first. A Python program's default pool grows with the number of
#: names that are looked up at a time and keeps its threads; this is its limit (concurrent.futures.ThreadPoolExecutor).
THREADS = min(32, (os.cpu_count() or 1) + 4)

#: Bytes of memory that may be there in the end and were not at first: allocators keep what they were once given.
MEMORY = 64 * 1024**2

_ASK_SECONDS = 5.0
_POLL_SECONDS = 0.1


class Footprint(NamedTuple):
    """What a system under test holds at the moment `t`; `sessions` is None where it does not say.

    `when` is `before` or `after` the clients; `files`, `threads`, `children` and `sessions` are counts, `memory` is
    resident bytes of all its processes together.
    """

    t: float
    when: str
    files: int
    threads: int
    children: int
    memory: int
    sessions: int | None = None

    def leaks(self, before: Footprint) -> Iterator[tuple[int, str]]:
        """Yield how much more there is of each thing than `before`, and that in words."""
        for count, was, allowed, name in (
            (self.files, before.files, 0, "open files and sockets"),
            (self.threads, before.threads, THREADS, "threads"),
            (self.children, before.children, 0, "processes beside the first"),
        ):
            if count > was + allowed:
                yield count - was, f"{count} {name}, and {was} before they came"
        if self.sessions:
            yield self.sessions, f"{self.sessions} sessions, and there is no client any more"
        if self.memory > before.memory + MEMORY:
            megabytes = round((self.memory - before.memory) / 1e6)
            yield (
                megabytes,
                f"{self.memory / 1e6:,.0f} MB of memory, and {before.memory / 1e6:,.0f} MB before they came",
            )


def measure(pid: int, admin: str | None, when: str) -> Footprint | None:
    """Measure the process `pid` with all that it has started; None if it is gone.

    Args:
        pid: the first process of the system under test.
        admin: URL of an admin listener that answers /sessions as this project's proxy does, where there is one.
        when: `before` or `after` the clients.

    """
    # Here: the processes of a run that record histories have no use for it.
    import psutil

    files = threads = memory = 0
    try:
        first = psutil.Process(pid)
        tree = [first, *first.children(recursive=True)]
        counted = [_count(process) for process in tree]
    except psutil.Error:
        return None
    for one in counted:
        files, threads, memory = files + one[0], threads + one[1], memory + one[2]
    sessions = None if admin is None else _sessions(admin)
    return Footprint(time.monotonic(), when, files, threads, len(tree) - 1, memory, sessions)


async def settled(
    look: Callable[[], Footprint | None], good: Callable[[Footprint], bool], within: float
) -> Footprint | None:
    """Measure until `good` is content, or `within` seconds are over; return the last measurement."""
    deadline = time.monotonic() + within
    while True:
        found = await asyncio.to_thread(look)
        if found is None or good(found) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(_POLL_SECONDS)


def _count(process: psutil.Process) -> tuple[int, int, int]:
    with process.oneshot():
        return process.num_fds(), process.num_threads(), process.memory_info().rss


def _sessions(admin: str) -> int | None:
    # A handler without proxies: the environment may name one, which is not the way to loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(f"{admin}/sessions", timeout=_ASK_SECONDS) as answer:
        return len(json.load(answer)["sessions"])
    return None
