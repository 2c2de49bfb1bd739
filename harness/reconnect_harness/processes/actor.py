"""The inside of an actor: a program of the harness that a test runs in a process of its own.

It is started as `python -m harness.MODULE '{"json": "spec"}'`, says one JSON line when it is ready, answers each
one-word command on its stdin with one JSON line, and ends when its stdin ends, as it does whatever becomes of the test,
or when it is told to with SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

Command = Callable[[], Awaitable[Mapping[str, Any]]]


def say(fields: Mapping[str, Any]) -> None:
    """Write one JSON line to stdout."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def obey(commands: Mapping[str, Command]) -> None:
    """Answer commands until stdin ends, or SIGTERM comes."""
    await converse(lambda line: commands[line]())


async def converse(answer: Callable[[str], Awaitable[Mapping[str, Any]]]) -> None:
    """Answer lines, without their ends, until stdin ends, or SIGTERM comes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    loop.add_signal_handler(signal.SIGTERM, reader.feed_eof)
    try:
        while line := await reader.readline():
            say(await answer(line.decode().strip()))
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        transport.close()


def background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run `work` beside the caller. If it fails, the whole actor does: half an actor would give a wrong history."""
    task = asyncio.create_task(work)
    task.add_done_callback(_look_at)
    return task


def _look_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        context = {"message": "a part of the actor has failed", "exception": failure}
        asyncio.get_running_loop().call_exception_handler(context)


def _give_up(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    loop.default_exception_handler(context)
    logging.shutdown()
    sys.stderr.flush()
    # From a callback there is no other way out of a running loop; whoever waits for our answer sees the end of stdout.
    os._exit(1)


def run(
    play: Callable[[dict[str, Any]], Awaitable[None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run an actor's coroutine with the spec of the command line, on a loop of asyncio if none is given."""

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(_give_up)
        await play(json.loads(sys.argv[1]))

    logging.basicConfig()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
