"""The probe of a soak: round trips through the proxy and, in turn, straight to the upstream, when it is asked.

Those past the proxy show how fast the machine and the upstream are at that moment.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from reconnect_harness.checks.percentile import percentile
from reconnect_harness.processes.actor import obey, run, say

#: How long a measurement takes, in seconds; how many round trips it has at the most; the seconds between two of them.
SECONDS = 1.0
TRIPS = 200
PAUSE = 0.002

#: The first round trips are not counted, since the connection may be new.
WARM_UP = 5

_SIZE = 128
_OPEN_SECONDS = 5.0


class Probe:
    """Two connections, which are made when they are needed."""

    def __init__(self, through: str, direct: str) -> None:
        self._urls = (through, direct)
        self._connections: list[ClientConnection] = []

    async def measure(self) -> dict[str, float]:
        """Measure round trips on both connections in turn; return percentiles in seconds, through and past the proxy.

        Nothing is returned where a connection is lost or cannot be made.
        """
        try:
            async with asyncio.timeout(_OPEN_SECONDS + SECONDS):
                return await self._measure()
        except (OSError, TimeoutError, ConnectionClosed, InvalidHandshake):
            await self.close()
            return {}

    async def _measure(self) -> dict[str, float]:
        if not self._connections:
            for url in self._urls:
                self._connections.append(await connect(url, proxy=None, compression=None))
        times: list[list[float]] = [[], []]
        until = time.monotonic() + SECONDS
        number = time.monotonic_ns()
        for trip in range(-WARM_UP, TRIPS):
            for connection, found in zip(self._connections, times, strict=True):
                start = time.perf_counter()
                # A proxy may send an older message again to a server that does not count, so an old echo may come.
                message = b"%d" % number
                await connection.send(message.ljust(_SIZE))
                while (await connection.recv()).strip() != message:
                    pass
                number += 1
                if trip >= 0:
                    found.append(time.perf_counter() - start)
            if trip >= WARM_UP and time.monotonic() > until:
                break
            await asyncio.sleep(PAUSE)
        return {
            f"{way}p{100 * share:g}": percentile(sorted(found), share) or 0.0
            for way, found in zip(("", "direct_"), times, strict=True)
            for share in (0.5, 0.99)
        }

    async def close(self) -> dict[str, float]:
        while self._connections:
            await self._connections.pop().close()
        return {}


async def play(spec: dict[str, Any]) -> None:
    """Measure when asked, until stdin ends. `spec`: through and direct, the URLs of two ways to an echo server."""
    probe = Probe(spec["through"], spec["direct"])
    try:
        say({"ready": True})
        await obey({"measure": probe.measure, "close": probe.close})
    finally:
        await probe.close()


if __name__ == "__main__":
    run(play)
