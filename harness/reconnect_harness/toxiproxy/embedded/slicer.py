"""slicer: data comes in small packets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.toxic import EmbeddedToxic, StubInterface


@dataclass(slots=True)
class SlicerToxic(EmbeddedToxic):
    """Cuts chunks into pieces of `average_size` +- `size_variation` bytes, `delay` microseconds apart.

    The original crashes at sizes that make no sense (no average, a variation above the average); here each piece has
    at least one byte.
    """

    average_size: int = 0
    size_variation: int = 0
    delay: int = 0

    async def pipe(self, stub: StubInterface) -> None:
        """Write piece by piece. After an interrupt the rest of a chunk is passed on without delay."""
        while (chunk := await stub.read()) is not None:
            for start, end in self.cut(0, len(chunk.data)):
                await stub.write(chunk._replace(data=chunk.data[start:end]))
                await stub.sleep(self.delay / 1_000_000)

    def cut(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the offsets of the pieces of start:end, by halving it, unevenly, until the pieces are small.

        So the pieces at both ends have the same distribution of sizes, which cutting one by one would not give.
        """
        if end - start <= max(1, self.average_size + self.size_variation):
            yield start, end
            return
        middle = start + (end - start) // 2
        if self.size_variation > 0:
            middle += random.randrange(-self.size_variation, self.size_variation)
        middle = min(max(middle, start + 1), end - 1)
        yield from self.cut(start, middle)
        yield from self.cut(middle, end)
