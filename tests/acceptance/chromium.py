"""A client that drives a browser over its DevTools protocol, and keeps count."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Driver:
    """Makes calls of the DevTools protocol over a connection, and keeps every answer and event in order.

    `connection` is one of `websockets` or of `reconnect_proxy.connect`.
    """

    def __init__(self, connection: Any) -> None:
        self.answers: list[int] = []
        self.events: list[dict[str, Any]] = []
        self._connection = connection
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening = asyncio.create_task(self._listen())

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Make one call and return its result."""
        self._asked += 1
        message: dict[str, Any] = {"id": self._asked, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        answer = self._waiting[self._asked] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps(message))
        async with asyncio.timeout(30):
            found = await answer
        assert "error" not in found, found
        result: dict[str, Any] = found["result"]
        return result

    async def value(self, expression: str, session: str | None = None) -> Any:
        """Return what a JavaScript expression comes to in a page."""
        found = await self.call(
            "Runtime.evaluate", session, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def logged(self) -> list[Any]:
        """Return what pages have passed to console.log so far, in order."""
        return [
            event["params"]["args"][0]["value"]
            for event in self.events
            if event["method"] == "Runtime.consoleAPICalled"
        ]

    async def stop(self) -> None:
        """Listen no more."""
        self._listening.cancel()
        await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        async for text in self._connection:
            message = json.loads(text)
            if "id" in message:
                self.answers.append(message["id"])
                waiting = self._waiting.pop(message["id"], None)
                if waiting is not None:
                    waiting.set_result(message)
            else:
                self.events.append(message)
