"""nats-py over WebSocket: it publishes numbered calls, and subscribes to them and to numbered ticks.

A second connection, straight to the server, is the witness: it receives the calls as well, and publishes the ticks.
"""

from __future__ import annotations

import asyncio

import nats
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from reporting import EVERY, SPEC, STOP, got, lost, report, sent


async def main() -> None:
    """Publish until told to stop."""
    counts = {"calls": 0, "answers": 0, "ticks": 0}
    counted = asyncio.Condition()

    async def disconnected() -> None:
        lost("disconnected")

    async def reconnected() -> None:
        report(back=True)

    async def failed(error: Exception) -> None:
        report(error=repr(error))

    client = await nats.connect(
        SPEC["url"],
        disconnected_cb=disconnected,
        reconnected_cb=reconnected,
        error_cb=failed,
        reconnect_time_wait=0.1,
        max_reconnect_attempts=-1,
    )
    witness = await nats.connect(SPEC["direct"], reconnect_time_wait=0.1, max_reconnect_attempts=-1)

    async def subscribe(connection: NATS, subject: str, stream: str) -> None:
        async def take(message: Msg) -> None:
            got(stream, int(message.data))
            counts[stream] += 1
            async with counted:
                counted.notify_all()

        await connection.subscribe(subject, cb=take)
        await connection.flush()

    await subscribe(witness, "calls", "calls")
    await subscribe(client, "calls", "answers")
    await subscribe(client, "ticks", "ticks")
    report(ready=True)
    n = 0
    while not STOP.is_set():
        n += 1
        await client.publish("calls", str(n).encode())
        await witness.publish("ticks", str(n).encode())
        await asyncio.sleep(EVERY)
    report(called=n)
    sent("ticks", n)
    async with counted:
        await counted.wait_for(lambda: all(counts[stream] >= n for stream in SPEC.get("owed", counts)))
    report(end=True)
    await witness.close()


asyncio.run(main())
