"""The ordinary relay: a minimal proxy on the library `websockets`.

    python -m reconnect_harness.sut.presets.relay LISTEN UPSTREAM        HOST:PORT each

It keeps no messages. Handshakes and closes pass both ways, and when one side is lost, it closes the other.
"""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Request, Response

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


class Relay:
    """Dials the upstream for each client, before it answers the client's handshake."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._dialled: dict[ServerConnection, ClientConnection] = {}

    async def admit(self, client: ServerConnection, request: Request) -> Response | None:
        """Dial the upstream with what the client asks for; return the refusal, if it refuses."""
        headers = [
            (name, value)
            for name, value in request.headers.raw_items()
            if name.lower() not in _NOT_PASSED_ON and not name.lower().startswith(_PREFIXES)
        ]
        offered = [
            name.strip() for line in request.headers.get_all("Sec-WebSocket-Protocol") for name in line.split(",")
        ]
        options: dict[str, Any] = {"subprotocols": offered} if offered else {}
        try:
            self._dialled[client] = await connect(
                f"ws://{self._upstream}{request.path}",
                additional_headers=headers,
                compression=None,
                max_size=None,
                proxy=None,
                user_agent_header=None,
                **options,
            )
        except InvalidStatus as refused:
            return client.respond(HTTPStatus(refused.response.status_code), (refused.response.body or b"").decode())
        except (OSError, InvalidHandshake, TimeoutError):
            return client.respond(HTTPStatus.BAD_GATEWAY, "the upstream cannot be reached\n")
        return None

    def choose(self, client: ServerConnection, offered: object) -> Any:
        """Return the subprotocol that the upstream has chosen."""
        return self._dialled[client].subprotocol

    async def serve(self, client: ServerConnection) -> None:
        """Pass messages on until one side ends."""
        server = self._dialled.pop(client)
        async with server:
            await asyncio.gather(_pump(client, server), _pump(server, client))


async def relay(listen: str, upstream: str) -> None:
    """Relay from `listen` to `upstream`, HOST:PORT each, until cancelled."""
    mine = Relay(upstream)
    host, _, port = listen.rpartition(":")
    options: dict[str, Any] = {"process_request": mine.admit, "select_subprotocol": mine.choose}
    async with serve(mine.serve, host, int(port), compression=None, max_size=None, **options) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(relay(*sys.argv[1:3]))
