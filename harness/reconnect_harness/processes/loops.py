"""Event loops for code that is not asynchronous: `run_to_end` runs one coroutine, `LoopThread` is a loop in a thread.

Tests that have no event loop, and tests whose own loop must not be blocked, use the loop in the thread.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread: a context manager. What still runs on it at the end is cancelled."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._live, name="reconnect-harness", daemon=True)
        self._begun = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there, and wait for its result or exception. Ctrl-C cancels it, and waits for its end."""
        ended = threading.Event()

        async def noted() -> T:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(noted(), self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            ended.wait()
            raise

    def begin(self, work: Coroutine[Any, Any, object]) -> Background:
        """Run a coroutine there, and do not wait for it."""

        async def task() -> asyncio.Task[object]:
            return asyncio.create_task(work)

        return Background(self, self.run(task()))

    def _live(self) -> None:
        asyncio.run(self._wait())

    async def _wait(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._begun.set()
        await self._over.wait()


class Background:
    """A coroutine that runs on a `LoopThread`."""

    def __init__(self, loop: LoopThread, task: asyncio.Task[object]) -> None:
        self._loop = loop
        self._task = task

    def wait(self) -> None:
        """Wait for its end; raise its exception."""
        self._loop.run(_ended(self._task))
        if not self._task.cancelled():
            self._task.result()

    def cancel(self) -> None:
        """Cancel it if it still runs, and wait for its end; raise its exception."""
        self._loop.run(_ended(self._task, cancel=True))
        self.wait()


async def _ended(task: asyncio.Task[object], *, cancel: bool = False) -> None:
    if cancel:
        task.cancel()
    await asyncio.wait([task])


class Terminated(KeyboardInterrupt):
    """SIGTERM has ended the run; everything that it had started is stopped."""


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own. Ctrl-C and SIGTERM cancel it, and it stops what it has started.

    Raises:
        Terminated: SIGTERM came.

    """
    terminated = False

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, terminate)
        try:
            result = await work
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
        if task.cancelling():
            # The signal came when the awaited work had just finished, so the cancellation was not raised there.
            raise asyncio.CancelledError
        return result

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        if terminated:
            raise Terminated from None
        raise
