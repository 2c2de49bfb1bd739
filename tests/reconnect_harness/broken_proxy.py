"""A WebSocket relay that is right, or wrong in the way that it is told: what the checkers are tested against.

    python broken_proxy.py LISTEN UPSTREAM [--drop N] [--swap N] [--repeat N] [--truncate N] [--retype N]
        [--reencode N] [--block N] [--exit N]
        [--cross N] [--turn N]
        [--only text|binary|large|small|126|65536|c2u|u2c] [--leak socket|thread|process|memory] [--in-step]

Each of the first flags does its harm to every Nth message of the whole process, or with --only of those messages;
--exit ends the process there. --cross gives a message to another client or another client's upstream, --turn gives it
back to the end that sent it. --leak keeps something of each connection that is over. --in-step sends to one client at
a time, so that a slow one holds up all. Without a flag it is an ordinary
relay that keeps nothing: when one side is lost, so is the other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

HARMS = ("drop", "swap", "repeat", "truncate", "retype", "reencode", "block", "exit", "cross", "turn")

#: Bytes above which a message is large.
LARGE = 100_000

#: Bytes that are left of a message with --block.
BLOCK = 16 * 1024


def _size(message: str | bytes) -> int:
    return len(message.encode() if isinstance(message, str) else message)


#: Which messages are harmed, given one and whether it is the client's.
ONLY: Mapping[str, Callable[[str | bytes, bool], bool]] = {
    "text": lambda message, from_client: isinstance(message, str),
    "binary": lambda message, from_client: isinstance(message, bytes),
    "large": lambda message, from_client: len(message) > LARGE,
    "small": lambda message, from_client: len(message) <= LARGE,
    # In bytes, where the length of a frame takes more of them.
    "126": lambda message, from_client: _size(message) == 126,
    "65536": lambda message, from_client: _size(message) == 65_536,
    "c2u": lambda message, from_client: from_client,
    "u2c": lambda message, from_client: not from_client,
}

#: What is kept of connections that are over.
KEPT: list[object] = []


class Relay:
    """The messages of all connections, counted, and what becomes of them."""

    def __init__(self, every: dict[str, int | None], only: str | None = None, *, in_step: bool = False) -> None:
        self._every = every
        self._harmed = ONLY[only] if only else lambda message, from_client: True
        self._count = 0
        self._held: dict[Connection, str | bytes] = {}
        # The two connections of each client.
        self.pairs: list[tuple[Connection, Connection]] = []
        self._turn = asyncio.Lock() if in_step else contextlib.nullcontext()

    async def send(self, message: str | bytes, to: Connection) -> None:
        """Send a message, when it is its turn."""
        async with self._turn if isinstance(to, ServerConnection) else contextlib.nullcontext():
            await to.send(message)

    def elsewhere(self, to: Connection, harm: str) -> Connection:
        """Return the connection that a message is given to instead."""
        pair = next(pair for pair in self.pairs if to in pair)
        if harm == "turn":
            return pair[1 - pair.index(to)]
        return self.pairs[self.pairs.index(pair) - 1][pair.index(to)]

    def pass_on(self, message: str | bytes, to: Connection) -> Iterator[tuple[str | bytes, Connection]]:
        """Yield what goes out for one message that came in, and where."""
        if not self._harmed(message, not isinstance(to, ServerConnection)):
            yield message, to
            return
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
        if harm == "reencode" and isinstance(message, str):
            message = message.encode("ascii", "replace").decode()
        if harm == "block":
            message = message[:BLOCK] if isinstance(message, bytes) else message.encode()[:BLOCK].decode()
        if harm == "retype":
            message = message.encode() if isinstance(message, str) else message.decode("latin-1")
        if harm in ("cross", "turn"):
            yield message, self.elsewhere(to, harm)
        elif harm != "drop":
            yield message, to
        if harm == "repeat":
            yield message, to
        if held is not None:
            yield held, to


async def _pump(source: Connection, to: Connection, relay: Relay, leak: str | None) -> None:
    try:
        async for message in source:
            if leak == "memory":
                KEPT.append(message)
            for out, where in relay.pass_on(message, to):
                # The other client may have left, and this one goes on.
                with contextlib.suppress(ConnectionClosed) if where is not to else contextlib.nullcontext():
                    await relay.send(out, where)
    except ConnectionClosed:
        # The other side is closed just below, which is how it learns.
        pass
    finally:
        if leak == "socket" and not isinstance(to, ServerConnection):
            KEPT.append(to)
        else:
            await to.close()


def _leave_behind(leak: str | None) -> None:
    if leak == "thread":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    if leak == "process":
        KEPT.append(subprocess.Popen(["sleep", "60"]))


async def main() -> None:
    """Relay until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("listen")
    parser.add_argument("upstream")
    for harm in HARMS:
        parser.add_argument(f"--{harm}", type=int)
    parser.add_argument("--only", choices=ONLY)
    parser.add_argument("--leak", choices=("socket", "thread", "process", "memory"))
    parser.add_argument("--in-step", action="store_true")
    options = vars(parser.parse_args())
    relay = Relay({harm: options[harm] for harm in HARMS}, options["only"], in_step=options["in_step"])
    leak = options["leak"]

    async def handle(client: ServerConnection) -> None:
        url = f"ws://{options['upstream']}/"
        upstream = await connect(url, compression=None, max_size=None, proxy=None)
        relay.pairs.append((client, upstream))
        await asyncio.wait(
            [
                asyncio.create_task(_pump(client, upstream, relay, leak)),
                asyncio.create_task(_pump(upstream, client, relay, leak)),
            ],
            return_when=asyncio.FIRST_COMPLETED if leak == "socket" else asyncio.ALL_COMPLETED,
        )
        _leave_behind(leak)

    host, _, port = options["listen"].rpartition(":")
    async with serve(handle, host, int(port), compression=None, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
