"""bandwidth: data is slow."""

from __future__ import annotations

import time
from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.stub import ToxicStub
from reconnect_harness.toxiproxy.embedded.toxic import Toxic, register

_SLICE_SECONDS = 0.1


@register("bandwidth")
@dataclass(slots=True)
class BandwidthToxic(Toxic):
    """Passes on `rate` kB (1000 bytes) a second; with a rate of 0 nothing, until it is changed or removed.

    The original falls over a rate below 0; here it is 0.
    """

    rate: int = 0

    async def pipe(self, stub: ToxicStub) -> None:
        """Pay for each chunk with time before it is passed on, large chunks by the slice of 100 ms.

        An interrupt lets what waits go at once.
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
            # Timers are late; what was slept too long is not owed any more.
            debt -= time.monotonic() - begun
            await stub.write(chunk)
