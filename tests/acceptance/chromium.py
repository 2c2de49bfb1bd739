"""A headless Chromium whose DevTools endpoint is an upstream, and a client that drives it and keeps count."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

#: Its names on the systems that we know, the first that there is.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--remote-debugging-port=0"),
)


@contextlib.asynccontextmanager
async def devtools(profile: Path) -> AsyncIterator[str]:
    """Start a browser with a profile of its own, and give the HOST:PORT of its DevTools endpoint."""
    assert CHROMIUM is not None
    browser = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert browser.stderr is not None
    reading: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(60):
            while b"DevTools listening on " not in (line := await browser.stderr.readline()):
                assert line, "the browser ended before it was ready"
        # What it says after that is read, so that it never waits for us to do so.
        reading = asyncio.create_task(browser.stderr.read())
        yield line.split(b"DevTools listening on ws://")[1].decode().partition("/")[0]
    finally:
        # The whole of it: a browser is many processes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(browser.pid, signal.SIGKILL)
        await browser.wait()
        if reading is not None:
            await reading


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
