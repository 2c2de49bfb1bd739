"""latency: data is late."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.stub import ToxicStub
from reconnect_harness.toxiproxy.embedded.toxic import Toxic, register


@register("latency")
@dataclass(slots=True)
class LatencyToxic(Toxic):
    """Passes on each chunk `latency` +- `jitter` milliseconds after it came to the link.

    Order is kept: a chunk that drew a short delay waits for the one before it. Latency costs no throughput,
    for many chunks may be on their way.
    """

    latency: int = 0
    jitter: int = 0

    buffer = 1024

    async def pipe(self, stub: ToxicStub) -> None:
        """Wait for what is left of each chunk's delay; an interrupt lets the chunk that waits go at once."""
        while (chunk := await stub.read()) is not None:
            wait = self._delay() - (time.monotonic() - chunk.at)
            if await stub.sleep(wait):
                # The next latency in the chain must not take our delay for its own.
                chunk = chunk._replace(at=chunk.at + wait)
            await stub.write(chunk)

    def _delay(self) -> float:
        late = self.latency
        if self.jitter > 0:
            late += random.randrange(-self.jitter, self.jitter)
        return late / 1000
