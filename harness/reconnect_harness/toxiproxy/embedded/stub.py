"""The place of one toxic in one link: what it reads from, what it writes to, and how it is interrupted.

An interrupt ends each wait of a toxic, so that it can be changed or removed at any time. No wait loses data: a chunk
leaves the input when the toxic takes it, and is in the output before the toxic waits for room. (The original cannot be
interrupted while it writes; then the API call hangs until a receiver reads, or for ever.)
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from reconnect_harness.toxiproxy.embedded.toxic import Chunk, EmbeddedToxic, Interrupted, ToxicWrapper


class Sink(Protocol):
    """What chunks are written to: the input of the next stub, or the socket at the end of the link."""

    on_room: Callable[[], None]
    """Called when it is not `full` any more."""

    @property
    def full(self) -> bool:
        """Whether the writer should wait. It may write anyway: nothing is refused."""

    def put(self, chunk: Chunk) -> None:
        """Take a chunk."""

    def finish(self) -> None:
        """Take the end: no chunk follows. May be called twice."""


def ignore() -> None:
    """Do nothing: the callback where there is none."""


class ChunkChannel:
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
        """Return the oldest chunk."""
        chunk = self.chunks.popleft()
        if len(self.chunks) == self._capacity - 1:
            self.on_room()
        return chunk

    def pour(self, sink: Sink) -> None:
        """Put all chunks, and the end if it has come, into `sink`."""
        while self.chunks:
            sink.put(self.chunks.popleft())
        if self.ended:
            sink.finish()


class _Wait(Enum):
    NOTHING = auto()
    INPUT = auto()
    ROOM = auto()
    TIME = auto()


class _Phase(Enum):
    OPEN = "the toxic may be interrupted and run again"
    FINISHING = "the toxic is about to return, and takes no interrupt"
    CLOSED = "the end was passed on; what still comes in stays in the input"


class ToxicStub:
    """Runs a toxic on one link.

    Args:
        wrapper: the toxic.
        pass_through: runs in its place where its toxicity spares this link.

    Attributes:
        wrapper: the toxic.
        input: where its data comes from.
        output: where its data goes to; set with `connect`.
        passed: bytes that the toxic let through, if it counts them; kept when it is changed.
    """

    def __init__(self, wrapper: ToxicWrapper, pass_through: EmbeddedToxic) -> None:
        self.wrapper = wrapper
        self.input = ChunkChannel(max(1, wrapper.toxic.buffer))
        self.input.on_put = self._on_put
        self.output: Sink = ChunkChannel(1)
        self.passed = 0
        self._pass_through = pass_through
        self._phase = _Phase.OPEN
        self._interrupted = False
        self._waits_for = _Wait.NOTHING
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the end was passed on."""
        return self._phase is _Phase.CLOSED

    def connect(self, output: Sink) -> None:
        """Write to `output` from now on."""
        self.output = output
        output.on_room = self._on_room
        self._on_room()

    def start(self) -> None:
        """Run the toxic, or the pass-through: its toxicity is the probability of the toxic."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def interrupt(self) -> bool:
        """Make the toxic return. True if it may be started again, False if the stub is closed or about to be."""
        if self._phase is not _Phase.OPEN or self._task is None:
            return False
        self._interrupted = True
        self._wake()
        await asyncio.wait((self._task,))
        self._interrupted = False
        return not self.closed

    def close(self) -> None:
        """Pass on the end. May be called twice."""
        if not self.closed:
            self._phase = _Phase.CLOSED
            self.output.finish()

    def cancel(self) -> None:
        """Stop, and pass on nothing more: the link has no destination any more."""
        self._phase = _Phase.CLOSED
        if self._task is not None:
            self._task.cancel()

    # `toxic.StubInterface`, for the toxic.

    async def read(self, within: float | None = None) -> Chunk | None:
        """Wait for a chunk, and take it; None at the end."""
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
        """Wait; return False if an interrupt ended the wait early."""
        due = time.monotonic() + seconds
        while not self._interrupted and (left := due - time.monotonic()) > 0:
            await self._wait(_Wait.TIME, left)
        return not self._interrupted

    def finish_anyway(self) -> None:
        """Take no interrupt from now on."""
        if self._phase is _Phase.OPEN:
            self._phase = _Phase.FINISHING

    # Its own.

    async def _run(self) -> None:
        toxic = self.wrapper.toxic if random.random() < self.wrapper.toxicity else self._pass_through
        interrupted = False
        try:
            await toxic.pipe(self)
        except Interrupted:
            interrupted = True
        finally:
            if not interrupted:
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
    """Return the delay to give uvloop, whose timers count whole milliseconds and may be early by one.

    `sleep` checks the clock again. A very short rest takes one turn of the loop.
    """
    if seconds < 0.0003:
        return 0.0
    return math.ceil(seconds * 1000) / 1000
