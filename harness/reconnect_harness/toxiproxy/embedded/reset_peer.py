"""reset_peer: the connection is reset."""

from __future__ import annotations

from dataclasses import dataclass

from reconnect_harness.toxiproxy.embedded.stub import ToxicStub
from reconnect_harness.toxiproxy.embedded.toxic import Toxic, register


@register("reset_peer")
@dataclass(slots=True)
class ResetToxic(Toxic):
    """Drops the first data (or end) that comes, and `timeout` milliseconds later closes the connection.

    Connections that began while it was there, whatever its toxicity, are closed with an RST; older ones with
    a FIN, as in the original.
    """

    timeout: int = 0

    lingers = True

    async def pipe(self, stub: ToxicStub) -> None:
        """Wait for data, then for the time: by then no change or removal saves the connection.

        (The original makes who changes or removes it wait for the reset; here nobody waits.)
        """
        await stub.read()
        stub.doom()
        await stub.sleep(self.timeout / 1000)
