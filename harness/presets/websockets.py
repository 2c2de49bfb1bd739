"""The ordinary relay: what one writes in an afternoon on the library `websockets`, and no more.

    python -m harness.presets.websockets LISTEN UPSTREAM        HOST:PORT each

It keeps nothing. When one side is lost, it closes the other.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from harness.sut import Listening

#: Request headers that the library makes itself, or that are about one hop only.
_NOT_PASSED_ON = ("host", "upgrade", "connection", "content-length", "transfer-encoding")


class Websockets(Listening):
    """The relay of this module, as a process."""

    def describe(self) -> str:
        """Return what it is made of."""
        return f"a plain relay on websockets {version('websockets')}"

    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Return the command that runs this module."""
        return [sys.executable, "-P", "-m", __name__, listen, upstream]


async def _pump(source: Connection, sink: Connection) -> None:
    try:
        async for message in source:
            await sink.send(message)
    except ConnectionClosed:
        # The other side learns of it by being closed.
        pass
    finally:
        await sink.close(source.close_code if source.close_code in range(1000, 1004) else 1011)


async def relay(listen: str, upstream: str) -> None:
    """Relay from `listen` to `upstream`, HOST:PORT each, until cancelled."""

    async def handle(client: ServerConnection) -> None:
        assert client.request is not None
        headers = [
            (name, value)
            for name, value in client.request.headers.raw_items()
            if name.lower() not in _NOT_PASSED_ON and not name.lower().startswith("sec-websocket-")
        ]
        url = f"ws://{upstream}{client.request.path}"
        try:
            server = await connect(
                url,
                additional_headers=headers,
                compression=None,
                max_size=None,
                proxy=None,
                user_agent_header=None,
            )
        except (OSError, InvalidHandshake, TimeoutError):
            await client.close(1014, "the upstream cannot be reached")
            return
        async with server:
            await asyncio.gather(_pump(client, server), _pump(server, client))

    host, _, port = listen.rpartition(":")
    async with serve(handle, host, int(port), compression=None, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(relay(*sys.argv[1:3]))
