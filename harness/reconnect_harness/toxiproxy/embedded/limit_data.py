"""limit_data: the connection is cut after so many bytes."""

from __future__ import annotations

from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.stub import ToxicStub
from reconnect_harness.toxiproxy.embedded.toxic import Toxic, register


@register("limit_data")
@dataclass(slots=True)
class LimitDataToxic(Toxic):
    """Closes the connection when `bytes` have gone through, counted from when the toxic came to the link.

    With 0 it is closed by the first data, of which nothing gets through.
    """

    bytes: int = 0

    async def pipe(self, stub: ToxicStub) -> None:
        """Pass on what fits. The count outlives a change of the limit."""
        while (chunk := await stub.read()) is not None:
            data = chunk.data[: max(0, self.bytes - stub.passed)]
            stub.passed += len(data)
            if data:
                await stub.write(chunk._replace(data=data))
            if stub.passed >= self.bytes:
                return
