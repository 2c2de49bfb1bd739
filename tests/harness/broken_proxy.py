"""A WebSocket relay that is right, or wrong in the way that it is told: what the checkers are tested against.

    python broken_proxy.py LISTEN UPSTREAM [--drop N] [--swap N] [--repeat N] [--truncate N] [--retype N] [--exit N]

Each flag does its harm to every Nth message of the whole process; --exit ends the process there. Without a flag it is
an ordinary relay that keeps nothing: when one side is lost, so is the other.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

HARMS = ("drop", "swap", "repeat", "truncate", "retype", "exit")


class Relay:
    """The messages of all connections, counted, and what becomes of them."""

    def __init__(self, every: dict[str, int | None]) -> None:
        self._every = every
        self._count = 0
        self._held: dict[Connection, str | bytes] = {}

    def pass_on(self, message: str | bytes, to: Connection) -> Iterator[str | bytes]:
        """Yield what goes out for one message that came in."""
        self._count += 1
        harm = next((name for name, n in self._every.items() if n and self._count % n == 0), None)
        held = self._held.pop(to, None)
        if harm == "swap" and held is None:
            self._held[to] = message
            return
        if harm == "exit":
            os._exit(3)
        if harm == "truncate":
            message = message[: len(message) // 2]
        if harm == "retype":
            message = message.encode() if isinstance(message, str) else message.decode("latin-1")
        if harm != "drop":
            yield message
        if harm == "repeat":
            yield message
        if held is not None:
            yield held


async def _pump(source: Connection, to: Connection, relay: Relay) -> None:
    try:
        async for message in source:
            for out in relay.pass_on(message, to):
                await to.send(out)
    except ConnectionClosed:
        # The other side is closed just below, which is how it learns.
        pass
    finally:
        await to.close()


async def main() -> None:
    """Relay until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("listen")
    parser.add_argument("upstream")
    for harm in HARMS:
        parser.add_argument(f"--{harm}", type=int)
    options = vars(parser.parse_args())
    relay = Relay({harm: options[harm] for harm in HARMS})

    async def handle(client: ServerConnection) -> None:
        url = f"ws://{options['upstream']}/"
        async with connect(url, compression=None, max_size=None, proxy=None) as upstream:
            await asyncio.gather(_pump(client, upstream, relay), _pump(upstream, client, relay))

    host, _, port = options["listen"].rpartition(":")
    async with serve(handle, host, int(port), compression=None, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
