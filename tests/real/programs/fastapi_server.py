"""A FastAPI application under uvicorn that answers numbered calls and sends numbered ticks of its own.

| it gets | it does |
| --- | --- |
| `call N` | reports it, and sends `answer N`, as text or binary as it came |
| `end` | ceases to tick, and sends `bye CALLS TICKS`: how many it has had and sent on this connection |

With `/ticks` it sends `tick 1`, `tick 2`, … on each connection.
"""

from __future__ import annotations

import asyncio

import uvicorn
from fastapi import FastAPI, WebSocket
from reporting import EVERY, SPEC, got, report

app = FastAPI()


@app.websocket("/{path}")
async def converse(socket: WebSocket, path: str) -> None:
    """Serve one connection."""
    await socket.accept()
    report(opened=True)
    calls = ticks = 0
    over = asyncio.Event()

    async def tick() -> None:
        nonlocal ticks
        while path == "ticks" and not over.is_set():
            ticks += 1
            await socket.send_text(f"tick {ticks}")
            await asyncio.sleep(EVERY)

    ticking = asyncio.create_task(tick())
    try:
        while (event := await socket.receive())["type"] == "websocket.receive":
            text = event.get("text")
            word, _, n = (event["bytes"].decode() if text is None else text).partition(" ")
            if word == "end":
                over.set()
                await ticking
                await socket.send_text(f"bye {calls} {ticks}")
                continue
            calls += 1
            got("calls", int(n))
            await (socket.send_text(f"answer {n}") if text is not None else socket.send_bytes(f"answer {n}".encode()))
    finally:
        report(closed=True)
        ticking.cancel()


report(ready=True)
uvicorn.run(app, host="127.0.0.1", port=SPEC["port"], log_level="warning", ws="websockets-sansio")
