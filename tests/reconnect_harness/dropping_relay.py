"""A relay that is right, or drops something of handshakes or closes: what `handshake-passes` is tested against.

    python dropping_relay.py LISTEN UPSTREAM [--drop WHAT] [--redial]

It is the preset `websockets`, except for what it drops (`DROPS`). With --redial it keeps its client when the upstream
is lost without a close, and dials it again with the same handshake; `header-again` is dropped only then.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.http11 import Request

from reconnect_harness.sut.presets import relay

#: How a connection ended, which must not be sent.
_UNSENDABLE = (None, 1005, 1006)

#: What is dropped of the path and headers of a handshake.
Handshake = tuple[str, list[tuple[str, str]], list[str]]

DROPS: Mapping[str, Callable[[str, list[tuple[str, str]], list[str]], Handshake]] = {
    "path": lambda path, headers, offered: (f"/?{path.partition('?')[2]}", headers, offered),
    "query": lambda path, headers, offered: (path.partition("?")[0], headers, offered),
    "escapes": lambda path, headers, offered: (path.replace("%20", "+"), headers, offered),
    "cookie": lambda path, headers, offered: (
        path,
        [(name, value.partition(";")[0] if name == "Cookie" else value) for name, value in headers],
        offered,
    ),
    "header": lambda path, headers, offered: (path, [each for each in headers if each[0] != "X-Tenant"], offered),
    "value": lambda path, headers, offered: (path, [(n, v.partition(",")[0]) for n, v in headers], offered),
    "subprotocol": lambda path, headers, offered: (path, headers, []),
    "second-subprotocol": lambda path, headers, offered: (path, headers, offered[:1]),
}


class DroppingRelay:
    """Relays, and drops."""

    def __init__(self, upstream: str, drop: str | None, *, redial: bool) -> None:
        self._upstream = upstream
        self._drop = drop
        self._redial = redial
        self._dialled: dict[ServerConnection, ClientConnection] = {}

    async def dial(self, request: Request, *, again: bool = False) -> ClientConnection:
        headers = [
            (name, value)
            for name, value in request.headers.raw_items()
            if name.lower() not in relay._NOT_PASSED_ON and not name.lower().startswith(relay._PREFIXES)
        ]
        lines = request.headers.get_all("Sec-WebSocket-Protocol")
        offered = [name.strip() for line in lines for name in line.split(",")]
        drop = {"header-again": "header" if again else None}.get(self._drop or "", self._drop)
        path = request.path
        if drop in DROPS:
            path, headers, offered = DROPS[drop](path, headers, offered)
        more: dict[str, Any] = {"subprotocols": offered} if offered else {}
        url = f"ws://{self._upstream}{path}"
        return await connect(url, additional_headers=headers, compression=None, proxy=None, **more)

    async def admit(self, client: ServerConnection, request: Request) -> None:
        self._dialled[client] = await self.dial(request)

    def choose(self, client: ServerConnection, offered: object) -> Any:
        return None if self._drop == "choice" else self._dialled[client].subprotocol

    async def handle(self, client: ServerConnection) -> None:
        server = self._dialled.pop(client)
        assert client.request is not None
        up = asyncio.create_task(self._up(client))
        self._dialled[client] = server
        try:
            while await self._down(server, client):
                server = self._dialled[client] = await self._dial_again(client.request)
        finally:
            await self._dialled.pop(client).close()
            up.cancel()

    async def _dial_again(self, request: Request) -> ClientConnection:
        while True:
            try:
                return await self.dial(request, again=True)
            except (OSError, InvalidHandshake):
                await asyncio.sleep(0.02)

    async def _up(self, client: ServerConnection) -> None:
        """Pass on what the client sends, as far as there is an upstream."""
        try:
            async for message in client:
                try:
                    await self._dialled[client].send(message)
                except ConnectionClosed:
                    continue
        except ConnectionClosed:
            pass
        await self._close(self._dialled[client], client, "up")

    async def _down(self, server: ClientConnection, client: ServerConnection) -> bool:
        """Pass on what the upstream sends; return whether to dial it again."""
        try:
            async for message in server:
                await client.send(message)
        except ConnectionClosed:
            pass
        if self._redial and server.close_code in _UNSENDABLE and client.close_code is None:
            return True
        await self._close(client, server, "down")
        return False

    async def _close(self, to: Connection, source: Connection, way: str) -> None:
        """Close one side as the other was closed, but for what is dropped."""
        code = 1011 if source.close_code in _UNSENDABLE else source.close_code or 1000
        if self._drop == f"code-{way}":
            code = 1000
        await to.close(code, "" if self._drop == f"reason-{way}" else source.close_reason or "")


async def main() -> None:
    """Relay until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("listen")
    parser.add_argument("upstream")
    parser.add_argument("--drop")
    parser.add_argument("--redial", action="store_true")
    options = parser.parse_args()
    mine = DroppingRelay(options.upstream, options.drop, redial=options.redial)
    host, _, port = options.listen.rpartition(":")
    told: dict[str, Any] = {"process_request": mine.admit, "select_subprotocol": mine.choose}
    async with serve(mine.handle, host, int(port), compression=None, **told) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
