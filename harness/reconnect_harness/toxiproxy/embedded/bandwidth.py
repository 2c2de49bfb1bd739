"""bandwidth: data is slow."""

from __future__ import annotations

import time
from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.toxic import EmbeddedToxic, StubInterface

_SLICE_SECONDS = 0.1


@dataclass(slots=True)
class BandwidthToxic(EmbeddedToxic):
    """Passes on `rate` kB (1000 bytes) a second; with a rate of 0 nothing, until it is changed or removed.

    The original crashes at a rate below 0; here that is 0.
    """

    rate: int = 0

    async def pipe(self, stub: StubInterface) -> None:
        """Wait for the time that each chunk costs before it is passed on, for large chunks in slices of 100 ms.

        After an interrupt the data that waits is passed on at once.
        """
        debt = 0.0
        while (chunk := await stub.read()) is not None:
            rate = max(0, self.rate)
            debt = debt + len(chunk.data) / (rate * 1000) if rate else 0.0
            size = rate * 100
            while len(chunk.data) > size and await stub.sleep(_SLICE_SECONDS):
                if size:
                    await stub.write(chunk._replace(data=chunk.data[:size]))
                    chunk = chunk._replace(data=chunk.data[size:])
                    debt -= _SLICE_SECONDS
            begun = time.monotonic()
            await stub.sleep(debt)
            # Timers are late; the time by which this one was late is not waited for again.
            debt -= time.monotonic() - begun
            await stub.write(chunk)
