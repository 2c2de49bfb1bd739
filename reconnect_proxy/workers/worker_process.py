"""One worker as the supervisor has it: its process, the channel to it, and what becomes of it when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..config.model import Address
from ..draining import Stopped
from ..events import Observe, WorkerLost, WorkerReturned
from ..serving import HEEDED
from .addresses import AddressTable
from .channel import Channel, ChannelClosed
from .listeners import listen_again
from .shared_counters import Tallies

__all__ = ["Member", "Shared"]

#: Seconds before a worker that died is started again: at first, and at the most when it dies over and over.
FIRST_DELAY, LONGEST_DELAY = 0.05, 10.0
#: Seconds that a worker must have lived for the next one to be started as if nothing had been.
STEADY = 30.0
#: Seconds before the next start from which on clients are told not to wait for it.
WORTH_WAITING = 1.0
#: Seconds between two looks at whether a process has ended whose channel has not.
LOOK_EVERY = 1.0
#: Seconds that a process may take to end when its channel has ended.
LAST_WORDS = 2.0


@dataclass(slots=True)
class Shared:
    """What all workers have: memory, inboxes to read and to write, and the key of the hash."""

    memory: int
    tallies: Tallies
    reading: list[socket.socket]
    writing: list[socket.socket]
    key: bytes
    # Where there is a limit for each address.
    addresses_memory: int | None
    addresses: AddressTable | None

    @property
    def descriptors(self) -> list[int]:
        """Those that all workers are given, but for their listeners and what they read."""
        memory = [self.memory] if self.addresses_memory is None else [self.memory, self.addresses_memory]
        return [*memory, *(end.fileno() for end in self.writing)]

    def forget(self, worker: int) -> int:
        """Forget what a worker that has ended had, and return how many sessions those were."""
        sessions = self.tallies.sessions(worker)
        self.tallies.set_sessions(worker, 0)
        if self.addresses is not None:
            self.addresses.clear(worker)
        return sessions

    def close(self) -> None:
        """Close it."""
        self.tallies.close()
        os.close(self.memory)
        if self.addresses is not None and self.addresses_memory is not None:
            self.addresses.close()
            os.close(self.addresses_memory)
        for end in (*self.reading, *self.writing):
            end.close()


class Member:
    """The worker `number`, in one process after the other."""

    def __init__(
        self, number: int, options: dict[str, object], listener: socket.socket, shared: Shared, observe: Observe
    ) -> None:
        """Prepare a worker with these `options`; see `run`."""
        self.number = number
        # It is ready: since its start, or anew.
        self.ready = asyncio.Event()
        # Why it did not come to be ready at first.
        self.failure: str | None = None
        # Called with its number when it has died.
        self.on_lost: Callable[[int], None] = _ignore
        self._options = options
        self._listener = listener
        self._address = Address(*listener.getsockname()[:2])
        self._shared = shared
        self._observe = observe
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._stopping = False
        self._stopped: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
        self._lost_at = 0.0

    @property
    def up(self) -> bool:
        """Whether it serves."""
        return self.ready.is_set()

    # Its life.

    async def run(self) -> None:
        """Start it, and again whenever it dies, until it has stopped or did not come to be ready at first."""
        loop = asyncio.get_running_loop()
        delay = 0.0
        was_up = False
        while True:
            began = loop.time()
            status = await self._live()
            was_up = was_up or self.up
            self.ready.clear()
            sessions = self._shared.forget(self.number)
            if not was_up:
                self.failure = status
            if was_up and not self._stopped.done():
                self._lost_at = self._lost_at or loop.time()
                self.on_lost(self.number)
                self._observe(WorkerLost(self.number, status, sessions))
            if self._stopping or not was_up:
                if not self._stopped.done():
                    self._stopped.set_result(Stopped(sessions, 0, 0))
                return
            steady = loop.time() - began >= STEADY
            delay = FIRST_DELAY if steady or not delay else min(2 * delay, LONGEST_DELAY)
            if delay >= WORTH_WAITING:
                # Whoever waits for it is told, and the system gives it no more connections.
                self._shared.tallies.set_gone(self.number, True)
                self._listener.close()
            await asyncio.sleep(delay)

    async def _live(self) -> str:
        """Start a process, and return how it ended, in words."""
        try:
            if self._listener.fileno() < 0:
                self._listener = listen_again(self._address)
            self._process, end = self._spawn()
        except OSError as error:
            return f"it could not be started: {error.strerror}"
        try:
            self._channel = await Channel.open(end)
            self._channel.tell(**self._given())
            talk = asyncio.create_task(self._channel.run(self._hear, _answer_nothing))
            try:
                # A program that a hook has started may have the channel, and then its end does not show.
                while not talk.done() and self._process.poll() is None:
                    await asyncio.wait([talk], timeout=LOOK_EVERY)
                return await self._ended(self._process)
            finally:
                talk.cancel()
                await asyncio.wait([talk])
        finally:
            self._channel = None
            self.kill()
            self._process.wait()

    def _spawn(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Start a process; return it, and our end of the channel to it."""
        ours, its = socket.socketpair()
        flags = [f"-W{option}" for option in sys.warnoptions] + (["-X", "dev"] if sys.flags.dev_mode else [])
        # -P: what lies in the working directory comes last, as it does here.
        command = [sys.executable, "-P", *flags, "-m", f"{__package__}.worker", str(its.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # Signals that are ignored at its start stay so, and there is no moment in which they would end it.
        signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in HEEDED}
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[its.fileno(), *self._descriptors()], env=environment
            )
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
        return process, ours

    def _descriptors(self) -> list[int]:
        own = (self._listener, self._shared.reading[self.number])
        return [*self._shared.descriptors, *(end.fileno() for end in own)]

    def _given(self) -> dict[str, Any]:
        shared = self._shared
        return {
            "number": self.number,
            "count": shared.tallies.count,
            "key": shared.key.hex(),
            "anew": self._lost_at > 0.0,
            "tallies": shared.memory,
            "addresses": shared.addresses_memory,
            "listener": self._listener.fileno(),
            "reading": shared.reading[self.number].fileno(),
            "writing": [end.fileno() for end in shared.writing],
            "options": self._options,
            "python_path": os.environ.get("PYTHONPATH"),
        }

    @staticmethod
    async def _ended(process: subprocess.Popen[bytes]) -> str:
        """Wait for a process that is about to end, and say how it did."""
        deadline = asyncio.get_running_loop().time() + LAST_WORDS
        while process.poll() is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        status = process.poll()
        if status is None:
            return "it broke off its channel"
        if status < 0:
            with suppress(ValueError):
                return f"it was killed by {signal.Signals(-status).name}"
        return f"it ended with status {status}"

    def _hear(self, told: dict[str, Any]) -> None:
        if "ready" in told:
            self.ready.set()
            if self._lost_at:
                self._observe(WorkerReturned(self.number, asyncio.get_running_loop().time() - self._lost_at))
                self._lost_at = 0.0
            if self._stopping:
                self.tell("stop")
        elif "stopped" in told and not self._stopped.done():
            self._stopped.set_result(Stopped(**told["stopped"]))

    # What it is told and asked.

    def tell(self, what: str, **details: Any) -> None:
        """Tell it something, if it is there."""
        if self._channel is not None:
            self._channel.tell(tell=what, **details)

    async def ask(self, kind: str, within: float, **details: Any) -> dict[str, Any]:
        """Ask it something. Raises TimeoutError, or ChannelClosed if it is not there."""
        if self._channel is None or not self.up:
            raise ChannelClosed
        return await self._channel.ask(kind, within, **details)

    # Its end.

    def stop(self) -> None:
        """Have it stop in good order. One that is just being started is not waited for."""
        self._stopping = True
        if self.up:
            self.tell("stop")
        else:
            self.kill()
            if not self._stopped.done():
                self._stopped.set_result(Stopped(0, 0, 0))

    async def stopped(self) -> Stopped:
        """Wait until it has stopped, and return what that has ended; if it died instead, the sessions that it had."""
        return await asyncio.shield(self._stopped)

    def kill(self) -> None:
        """End it now, if it is there."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """Close its listener."""
        self._listener.close()


def _ignore(number: int) -> None:
    """Do nothing."""


async def _answer_nothing(kind: str, details: dict[str, Any]) -> dict[str, Any]:
    """Answer a worker, which asks nothing."""
    raise ValueError(f"a worker has asked {kind!r}")
