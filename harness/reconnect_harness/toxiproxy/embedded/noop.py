"""noop: nothing is done to the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconnect_harness.toxiproxy.embedded.toxic import Toxic, register

if TYPE_CHECKING:
    from reconnect_harness.toxiproxy.embedded.stub import ToxicStub  # which runs this one where a toxic is not felt


@register("noop")
@dataclass(slots=True)
class NoopToxic(Toxic):
    """Passes on everything as it comes."""

    async def pipe(self, stub: ToxicStub) -> None:
        """Write what is read."""
        while (chunk := await stub.read()) is not None:
            await stub.write(chunk)
