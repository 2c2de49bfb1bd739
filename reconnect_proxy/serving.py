"""What a program that serves has around its proxy, be that one process or several: signals, first and last lines."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import click

from .config.model import Config
from .config.values import Address
from .draining import Stopped
from .observe.logs import logger

__all__ = [
    "HEEDED",
    "STOP_SIGNALS",
    "CannotListen",
    "CannotServe",
    "Signals",
    "first_of",
    "listening_on",
    "say_nothing_to_reload",
    "say_ready",
    "say_stopped",
    "say_stopping",
    "tune_gc",
]


class CannotServe(Exception):
    """The program cannot come to serve. The message is one line for the user."""


class CannotListen(CannotServe):
    """A listener cannot be bound."""


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: All that such a program heeds. With several processes only the first one does.
HEEDED = (*STOP_SIGNALS, signal.SIGHUP)


@contextmanager
def listening_on(address: Address, flag: str) -> Iterator[None]:
    """Turn what goes wrong in the block, which listens on `address`, into CannotListen. `flag` names another."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        # `socket.create_server` makes another error of it.
        if isinstance(error, socket.gaierror) or isinstance(error.__context__, socket.gaierror):
            reason = "the host is unknown"
        elif error.errno == errno.EADDRINUSE:
            reason = "the port is in use"
        raise CannotListen(f"cannot listen on {address}: {reason}; choose another with {flag}") from None


class Signals:
    """The signals of a program, heard in the running loop for as long as the `with` block runs."""

    def __init__(self) -> None:
        #: What SIGHUP does, once there is something that it could.
        self.on_hangup: Callable[[], None] = _nothing
        self._stops: asyncio.Queue[None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        """Begin to listen."""
        for number in STOP_SIGNALS:
            self._loop.add_signal_handler(number, self._stops.put_nowait, None)
        self._loop.add_signal_handler(signal.SIGHUP, lambda: self.on_hangup())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let them do what they do by default."""
        for number in HEEDED:
            self._loop.remove_signal_handler(number)

    async def stop(self) -> None:
        """Wait for the next one that says stop: the first ends the program in good order, the second at once."""
        await self._stops.get()


def say_ready(url: str, config: Config, admin: str | None) -> None:
    """Write the line that says that clients can connect to `url`, and where the admin listener is."""
    click.echo(f"listening on {url} -> {', '.join(config.upstream)} (mode {config.mode})", err=True)
    if admin is not None:
        logger.info("admin listening", extra={"fields": {"url": admin}})


def say_stopping(config: Config, sessions: int) -> None:
    """Write that a stop has begun with so many sessions."""
    logger.info("stopping", extra={"fields": {"drain": config.drain, "sessions": sessions}})


def say_stopped(stopped: Stopped) -> None:
    """Write what a stop has ended."""
    level = logging.WARNING if stopped.undelivered_c2u or stopped.undelivered_u2c else logging.INFO
    logger.log(level, "stopped", extra={"fields": stopped._asdict()})


def say_nothing_to_reload() -> None:
    """Write that SIGHUP came to a proxy without certificates."""
    logger.info("nothing to reload", extra={"fields": {"reason": "no certificates are configured"}})


async def first_of(*waits: Coroutine[None, None, None]) -> None:
    """Run all of `waits` until one is done, and cancel the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()


def tune_gc() -> None:
    """Have the collector of cyclic garbage look at new objects by the ten thousand, and at what was imported never.

    A session is some sixty objects that stay. By default they are looked at a dozen times while a few thousand sessions
    are opened, which is a fifth of what that takes, and everything imported with them.
    """
    gc.freeze()
    gc.set_threshold(10_000)


def _nothing() -> None:
    """Do nothing."""
