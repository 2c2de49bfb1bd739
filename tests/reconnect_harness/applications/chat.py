"""A chat of rooms with FastAPI: what one says, all others in the room get. BUG: `race`, `room`, `repeat`.

It is run by `uvicorn tests.reconnect_harness.applications.chat:app`, or in a test by `serve_app(app)`.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect


def make_app(bug: str = "") -> FastAPI:
    """Return the application, with one of the bugs."""
    app = FastAPI()
    rooms: dict[str, dict[str, WebSocket]] = defaultdict(dict)
    history: dict[str, list[dict[str, Any]]] = defaultdict(list)
    outbox: dict[str, dict[str, Any]] = {}

    async def deliver(room: str, said: dict[str, Any]) -> None:
        for user, member in list(rooms[room].items()):
            if user != said["from"]:
                await member.send_json(said)

    @app.websocket("/chat/{room}/{user}")
    async def chat(ws: WebSocket, room: str, user: str) -> None:
        await ws.accept()
        rooms[room][user] = ws
        await ws.send_json({"type": "joined", "user": user})
        if bug == "repeat":
            for said in history[room][-5:]:
                await ws.send_json(said)
        try:
            async for told in ws.iter_json():
                said = {"type": "said", "from": user, "text": told["text"]}
                history[room].append(said)
                if bug == "race":
                    # The slot is one for the room: who writes to it before the other was delivered overwrites that.
                    outbox[room] = said
                    await asyncio.sleep(0.002)
                    if room in outbox:
                        await deliver(room, outbox.pop(room))
                elif bug == "room" and len(history[room]) % 20 == 0:
                    await deliver(next((other for other in list(rooms) if other != room), room), said)
                else:
                    await deliver(room, said)
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            if rooms[room].get(user) is ws:
                del rooms[room][user]

    return app


app = make_app(os.environ.get("BUG", ""))
