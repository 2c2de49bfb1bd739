"""The inside of an actor: a program of the harness that a test runs in a process of its own.

It is started as `python -m harness.MODULE '{"json": "spec"}'`, says one JSON line when it is ready, answers each one-word
command on its stdin with one JSON line, and ends when its stdin ends, which it does whatever becomes of the test.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Command = Callable[[], Awaitable[Mapping[str, Any]]]


def say(fields: Mapping[str, Any]) -> None:
    """Write one JSON line to stdout."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def obey(commands: Mapping[str, Command]) -> None:
    """Answer commands until stdin ends."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            say(await commands[line.decode().strip()]())
    finally:
        transport.close()


def run(play: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Run an actor's coroutine with the spec of the command line."""

    async def main() -> None:
        await play(json.loads(sys.argv[1]))

    asyncio.run(main())
