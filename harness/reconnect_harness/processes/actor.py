"""The inside of an actor: a program of the harness that a run starts in a process of its own.

It is started as `python -m reconnect_harness.MODULE '{"json": "spec"}'`, writes one JSON line when it is ready, and
answers each one-word command on its stdin with one JSON line. It ends when its stdin ends, which happens however the
run ends, or on SIGTERM.
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
    """Answer lines, without their newlines, until stdin ends, or SIGTERM comes."""
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
    """Run `work` in a task. If it fails, the whole actor fails: a part of an actor would record a wrong history."""
    task = asyncio.create_task(work)
    task.add_done_callback(_check_failure)
    return task


def _check_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        context = {"message": "a part of the actor has failed", "exception": failure}
        asyncio.get_running_loop().call_exception_handler(context)


def _exit_on_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    loop.default_exception_handler(context)
    logging.shutdown()
    sys.stderr.flush()
    # A callback cannot end a running loop in another way. The run that waits for an answer sees the end of stdout.
    os._exit(1)


def run(
    play: Callable[[dict[str, Any]], Awaitable[None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run an actor's coroutine with the spec of the command line, on a loop of asyncio if no other is given."""

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(_exit_on_failure)
        await play(json.loads(sys.argv[1]))

    logging.basicConfig()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
