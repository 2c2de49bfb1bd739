"""One direction of one connection.

                latency       slicer
                   v             v
    source --> [ToxicStub] -> [ToxicStub] --> destination
          feed         ChunkChannel      put

`source` and `destination` are the two ends of a connection; the link in the other direction has them swapped. Toxics
are added at the right end. Without toxics the link has no stubs, and what the source reads is written to the
destination in the same turn of the loop.

Backpressure goes from right to left: the destination's socket takes no more, so the last stub does not read its input,
so the stub before it finds its output full, so the source is not read.

The end goes from left to right: no toxic passes it on before the data in front of it. When it arrives the destination
is closed in both directions, even if the source closed only its half: then the other link sees its source end, and
carries that end to its own destination.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from reconnect_harness.toxiproxy.embedded.noop import NoopToxic
from reconnect_harness.toxiproxy.embedded.stub import Sink, ToxicStub
from reconnect_harness.toxiproxy.embedded.toxic import Chunk, ToxicDirection, ToxicWrapper

CHUNK_BYTES = 32 * 1024
"""The most that a toxic is given at a time, as in the original: the effect of a toxic depends on it."""

_PASS_THROUGH = NoopToxic()


class ChunkSource(Protocol):
    """What a link reads from."""

    def pause(self) -> None:
        """Feed no more for now."""

    def resume(self) -> None:
        """Feed again."""


class ToxicLink:
    """Carries what `feed` is given through the toxics to `destination`.

    Args:
        direction: which of the two links of its connection it is.
        source: is paused while the link is full.
        destination: is finished at the end.
        toxics: those of the proxy for this direction, in order.
        on_done: called when the link has ended.

    Unlike in the original, a toxic that is added or removed does not disturb the one before it: that one does not draw
    its toxicity again, and the chunk that it holds keeps its delay.
    """

    def __init__(
        self,
        direction: ToxicDirection,
        source: ChunkSource,
        destination: Sink,
        toxics: Iterable[ToxicWrapper],
        on_done: Callable[[ToxicLink], None],
    ) -> None:
        self.direction = direction
        self._source = source
        self._destination = destination
        self._on_done = on_done
        self._stubs: list[ToxicStub] = []
        self._head: Sink = destination
        self._ended = False
        self._done = False
        self._lead(destination)
        for toxic in toxics:
            self.add_toxic(toxic)

    def feed(self, data: bytes) -> None:
        """Take what was read from the source."""
        if self._done:
            return
        now = time.monotonic()
        if not self._stubs or len(data) <= CHUNK_BYTES:
            self._head.put(Chunk(data, now))
        else:
            for start in range(0, len(data), CHUNK_BYTES):
                self._head.put(Chunk(data[start : start + CHUNK_BYTES], now))
        if self._head.full:
            self._source.pause()

    def end(self) -> None:
        """Take the end of the source. May be called twice."""
        if not self._ended:
            self._ended = True
            self._head.finish()

    def abandon(self) -> None:
        """Stop: the destination is gone. What comes from the source from now on is dropped."""
        if not self._done:
            self._done = True
            for stub in self._stubs:
                stub.cancel()
            self._source.resume()
            self._on_done(self)

    def add_toxic(self, toxic: ToxicWrapper) -> None:
        """Put a toxic at the end of the pipe, unless the end of the data has passed there."""
        if self._stubs[-1].closed if self._stubs else self._ended:
            return
        stub = ToxicStub(toxic, _PASS_THROUGH)
        stub.connect(self._destination)
        if self._stubs:
            self._stubs[-1].connect(stub.input)
        else:
            self._lead(stub.input)
        self._stubs.append(stub)
        stub.start()

    async def update_toxic(self, toxic: ToxicWrapper) -> None:
        """Run a toxic again, with its new attributes and toxicity."""
        stub = self._find(toxic)
        if stub is not None and await stub.interrupt():
            stub.start()

    async def remove_toxic(self, toxic: ToxicWrapper) -> None:
        """Take a toxic out of the pipe. The data in front of it is passed on at once, whether there is room or not."""
        stub = self._find(toxic)
        if stub is None or not await stub.interrupt():
            return
        if toxic.toxic.closes_when_removed:
            stub.close()
            return
        index = self._stubs.index(stub)
        stub.input.pour(stub.output)
        del self._stubs[index]
        if index:
            self._stubs[index - 1].connect(stub.output)
        else:
            self._lead(stub.output)

    def _find(self, toxic: ToxicWrapper) -> ToxicStub | None:
        return next((stub for stub in self._stubs if stub.wrapper is toxic), None)

    def _lead(self, head: Sink) -> None:
        """Feed `head` from now on."""
        self._head = head
        head.on_room = self._source.resume
        if head.full:
            self._source.pause()
        else:
            self._source.resume()
