"""timeout: data is dropped, and the connection closed after a time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.toxic import EmbeddedToxic, StubInterface


@dataclass(slots=True)
class TimeoutToxic(EmbeddedToxic):
    """Drops all data, and closes the connection after `timeout` milliseconds without any; with 0 it never does.

    Its removal closes the connections that it was on: they have lost bytes.
    """

    timeout: int = 0

    closes_when_removed = True

    async def pipe(self, stub: StubInterface) -> None:
        """Read and drop. The end is passed on."""
        within = self.timeout / 1000 if self.timeout > 0 else None
        with contextlib.suppress(TimeoutError):
            while await stub.read(within) is not None:
                pass
