"""noop: nothing is done to the data. A link also runs it where the toxicity of another toxic spares the link."""

from __future__ import annotations

from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.toxic import EmbeddedToxic, StubInterface


@dataclass(slots=True)
class NoopToxic(EmbeddedToxic):
    """Passes on everything unchanged."""

    async def pipe(self, stub: StubInterface) -> None:
        """Write what is read."""
        while (chunk := await stub.read()) is not None:
            await stub.write(chunk)
