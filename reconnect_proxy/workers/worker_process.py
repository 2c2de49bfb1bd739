"""One worker as the supervisor sees it: its process, the channel to it, and a new process when that one dies."""

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
from functools import partial
from typing import Any

from ..draining import Stopped
from ..events import Observe, WorkerLost, WorkerReturned
from ..net.listeners import listen_again
from ..serving import HANDLED_SIGNALS
from .addresses import AddressTable
from .channel import Channel, ChannelClosed
from .shared_counters import SharedCounters
from .watchdog import Watchdog

#: Seconds before a worker that died is started again: the first time, and the longest delay if it dies repeatedly.
FIRST_DELAY, LONGEST_DELAY = 0.05, 10.0
#: Seconds after which a worker is considered steady: the next delay is the first again.
STEADY = 30.0
#: From this delay on, in seconds, clients are refused rather than left waiting for the worker.
WORTH_WAITING = 1.0
#: Seconds between two checks whether a process has ended whose channel has not.
CHECK_EVERY = 1.0
#: Seconds that a process has to end after its channel has.
EXIT_TIMEOUT = 2.0


@dataclass(slots=True)
class SharedResources:
    """What all workers share: memory, mailboxes to read and to write, and the key of the hash that places ids."""

    memory: int
    counters: SharedCounters
    reading: list[socket.socket]
    writing: list[socket.socket]
    key: bytes
    # If there is a limit for each address.
    addresses_memory: int | None
    addresses: AddressTable | None

    @property
    def descriptors(self) -> list[int]:
        """Those that every worker gets, in addition to its listener and the mailbox that it reads."""
        memory = [self.memory] if self.addresses_memory is None else [self.memory, self.addresses_memory]
        return [*memory, *(end.fileno() for end in self.writing)]

    def forget(self, worker: int) -> int:
        """Clear the counts of a worker that has ended, and return how many sessions it had."""
        sessions = self.counters.sessions(worker)
        self.counters.set_sessions(worker, 0)
        if self.addresses is not None:
            self.addresses.clear(worker)
        return sessions

    def close(self) -> None:
        """Close the memory and the mailboxes."""
        self.counters.close()
        os.close(self.memory)
        if self.addresses is not None and self.addresses_memory is not None:
            self.addresses.close()
            os.close(self.addresses_memory)
        for end in (*self.reading, *self.writing):
            end.close()


class WorkerProcess:
    """The worker `number`: one process after another."""

    def __init__(
        self,
        number: int,
        options: dict[str, object],
        listeners: list[socket.socket],
        shared: SharedResources,
        timeout: float | None,
        observe: Observe,
        on_lost: Callable[[int], None],
    ) -> None:
        """Prepare a worker; see `run`.

        Args:
            number: its number, from 0 on.
            options: those of its proxy.
            listeners: where clients connect.
            shared: what all workers share.
            timeout: seconds without a response after which it is killed and replaced; None: never.
            observe: hears that it died.
            on_lost: is called with its number when it has died.
        """
        self.number = number
        self._timeout = timeout
        self._watchdog = Watchdog(timeout)
        # Set while it serves.
        self.ready = asyncio.Event()
        # Why its first process did not become ready.
        self.failure: str | None = None
        self._on_lost = on_lost
        self._options = options
        self._listeners = listeners
        self._addresses = [listener.getsockname() for listener in listeners]
        self._shared = shared
        self._observe = observe
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._stopping = False
        self._stopped: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
        # When the process died that the present one replaces; None: it replaces none.
        self._lost_at: float | None = None

    @property
    def up(self) -> bool:
        """Whether it serves."""
        return self.ready.is_set()

    @property
    def silent(self) -> bool:
        """Whether it does not respond at present."""
        return self._watchdog.silence.is_set()

    # Its processes.

    async def run(self) -> None:
        """Start it, and again when it dies, until it has stopped. If the first start fails, give up."""
        loop = asyncio.get_running_loop()
        delay = 0.0
        was_up = False
        while True:
            began = loop.time()
            status = await self._run_process()
            was_up = was_up or self.up
            self.ready.clear()
            self._watchdog.silence.clear()
            sessions = self._shared.forget(self.number)
            if not was_up:
                self.failure = status
            if was_up and not self._stopped.done():
                self._lost_at = self._lost_at or loop.time()
                self._on_lost(self.number)
                self._observe(WorkerLost(self.number, status, sessions))
            if self._stopping or not was_up:
                if not self._stopped.done():
                    self._stopped.set_result(Stopped(sessions))
                return
            steady = loop.time() - began >= STEADY
            delay = FIRST_DELAY if steady or not delay else min(2 * delay, LONGEST_DELAY)
            if delay >= WORTH_WAITING:
                # Clients that wait for it are refused, and the system gives it no more connections.
                self._shared.counters.set_gone(self.number, True)
                self.close()
            await asyncio.sleep(delay)

    async def _run_process(self) -> str:
        """Start a process, wait until it ends, and return how it ended, in words."""
        try:
            if self._listeners[0].fileno() < 0:
                self._listeners = listen_again(self._addresses)
            self._process, end = self._spawn()
        except OSError as error:
            return f"it could not be started: {error.strerror}"
        try:
            self._channel = await Channel.open(end)
            self._channel.tell(**self._given())
            talk = asyncio.create_task(self._channel.run(self._on_notice, _answer_nothing))
            hangs = asyncio.create_task(self._watch(self._channel))
            try:
                # A program that a hook has started may keep the channel open after the worker has ended.
                while not (talk.done() or hangs.done()) and self._process.poll() is None:
                    await asyncio.wait([talk, hangs], timeout=CHECK_EVERY, return_when=asyncio.FIRST_COMPLETED)
                if hangs.done() and hangs.exception() is None:
                    return f"it did not respond for {self._timeout:g} s, and was killed"
                return await self._exit_of(self._process)
            finally:
                for task in (talk, hangs):
                    task.cancel()
                await asyncio.gather(talk, hangs, return_exceptions=True)
        finally:
            self._channel = None
            self.kill()
            self._process.wait()

    async def _watch(self, channel: Channel) -> None:
        """Return when the process has become ready and later has not responded for too long."""
        await self.ready.wait()
        self._watchdog = Watchdog(self._timeout)
        await self._watchdog.run(partial(channel.ask, "alive"))

    def _spawn(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Start a process; return it, and our end of the channel to it."""
        ours, its = socket.socketpair()
        flags = [f"-W{option}" for option in sys.warnoptions] + (["-X", "dev"] if sys.flags.dev_mode else [])
        # -P: modules in the working directory come last, as in this process.
        command = [sys.executable, "-P", *flags, "-m", f"{__package__}.worker", str(its.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # Signals that are ignored at its start stay ignored, so at no moment would they end it.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in HANDLED_SIGNALS}
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
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        return process, ours

    def _descriptors(self) -> list[int]:
        own = (*self._listeners, self._shared.reading[self.number])
        return [*self._shared.descriptors, *(end.fileno() for end in own)]

    def _given(self) -> dict[str, Any]:
        shared = self._shared
        return {
            "number": self.number,
            "count": shared.counters.count,
            "key": shared.key.hex(),
            "is_replacement": self._lost_at is not None,
            "counters": shared.memory,
            "addresses": shared.addresses_memory,
            "listeners": [listener.fileno() for listener in self._listeners],
            "reading": shared.reading[self.number].fileno(),
            "writing": [end.fileno() for end in shared.writing],
            "options": self._options,
            "python_path": os.environ.get("PYTHONPATH"),
        }

    @staticmethod
    async def _exit_of(process: subprocess.Popen[bytes]) -> str:
        """Wait for a process that should end soon, and say how it ended."""
        deadline = asyncio.get_running_loop().time() + EXIT_TIMEOUT
        while process.poll() is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        status = process.poll()
        if status is None:
            return "it broke off its channel"
        if status < 0:
            with suppress(ValueError):
                return f"it was killed by {signal.Signals(-status).name}"
        return f"it ended with status {status}"

    # Notices and questions.

    def _on_notice(self, told: dict[str, Any]) -> None:
        if "ready" in told:
            self.ready.set()
            if self._lost_at is not None:
                self._observe(WorkerReturned(self.number, asyncio.get_running_loop().time() - self._lost_at))
                self._lost_at = None
            if self._stopping:
                self.tell("stop")
        elif "stopped" in told and not self._stopped.done():
            self._stopped.set_result(Stopped(**told["stopped"]))

    def tell(self, what: str, **details: Any) -> None:
        """Send it a notice, if it is running."""
        if self._channel is not None:
            self._channel.tell(tell=what, **details)

    async def ask(self, kind: str, within: float, **details: Any) -> dict[str, Any]:
        """Ask it a question. Raises TimeoutError, at once while it is silent, or ChannelClosed if it does not serve."""
        if self._channel is None or not self.up:
            raise ChannelClosed
        answer = asyncio.create_task(self._channel.ask(kind, within, **details))
        silence = asyncio.create_task(self._watchdog.silence.wait())
        try:
            await asyncio.wait([answer, silence], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise TimeoutError
            return answer.result()
        finally:
            answer.cancel()
            silence.cancel()

    # Its end.

    def stop(self) -> None:
        """Let it drain and stop. A process that is still starting is killed."""
        self._stopping = True
        if self.up:
            self.tell("stop")
        else:
            self.kill()
            if not self._stopped.done():
                self._stopped.set_result(Stopped())

    async def stopped(self) -> Stopped:
        """Wait until it has stopped, and return what that has ended; if it died instead, the sessions that it had."""
        return await asyncio.shield(self._stopped)

    def kill(self) -> None:
        """Kill its process, if there is one."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """Close its listeners."""
        for listener in self._listeners:
            listener.close()


async def _answer_nothing(kind: str, details: dict[str, Any]) -> dict[str, Any]:
    """Fail: workers ask no questions."""
    raise ValueError(f"a worker has asked {kind!r}")
