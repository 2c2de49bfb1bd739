"""A role in a run: the part that an actor plays, and that another one takes over when a fault has ended the first.

actor 1 ── killed ✕          ┌── actor 2, in the same place: the same port, the same record
                   away …  ──┘
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Self

from reconnect_harness.faults.fault import FaultError
from reconnect_harness.processes.child import ANSWER_SECONDS, Actor, Child, ProcessFailed

#: The signals that end an actor.
_ENDING = (signal.SIGKILL, signal.SIGTERM)


class Role:
    """A role whose actor, or program of the user's own, a fault may end and replace. Make it with `start`.

    Attributes:
        away: whether a fault has ended the actor, and no other has taken over yet.

    """

    def __init__(self, actor: Child, launch: Callable[[], Awaitable[Child]]) -> None:
        self.away = False
        self._actor = actor
        self._launch = launch
        self._loop = asyncio.get_running_loop()
        # The last answer to each command: what is returned while there is no actor to ask.
        self._answers: dict[str, dict[str, Any]] = {}
        self._failure: ProcessFailed | None = None

    @classmethod
    async def start(cls, launch: Callable[[], Awaitable[Child]]) -> Self:
        """Start the first actor; `launch` starts one, and returns it when it is ready."""
        return cls(await launch(), launch)

    @property
    def pid(self) -> int:
        return self._actor.pid

    @property
    def returncode(self) -> int | None:
        """The exit status of the actor, None while it runs."""
        return self._actor.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send the actor a signal. After one that ends it, it is expected to be away."""
        if number in _ENDING:
            self.away = True
        self._actor.send_signal(number)

    async def ask(self, command: str, within: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Ask the actor, as `Actor.ask` does. While it is away, return its last answer, or an empty one.

        Raises:
            ProcessFailed: it does not answer or has died, and no fault has ended it; or none could take over.

        """
        if self._failure is not None:
            raise self._failure
        actor = self._actor
        if not self.away and isinstance(actor, Actor):
            try:
                self._answers[command] = await actor.ask(command, within)
            except ProcessFailed:
                if not self.away and actor is self._actor:
                    raise
        return self._answers.get(command, {})

    def restart(self) -> None:
        """Replace an actor that has ended. Blocks until the next one is ready; not for the thread of the loop.

        Raises:
            FaultError: it could not be started.

        """
        try:
            asyncio.run_coroutine_threadsafe(self._take_over(), self._loop).result()
        except ProcessFailed as failure:
            # The run fails: with one end only it would prove nothing.
            self._failure = failure
            raise FaultError(str(failure)) from failure

    async def stop(self) -> None:
        await self._actor.stop()

    async def _take_over(self) -> None:
        await self._actor.stop()
        self._actor = await self._launch()
        self.away = False
