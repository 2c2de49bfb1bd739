"""latency: data is late."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.toxic import EmbeddedToxic, StubInterface


@dataclass(slots=True)
class LatencyToxic(EmbeddedToxic):
    """Passes on each chunk `latency` +- `jitter` milliseconds after it came to the link.

    Order is kept: a chunk with a short delay waits for the one before it. Latency costs no throughput, because many
    chunks may be on their way.
    """

    latency: int = 0
    jitter: int = 0

    buffer = 1024

    async def pipe(self, stub: StubInterface) -> None:
        """Wait for the rest of each chunk's delay. After an interrupt the chunk that waits is passed on at once."""
        while (chunk := await stub.read()) is not None:
            wait = self._delay() - (time.monotonic() - chunk.at)
            if await stub.sleep(wait):
                # The next latency in the chain must not count this delay as part of its own.
                chunk = chunk._replace(at=chunk.at + wait)
            await stub.write(chunk)

    def _delay(self) -> float:
        delay = self.latency
        if self.jitter > 0:
            delay += random.randrange(-self.jitter, self.jitter)
        return delay / 1000
