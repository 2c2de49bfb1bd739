"""The asyncio client of websockets."""

from __future__ import annotations

import asyncio

from conversation import call, heard
from reporting import EVERY, SPEC, STOP, lost, report
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main() -> None:
    """Converse until told to stop."""
    async with connect(SPEC["url"], proxy=None) as socket:
        report(ready=True)

        async def read() -> None:
            try:
                while not heard(await socket.recv()):
                    pass
            except ConnectionClosed as closed:
                lost(closed)

        reading = asyncio.create_task(read())
        n = 0
        while not STOP.is_set():
            n += 1
            await socket.send(call(n))
            await asyncio.sleep(EVERY)
        report(called=n)
        await socket.send("end")
        await reading
    report(end=True)


asyncio.run(main())
