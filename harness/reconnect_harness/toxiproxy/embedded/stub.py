"""The place of one toxic in one link: the queue in front of it, and the task that runs it.

A toxic is a coroutine that carries chunks from its stub's queue to the output. It waits for input, for room in the
output and for time, and an interrupt cancels it in any of these waits, so that it can be changed or removed at any
time. No wait loses data: the stub holds what the toxic has taken and not yet passed on. (The original cannot be
interrupted while it writes; then the API call hangs until a receiver reads, or for ever.)
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol


class ToxicDirection(Enum):
    """The direction of the bytes that a link carries; in the order in which a proxy's toxics are listed."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


class Chunk(NamedTuple):
    """Some bytes on their way."""

    data: bytes
    at: float
    """When they arrived at the link, in seconds of time.monotonic()."""


class ToxicKind(NamedTuple):
    """What a toxic does to a link."""

    run: Callable[..., Coroutine[Any, Any, None]]
    """Is given the stub, and the toxic's attributes in the order of `TOXICS`. When it returns, the link ends there."""
    buffer: int = 1
    """How many chunks may wait in front of it."""
    closes_when_removed: bool = False
    """Whether its removal closes the connections that it was on."""
    lingers: bool = False
    """Whether connections that begin while it is there are closed with an RST (SO_LINGER 0)."""


@dataclass(slots=True, eq=False)
class ToxicWrapper:
    """A toxic that is on a proxy.

    `toxicity` is the probability that it affects a link: it is drawn for each link, and again when the toxic is
    changed. `stream` is the direction as the request wrote it, in any case.
    """

    kind: ToxicKind
    attributes: dict[str, int]
    name: str
    type: str
    stream: str
    toxicity: float

    @property
    def direction(self) -> ToxicDirection:
        """The direction of the links that it is on."""
        return ToxicDirection(self.stream.lower())

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {key: getattr(self, key) for key in ("attributes", "name", "type", "stream", "toxicity")}


class Sink(Protocol):
    """What chunks are written to: the next stub, or the socket at the end of the link."""

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


class ToxicStub:
    """Runs a toxic on one link, and is the sink in front of it.

    Attributes:
        held: what the toxic has read and not yet passed on. It is passed on when the toxic is interrupted.
        passed: bytes that the toxic let through, if it counts them; kept when it is changed.
        committed: the toxic will end the connection: it cannot be interrupted any more.
        closed: the end was passed on. What still comes in stays in the queue.
    """

    def __init__(self, toxic: ToxicWrapper, output: Sink) -> None:
        self.toxic = toxic
        self.on_room = ignore
        self.held: Chunk | None = None
        self.passed = 0
        self.committed = False
        self.closed = False
        self._output = output
        self._queue: deque[Chunk] = deque()
        self._ended = False
        # Set when there is input, the end or room.
        self._news = asyncio.Event()
        self.start()

    @property
    def full(self) -> bool:
        """Whether as many chunks wait as may."""
        return len(self._queue) >= self.toxic.kind.buffer

    def put(self, chunk: Chunk) -> None:
        """Take a chunk."""
        self._queue.append(chunk)
        self._news.set()

    def finish(self) -> None:
        """Take the end."""
        self._ended = True
        self._news.set()

    # Called by the link.

    def connect(self, output: Sink) -> None:
        """Write to `output` from now on."""
        self._output = output
        output.on_room = self._news.set
        self._news.set()

    def start(self) -> None:
        """Run the toxic, or nothing in its place: its toxicity is the probability of the toxic."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def interrupt(self) -> bool:
        """Stop the toxic, and pass on what it holds. Returns False if the link has ended here, or is about to."""
        if self.closed or self.committed:
            return False
        # From now on no step of it is run.
        self._task.cancel()
        if self.held is not None:
            self._output.put(self.held)
            self.held = None
        return True

    def pour(self) -> None:
        """Pass on everything that waits, whether there is room or not."""
        while self._queue:
            self._output.put(self._queue.popleft())
        if self._ended:
            self._output.finish()

    def close(self) -> None:
        """Pass on the end."""
        self.closed = True
        self._output.finish()

    def cancel(self) -> None:
        """Stop, and pass on nothing more: the link has no destination any more."""
        self.closed = True
        self._task.cancel()

    # Called by the toxic.

    async def read(self) -> Chunk | None:
        """Wait for a chunk, and hold it; None at the end, and at each read after it."""
        while not self._queue:
            if self._ended:
                return None
            await self._wait()
        self.held = self._queue.popleft()
        if len(self._queue) == self.toxic.kind.buffer - 1:
            self.on_room()
        return self.held

    async def write(self, size: int | None = None) -> None:
        """Pass on the first `size` bytes of what is held, or all of it; then wait until there is room for more."""
        chunk, self.held = self.held, None
        assert chunk is not None
        if size is not None and size < len(chunk.data):
            self.held = chunk._replace(data=chunk.data[size:])
            chunk = chunk._replace(data=chunk.data[:size])
        if chunk.data:
            self._output.put(chunk)
        while self._output.full:
            await self._wait()

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _run(self) -> None:
        if random.random() < self.toxic.toxicity:
            await self.toxic.kind.run(self, *self.toxic.attributes.values())
        else:
            await pass_through(self)
        self.close()


async def pass_through(stub: ToxicStub) -> None:
    """Do nothing to the data: the toxic `noop`, and any toxic on a link that its toxicity spares."""
    while await stub.read() is not None:
        await stub.write()
