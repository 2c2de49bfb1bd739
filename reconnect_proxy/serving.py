"""What a program has around its proxy, with one process or several: signals, and its first and last log lines."""

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

from .config.model import Config
from .config.values import Address
from .draining import Stopped
from .observe.logs import announce, logger


class CannotServe(Exception):
    """The program cannot serve. The message is one line for the user."""


class CannotListen(CannotServe):
    """A listener cannot be bound."""


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: All signals that such a program handles. With several processes only the first one does.
HANDLED_SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)


@contextmanager
def listening_on(address: Address, flag: str) -> Iterator[None]:
    """Turn an OSError in the block, which listens on `address`, into CannotListen. `flag` is the option for it."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        # `socket.create_server` raises another error in its place.
        if isinstance(error, socket.gaierror) or isinstance(error.__context__, socket.gaierror):
            reason = "the host is unknown"
        elif error.errno == errno.EADDRINUSE:
            reason = "the port is in use"
        raise CannotListen(f"cannot listen on {address}: {reason}; choose another with {flag}") from None


class Signals:
    """The signals of a program, handled in the running loop while the `with` block runs."""

    def __init__(self) -> None:
        #: What SIGHUP does. Until there are certificates to reload it does nothing.
        self.on_hangup: Callable[[], None] = lambda: None
        self._stops: asyncio.Queue[None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        for number in STOP_SIGNALS:
            self._loop.add_signal_handler(number, self._stops.put_nowait, None)
        self._loop.add_signal_handler(signal.SIGHUP, lambda: self.on_hangup())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore what the signals do by default."""
        for number in HANDLED_SIGNALS:
            self._loop.remove_signal_handler(number)

    async def stop(self) -> None:
        """Wait for the next stop signal. The first ends the program in good order, the second at once."""
        await self._stops.get()


def say_ready(url: str, config: Config, admin: str | None) -> None:
    """Write that clients can connect to `url`, and where the admin listener is."""
    announce(f"listening on {url} -> {', '.join(config.upstream)} (mode {config.mode})")
    if admin is not None:
        logger.info("admin listening", extra={"fields": {"url": admin}})


def say_stopping(config: Config, sessions: int) -> None:
    """Write that a stop has begun, with the number of sessions."""
    logger.info("stopping", extra={"fields": {"drain": config.drain, "sessions": sessions}})


def say_stopped(stopped: Stopped) -> None:
    level = logging.INFO if stopped.complete else logging.WARNING
    logger.log(level, "stopped", extra={"fields": stopped._asdict()})


def say_nothing_to_reload() -> None:
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
    """Have the garbage collector check new objects every ten thousand, and never those of imported modules.

    A session is some sixty objects that stay. By default the collector checks them, and all imported objects, a dozen
    times while a few thousand sessions are opened, which takes a fifth of the time.
    """
    gc.freeze()
    gc.set_threshold(10_000)
