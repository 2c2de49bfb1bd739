"""reset_peer: the connection is reset."""

from __future__ import annotations

from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.toxic import EmbeddedToxic, StubInterface


@dataclass(slots=True)
class ResetToxic(EmbeddedToxic):
    """Drops the first data (or end) that comes, and `timeout` milliseconds later closes the connection.

    Connections that began while it was there, with any toxicity, are closed with an RST; older ones with a FIN, as
    in the original.
    """

    timeout: int = 0

    lingers = True

    async def pipe(self, stub: StubInterface) -> None:
        """Wait for data, then for the time. After the data no change or removal saves the connection.

        (In the original the request that changes or removes the toxic waits for the reset; here it does not.)
        """
        await stub.read()
        stub.finish_anyway()
        await stub.sleep(self.timeout / 1000)
