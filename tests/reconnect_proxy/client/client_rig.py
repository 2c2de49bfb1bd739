"""What the tests of the aware client share: a small aware server behind a link that is cut, held and taken down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reconnect_proxy.client.connect import Connection

from ..cuttable_relay import CuttableRelay
from .aware_server import PATIENCE, AwareServer, Data, ServerSession

#: The server, the link to it, and the URL of that link.
Link = tuple[AwareServer, CuttableRelay, str]


def echo(session: ServerSession, message: Data) -> None:
    """Send back what came."""
    session.push(message)


def numbered(first: int, last: int) -> list[Data]:
    """Messages first..last, of both kinds, of sizes from a few bytes to a few KiB, each one recognizable."""
    return [f"{n}:" + "é" * (n % 977) if n % 2 else f"{n}:".encode() + bytes(n % 3001) for n in range(first, last + 1)]


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds; for what has no event to wait for."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(0.001)


async def take(ws: Connection, count: int) -> list[Data]:
    """Receive `count` messages."""
    return [await ws.recv(PATIENCE) for _ in range(count)]
