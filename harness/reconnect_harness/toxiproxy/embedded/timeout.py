"""timeout: data is lost, and the connection closed after a time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.stub import ToxicStub
from reconnect_harness.toxiproxy.embedded.toxic import Toxic, register


@register("timeout")
@dataclass(slots=True)
class TimeoutToxic(Toxic):
    """Drops all data and closes the connection when `timeout` milliseconds went by without any; with 0 it does not.

    Its removal closes the connections that it was on: they have lost bytes.
    """

    timeout: int = 0

    closes_when_removed = True

    async def pipe(self, stub: ToxicStub) -> None:
        """Read and forget. The end is passed on."""
        within = self.timeout / 1000 if self.timeout > 0 else None
        with contextlib.suppress(TimeoutError):
            while await stub.read(within) is not None:
                pass
