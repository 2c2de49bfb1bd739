"""slow_close: the end of a connection is late."""

from __future__ import annotations

from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.toxic import EmbeddedToxic, Interrupted, StubInterface


@dataclass(slots=True)
class SlowCloseToxic(EmbeddedToxic):
    """Passes on data unchanged, and the end of the connection `delay` milliseconds after it came."""

    delay: int = 0

    async def pipe(self, stub: StubInterface) -> None:
        """Write what is read; hold the end. A change of the toxic starts the delay again."""
        while (chunk := await stub.read()) is not None:
            await stub.write(chunk)
        if not await stub.sleep(self.delay / 1000):
            raise Interrupted
