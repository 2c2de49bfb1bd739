"""slicer: data comes in small packets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.stub import ToxicStub
from reconnect_harness.toxiproxy.embedded.toxic import Toxic, register


@register("slicer")
@dataclass(slots=True)
class SlicerToxic(Toxic):
    """Cuts chunks into pieces of `average_size` +- `size_variation` bytes, `delay` microseconds apart.

    The original falls over sizes that make no sense (no average, a variation above the average); here a piece
    has a byte at least.
    """

    average_size: int = 0
    size_variation: int = 0
    delay: int = 0

    integer = "int"

    async def pipe(self, stub: ToxicStub) -> None:
        """Write piece by piece; an interrupt lets the rest of a chunk go without delay."""
        while (chunk := await stub.read()) is not None:
            for start, end in self.cut(0, len(chunk.data)):
                await stub.write(chunk._replace(data=chunk.data[start:end]))
                await stub.sleep(self.delay / 1_000_000)

    def cut(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Give the offsets of the pieces of start:end, by halving it, unevenly, until the pieces are small.

        So no piece at either end is special, as it would be if they were cut off one by one.
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
