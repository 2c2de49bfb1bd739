"""A headless Chromium, driven over its DevTools protocol: the text, requests and errors of a page."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.chromium import devtools


class Tab:
    """One tab. `complaints` are its console errors and exceptions, `requests` the URLs it asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._socket = socket
        self._asked = 0
        self._events: list[str] = []

    async def open(self, page: Path) -> None:
        """Load a file and wait until it is drawn."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=page.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._take(json.loads(await self._socket.recv()))
        await self.settle()

    async def settle(self) -> None:
        """Wait until what was asked for has been drawn: two frames."""
        await self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    async def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Make one call of the protocol and return its result."""
        self._asked += 1
        await self._socket.send(json.dumps({"id": self._asked, "method": method, "params": params}))
        while True:
            message = json.loads(await self._socket.recv())
            if message.get("id") == self._asked:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        method, params = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])


@contextlib.asynccontextmanager
async def tab(profile: Path) -> AsyncIterator[Tab]:
    """Start a browser with a profile of its own, give its tab, and stop it."""
    async with devtools(profile, "--hide-scrollbars", "--window-size=1280,900") as address:
        async with connect(address, max_size=None, proxy=None) as root:
            targets = await Tab(root).call("Target.getTargets")
            page = next(target for target in targets["targetInfos"] if target["type"] == "page")
        base = address.partition("/devtools/")[0]
        async with connect(f"{base}/devtools/page/{page['targetId']}", max_size=None, proxy=None) as socket:
            yield Tab(socket)
