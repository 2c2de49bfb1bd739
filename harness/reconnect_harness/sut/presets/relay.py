"""The ordinary relay: a minimal proxy on the library `websockets`.

    python -m reconnect_harness.sut.presets.relay LISTEN UPSTREAM        HOST:PORT each

It keeps no messages. When one side is lost, it closes the other.
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake

#: Request headers that the library makes itself, or that apply to one hop only.
_NOT_PASSED_ON = ("host", "upgrade", "connection", "content-length", "transfer-encoding")

#: Prefixes of more such headers. The relay answers its client itself, so headers of the reconnect protocol must not
#: reach the upstream, whose answer the client would not get.
_PREFIXES = ("sec-websocket-", "x-reconnect-")


async def _pump(source: Connection, sink: Connection) -> None:
    try:
        async for message in source:
            await sink.send(message)
    except ConnectionClosed:
        # The other side is closed below.
        pass
    finally:
        # 1005 and 1006 say how a connection ended, and must not be sent (RFC 6455 section 7.4.1).
        code = source.close_code or 1006
        if code in (1005, 1006):
            await sink.close(1000 if code == 1005 else 1011)
        else:
            await sink.close(code, source.close_reason or "")


async def relay(listen: str, upstream: str) -> None:
    """Relay from `listen` to `upstream`, HOST:PORT each, until cancelled."""

    async def handle(client: ServerConnection) -> None:
        assert client.request is not None
        headers = [
            (name, value)
            for name, value in client.request.headers.raw_items()
            if name.lower() not in _NOT_PASSED_ON and not name.lower().startswith(_PREFIXES)
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
