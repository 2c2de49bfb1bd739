"""One direction of one connection.

                latency       slicer
                   v             v
    source --> [ToxicStub] -> [ToxicStub] --> destination
          feed             put           put

`source` and `destination` are the two ends of a connection; the link in the other direction has them swapped. Toxics
are added at the right end. Without toxics the link has no stubs, and what the source reads is written to the
destination in the same turn of the loop.

Backpressure goes from right to left: the destination's socket takes no more, so the last stub does not read its queue,
so the stub before it finds its output full, so the source is not read.

The end goes from left to right: no toxic passes it on before the data in front of it. When it arrives the destination
is closed in both directions, even if the source closed only its half: then the other link sees its source end, and
carries that end to its own destination.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from reconnect_harness.toxiproxy.embedded.stub import Chunk, Sink, ToxicStub, ToxicWrapper

CHUNK_BYTES = 32 * 1024
"""The most that a toxic is given at a time, as in the original: the effect of a toxic depends on it."""


class ChunkSource(Protocol):
    """What a link reads from."""

    def pause(self) -> None:
        """Feed no more for now."""

    def resume(self) -> None:
        """Feed again."""


class ToxicLink:
    """Carries what `feed` is given through the toxics to `destination`.

    `source` is paused while the link is full; `destination` is finished at the end; `toxics` are those of the proxy for
    this direction, in order.

    Unlike in the original, a toxic that is added or removed does not disturb the one before it: that one does not draw
    its toxicity again, and the chunk that it holds keeps its delay.
    """

    def __init__(self, source: ChunkSource, destination: Sink, toxics: Iterable[ToxicWrapper]) -> None:
        self._source = source
        self._destination = destination
        self._stubs = [ToxicStub(toxic, destination) for toxic in toxics]
        self._ended = False
        self._abandoned = False
        self._join()

    def feed(self, data: bytes) -> None:
        """Take what was read from the source."""
        if self._abandoned:
            return
        now = time.monotonic()
        if self._head is self._destination:
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
        """Stop: the destination is gone. What comes from the source from now on is dropped. May be called twice."""
        if not self._abandoned:
            self._abandoned = True
            for stub in self._stubs:
                stub.cancel()
            self._source.resume()

    def add(self, toxic: ToxicWrapper) -> None:
        """Put a toxic at the end of the pipe, unless the end of the data has passed there."""
        if not self._abandoned and not (self._stubs[-1].closed if self._stubs else self._ended):
            self._stubs.append(ToxicStub(toxic, self._destination))
            self._join()

    def update(self, toxic: ToxicWrapper) -> None:
        """Run a toxic again, with its new attributes and toxicity."""
        for stub in self._stubs:
            if stub.toxic is toxic and stub.interrupt():
                stub.start()

    def remove(self, toxic: ToxicWrapper) -> None:
        """Take a toxic out of the pipe. The data in front of it is passed on at once, whether there is room or not."""
        for stub in list(self._stubs):
            if stub.toxic is toxic and stub.interrupt():
                if toxic.kind.closes_when_removed:
                    stub.close()
                else:
                    stub.pour()
                    self._stubs.remove(stub)
                    self._join()

    def _join(self) -> None:
        """Have each part of the pipe write to the one behind it, and the source to the first."""
        sinks: list[Sink] = [*self._stubs, self._destination]
        for stub, output in zip(self._stubs, sinks[1:], strict=True):
            stub.connect(output)
        self._head = sinks[0]
        self._head.on_room = self._source.resume
        if self._head.full:
            self._source.pause()
        else:
            self._source.resume()
