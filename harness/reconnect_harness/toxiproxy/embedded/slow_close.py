"""slow_close: the end of a connection is late."""

from __future__ import annotations

from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.stub import Interrupted, ToxicStub
from reconnect_harness.toxiproxy.embedded.toxic import Toxic, register


@register("slow_close")
@dataclass(slots=True)
class SlowCloseToxic(Toxic):
    """Passes on data as it comes, and the end of the connection `delay` milliseconds after it came."""

    delay: int = 0

    async def pipe(self, stub: ToxicStub) -> None:
        """Write what is read; hold the end. A change of the toxic begins the delay anew."""
        while (chunk := await stub.read()) is not None:
            await stub.write(chunk)
        if not await stub.sleep(self.delay / 1000):
            raise Interrupted
