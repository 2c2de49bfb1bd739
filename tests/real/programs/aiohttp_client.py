"""aiohttp's client."""

from __future__ import annotations

import asyncio

import aiohttp
from conversation import call, heard
from reporting import EVERY, SPEC, STOP, lost, report


async def main() -> None:
    """Converse until told to stop."""
    async with aiohttp.ClientSession() as session, session.ws_connect(SPEC["url"]) as socket:
        report(ready=True)

        async def read() -> None:
            async for message in socket:
                if heard(message.data):
                    return
            lost(socket.close_code)

        reading = asyncio.create_task(read())
        n = 0
        while not STOP.is_set():
            n += 1
            message = call(n)
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
            await asyncio.sleep(EVERY)
        report(called=n)
        await socket.send_str("end")
        await reading
    report(end=True)


asyncio.run(main())
