"""limit_data: the connection is closed after a number of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.toxic import EmbeddedToxic, StubInterface


@dataclass(slots=True)
class LimitDataToxic(EmbeddedToxic):
    """Closes the connection when `bytes` have passed, counted from when the toxic came to the link.

    With 0 the first data closes it, and none of that data passes.
    """

    bytes: int = 0

    async def pipe(self, stub: StubInterface) -> None:
        """Pass on data up to the limit. The count is kept when the limit is changed."""
        while (chunk := await stub.read()) is not None:
            data = chunk.data[: max(0, self.bytes - stub.passed)]
            stub.passed += len(data)
            if data:
                await stub.write(chunk._replace(data=data))
            if stub.passed >= self.bytes:
                return
