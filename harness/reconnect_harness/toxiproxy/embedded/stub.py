"""The place of one toxic in one link: what it reads from, what it writes to, and how it is interrupted.

A toxic is a coroutine that may wait in three ways, all of them here: for input, for room in the output, and
for time. An interrupt ends each of these waits, so that a toxic can be changed or removed at any moment, and
none of them loses data: a chunk leaves the input when the toxic takes it, and is in the output before the
toxic waits for room. (The original cannot be interrupted while it writes, and then the API call hangs until a
receiver reads, or for good.)
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, Protocol

from reconnect_harness.toxiproxy.embedded.noop import NoopToxic
from reconnect_harness.toxiproxy.embedded.toxic import ToxicWrapper

_NOTHING = NoopToxic()


class Chunk(NamedTuple):
    """Some bytes on their way."""

    data: bytes
    at: float
    """When they came to the link, in seconds of time.monotonic()."""


class Interrupted(Exception):
    """A toxic is to let go of its stub."""


class Sink(Protocol):
    """What chunks are written to: the input of the next stub, or the socket at the end of the link."""

    on_room: Callable[[], None]
    """Called when it is not `full` any more."""

    @property
    def full(self) -> bool:
        """Whether the writer should wait. It may write all the same: nothing is refused."""

    def put(self, chunk: Chunk) -> None:
        """Take a chunk."""

    def finish(self) -> None:
        """Take the end: no chunk follows. May be called twice."""


def ignore() -> None:
    """Do nothing: the callback where there is none."""


class Channel:
    """The chunks between two stubs. `capacity` is in chunks."""

    __slots__ = ("_capacity", "chunks", "ended", "on_put", "on_room")

    def __init__(self, capacity: int) -> None:
        self.chunks: deque[Chunk] = deque()
        self.ended = False
        self.on_put: Callable[[], None] = ignore
        self.on_room: Callable[[], None] = ignore
        self._capacity = capacity

    @property
    def full(self) -> bool:
        """Whether as many chunks wait as may."""
        return len(self.chunks) >= self._capacity

    def put(self, chunk: Chunk) -> None:
        """Take a chunk."""
        self.chunks.append(chunk)
        self.on_put()

    def finish(self) -> None:
        """Take the end."""
        self.ended = True
        self.on_put()

    def take(self) -> Chunk:
        """Give the oldest chunk."""
        chunk = self.chunks.popleft()
        if len(self.chunks) == self._capacity - 1:
            self.on_room()
        return chunk

    def pour(self, sink: Sink) -> None:
        """Put all that is here, its end included, into `sink`."""
        while self.chunks:
            sink.put(self.chunks.popleft())
        if self.ended:
            sink.finish()


class _Wait(Enum):
    NOTHING = auto()
    INPUT = auto()
    ROOM = auto()
    TIME = auto()


class ToxicStub:
    """Runs a toxic on one link.

    Attributes:
        wrapper: the toxic.
        input: where its data comes from.
        output: where its data goes to; set with `connect`.
        passed: bytes that the toxic let through, if it counts them; kept when it is changed.
        closed: whether the end was passed on. What still comes in stays in the input.
    """

    def __init__(self, wrapper: ToxicWrapper) -> None:
        self.wrapper = wrapper
        self.input = Channel(max(1, wrapper.toxic.buffer))
        self.input.on_put = self._on_put
        self.output: Sink = Channel(1)
        self.passed = 0
        self.closed = False
        self._interrupted = False
        self._doomed = False
        self._waits_for = _Wait.NOTHING
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def connect(self, output: Sink) -> None:
        """Write to `output` from now on."""
        self.output = output
        output.on_room = self._on_room
        self._on_room()

    def start(self) -> None:
        """Run the toxic, or, as its toxicity will have it, nothing."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def interrupt(self) -> bool:
        """Make the toxic let go; True if it did, and may be started again, False if the stub is closed or
        about to be."""
        if self.closed or self._doomed or self._task is None:
            return False
        self._interrupted = True
        self._wake()
        await asyncio.wait((self._task,))
        self._interrupted = False
        return not self.closed

    def close(self) -> None:
        """Pass on the end. May be called twice."""
        if not self.closed:
            self.closed = True
            self.output.finish()

    def cancel(self) -> None:
        """Stop for good: the link is no more."""
        self.closed = True
        if self._task is not None:
            self._task.cancel()

    # For toxics.

    async def read(self, within: float | None = None) -> Chunk | None:
        """Wait for a chunk, and take it; None at the end, and at each read after it.

        Args:
            within: seconds to wait at most.

        Raises:
            Interrupted: the toxic is to let go.
            TimeoutError: nothing came in time.
        """
        deadline = None if within is None else time.monotonic() + within
        while not self._interrupted:
            if self.input.chunks:
                return self.input.take()
            if self.input.ended:
                return None
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            await self._wait(_Wait.INPUT, left)
        raise Interrupted

    async def write(self, chunk: Chunk) -> None:
        """Pass on a chunk, then wait until there is room for another."""
        self.output.put(chunk)
        while self.output.full and not self._interrupted:
            await self._wait(_Wait.ROOM)

    async def sleep(self, seconds: float) -> bool:
        """Wait; False if it was cut short by an interrupt."""
        due = time.monotonic() + seconds
        while not self._interrupted and (left := due - time.monotonic()) > 0:
            await self._wait(_Wait.TIME, left)
        return not self._interrupted

    def doom(self) -> None:
        """Do not let go any more: the toxic is about to return."""
        self._doomed = True

    # End of what is for toxics.

    async def _run(self) -> None:
        toxic = self.wrapper.toxic if random.random() < self.wrapper.toxicity else _NOTHING
        let_go = False
        try:
            await toxic.pipe(self)
        except Interrupted:
            let_go = True
        finally:
            if not let_go:
                self.close()

    async def _wait(self, what: _Wait, seconds: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self._waits_for = what
        timer = None if seconds is None else loop.call_later(_timer(seconds), self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._waits_for = _Wait.NOTHING
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _on_put(self) -> None:
        if self._waits_for is _Wait.INPUT:
            self._wake()

    def _on_room(self) -> None:
        if self._waits_for is _Wait.ROOM:
            self._wake()


def _timer(seconds: float) -> float:
    """Return what to ask uvloop for, whose timers count whole milliseconds and may be early by one.

    `sleep` looks at the clock again. A turn of the loop is what is left to wait for where it is very little.
    """
    if seconds < 0.0003:
        return 0.0
    return math.ceil(seconds * 1000) / 1000
