"""All workers as one: started together, asked together, told together, and each started again when it dies."""

from __future__ import annotations

import asyncio
import heapq
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from prometheus_client.registry import Collector

from ..admin.view import Ended, Page, Unanswered
from ..config.model import Config, Dial
from ..draining import Stopped
from ..events import Observe
from ..observe.gauges import WorkerGauges
from ..serving import CannotServe
from .addresses import AddressTable
from .channel import ChannelClosed
from .mailbox import make_inbox
from .merged_metrics import Families, Merged, families_of, lasting, merged
from .placement import share
from .shared_counters import Tallies
from .worker_process import Member, Shared

__all__ = ["Crew"]

#: Seconds that a worker has for an answer. Who asks has more patience than that, and is told who did not answer.
ANSWER = 2.0
#: Seconds after which workers are asked for what they have counted, so that it is not lost with them.
REMEMBER = 10.0
#: Options of which each worker has its share. That of the sessions is kept by all together: see `tallies`.
SHARED_OUT = ("max_handshakes", "max_http", "max_held", "max_dials")
#: Options that are the supervisor's own.
OURS = ("admin", "admin_token", "admin_token_file", "workers")

Encoded = TypeVar("Encoded")


class Crew:
    """The workers of one program: a `Subject`, and what `/metrics` shows."""

    def __init__(
        self,
        config: Config,
        options: Mapping[str, object],
        listeners: list[socket.socket],
        observe: Observe,
        own: Callable[[], Families],
    ) -> None:
        """Prepare workers that are not started yet.

        Args:
            config: the configuration, and
            options: what it was made of, for each worker to make its own.
            listeners: where clients connect: one for each worker. They are the crew's from now on.
            observe: hears of workers that die.
            own: returns the metrics of this process.
        """
        self._config = config
        self._own = own
        count = config.workers
        key = secrets.token_bytes(32)
        descriptor = Tallies.create(count)
        inboxes = [make_inbox() for _ in range(count)]
        addresses = None if config.max_sessions_per_address is None else AddressTable.create(count)
        self._shared = Shared(
            descriptor,
            Tallies(descriptor, count),
            [reading for reading, _ in inboxes],
            [writing for _, writing in inboxes],
            key,
            addresses,
            None if addresses is None else AddressTable(addresses, 0, count, key),
        )
        self._members = [
            Member(number, _options_of(number, config, options, listeners), listeners[number], self._shared, observe)
            for number in range(count)
        ]
        # What workers that are gone had counted, and what the others had when they were last asked.
        self._past: Families = []
        self._last: dict[int, Families] = {}
        for member in self._members:
            member.on_lost = self._on_lost
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    # Starting and stopping.

    async def start(self) -> None:
        """Start all workers, and return when each is ready. Raises CannotServe: one ended instead."""
        self._tasks = [asyncio.create_task(member.run()) for member in self._members]
        ready = asyncio.create_task(self._all_ready())
        try:
            await asyncio.wait([*self._tasks, ready], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            await asyncio.wait([ready])
        for member in self._members:
            if member.failure is not None:
                raise CannotServe(f"worker {member.number} did not start: {member.failure}")
        self._tasks.append(asyncio.create_task(self._remember()))

    async def _all_ready(self) -> None:
        for member in self._members:
            await member.ready.wait()

    async def broken(self) -> None:
        """Return never, unless by raising what has gone wrong with the watch over a worker."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise AssertionError("a worker is watched over until it is told to stop")

    async def stopped(self) -> Stopped:
        """Wait until all workers have stopped, and return what that has ended."""
        return Stopped(*map(sum, zip(*[await member.stopped() for member in self._members], strict=True)))

    def begin_to_stop(self) -> None:
        """Tell all workers to stop in good order."""
        self._stopping = True
        for member in self._members:
            member.stop()

    def hurry(self) -> None:
        """Tell all workers to stop at once."""
        for member in self._members:
            member.tell("hurry")

    def reload(self) -> None:
        """Tell all workers to read their certificates anew."""
        for member in self._members:
            member.tell("reload")

    def kill(self) -> None:
        """End all workers that are there, however they are."""
        for member in self._members:
            member.kill()

    async def close(self) -> None:
        """End all workers, and close what they were given."""
        self._stopping = True
        self.kill()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for member in self._members:
            member.close()
        self._shared.close()

    async def left(self, seconds: float) -> None:
        """Wait until all workers have left, for so many seconds at the most."""
        await asyncio.wait(self._tasks[: len(self._members)], timeout=seconds)

    # What an operator asks (overview.Subject).

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return self._shared.tallies.all_sessions()

    async def ready(self) -> str | None:
        """Return None if all workers would serve new sessions, or the reason why one would not."""
        if self._stopping:
            return "the proxy is being stopped"
        for member in self._members:
            if not member.up:
                return f"worker {member.number} is being started"
        answers = await self._ask_all("ready", self._config.connect_timeout + ANSWER)
        for number, answer in answers.items():
            reason: str | None = "it does not answer" if answer is None else answer["reason"]
            if reason is not None:
                return f"worker {number}: {reason}"
        return None

    async def page(self, state: str | None, offset: int, limit: int) -> Page:
        """Return up to `limit` sessions in `state` (any), behind the first `offset`, each with its worker.

        Raises:
            Unanswered: a worker does not answer.
        """
        # First when each was opened, which is little, to know which of whose are wanted.
        ages = await self._ask_each("ages", state=state, most=offset + limit)
        order = heapq.merge(*([(opened, n) for opened in answer["opened"]] for n, answer in ages.items()))
        before: dict[int, int] = dict.fromkeys(ages, 0)
        wanted: dict[int, list[int]] = {n: [] for n in ages}
        for place, (_, number) in enumerate(order):
            if place < offset:
                before[number] += 1
            elif place < offset + limit:
                wanted[number].append(place)
            else:
                break
        shown: dict[int, str] = {}
        asked = [n for n in wanted if wanted[n]]
        pages = await asyncio.gather(
            *(self._ask(n, "page", state=state, offset=before[n], limit=len(wanted[n])) for n in asked)
        )
        for number, page in zip(asked, pages, strict=True):
            for place, session in zip(wanted[number], page["sessions"], strict=False):
                shown[place] = f'{{"worker": {number}, {session[1:]}'
        return Page(sum(answer["total"] for answer in ages.values()), [shown[place] for place in sorted(shown)])

    async def end(self, name: str, operator: str) -> Ended:
        """End the session that somebody at the address `operator` calls `name`, if there is just one.

        Raises:
            Unanswered: a worker does not answer.
        """
        found = {n: answer["found"] for n, answer in (await self._ask_each("find", name=name)).items()}
        if sum(found.values()) != 1:
            return Ended(sum(found.values()))
        (number,) = [n for n in found if found[n]]
        answer = await self._ask(number, "end", name=name, operator=operator)
        return Ended(answer["found"], answer["id_short"])

    async def scrape(self, encode: Callable[[Collector], Encoded]) -> Encoded:
        """Return the metrics of all as `encode` writes them. Of a worker that does not answer: what it said last."""
        answers = await self._ask_all("metrics", ANSWER)
        for number, answer in answers.items():
            if answer is not None:
                self._last[number] = answer["families"]
        answering = [number for number, answer in answers.items() if answer is not None]
        return encode(Merged(merged([self._own(), self._about_workers(answering), self._past, *self._last.values()])))

    def _about_workers(self, answering: list[int]) -> Families:
        tallies = self._shared.tallies
        return families_of(WorkerGauges([(n in answering, tallies.sessions(n)) for n in range(tallies.count)]))

    async def _remember(self) -> None:
        """Ask the workers now and then for what they have counted."""
        while True:
            await asyncio.sleep(REMEMBER)
            for number, answer in (await self._ask_all("metrics", ANSWER)).items():
                if answer is not None:
                    self._last[number] = answer["families"]

    def _on_lost(self, number: int) -> None:
        """Keep what a worker that is gone had counted, and have the others forget what they know of it."""
        for member in self._members:
            member.tell("lost", worker=number)
        self._past = merged([self._past, lasting(self._last.pop(number, []))])

    # Asking.

    async def _ask_all(self, kind: str, within: float) -> dict[int, dict[str, Any] | None]:
        """Ask all workers, and return their answers by number, None for one that gives none."""
        answers = await asyncio.gather(*(self._try(member, kind, within) for member in self._members))
        return dict(enumerate(answers))

    async def _ask_each(self, kind: str, **details: Any) -> dict[int, dict[str, Any]]:
        """Ask all workers, and return their answers by number. One that is being started has nothing to tell."""
        numbers = [member.number for member in self._members if member.up]
        answers = await asyncio.gather(*(self._ask(number, kind, **details) for number in numbers))
        return dict(zip(numbers, answers, strict=True))

    async def _ask(self, number: int, kind: str, **details: Any) -> dict[str, Any]:
        answer = await self._try(self._members[number], kind, ANSWER, **details)
        if answer is None:
            raise Unanswered(f"worker {number} does not answer")
        return answer

    @staticmethod
    async def _try(member: Member, kind: str, within: float, **details: Any) -> dict[str, Any] | None:
        try:
            return await member.ask(kind, within, **details)
        except (TimeoutError, ChannelClosed):
            return None


def _options_of(
    number: int, config: Config, options: Mapping[str, object], listeners: list[socket.socket]
) -> dict[str, object]:
    """Return the options of a worker: those that were given, but for what is not its business, or not all its own."""
    its = {option: value for option, value in options.items() if option not in OURS}
    its["listen"] = str(config.listen._replace(port=listeners[0].getsockname()[1]))
    for option in SHARED_OUT:
        limit = getattr(config, option)
        if limit is not None:
            its[option] = share(limit, number, config.workers)
    if config.dial is Dial.START and number:
        # The shared session is that of the first.
        its["dial"] = Dial.FIRST_CLIENT.value
    return its
