"""All workers as one: started, asked and told together."""

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
from ..config.values import Address
from ..descriptors import session_limits
from ..draining import Stopped
from ..events import Observe
from ..observe.gauges import WorkerGauges
from ..serving import CannotServe
from .addresses import AddressTable
from .channel import ChannelClosed
from .mailbox import make_mailbox
from .merged_metrics import MergedMetrics, MetricFamilies, cumulative, families_of, merged
from .placement import share
from .shared_counters import SharedCounters
from .worker_process import SharedResources, WorkerProcess

#: Seconds that a worker has for an answer. Clients of the admin listener wait longer, and are told which did not.
ANSWER = 2.0
#: Seconds between two questions for all metrics, so that they are not lost with a worker that dies.
REMEMBER_EVERY = 10.0
#: Options of which each worker gets a part. The limit of sessions is kept by all together: see `shared_counters`.
DIVIDED = ("max_handshakes", "max_http", "max_held", "max_dials")
#: Options that workers do not get.
SUPERVISOR_ONLY = ("admin", "admin_token", "admin_token_file", "worker_timeout", "workers")

Encoded = TypeVar("Encoded")


class WorkerGroup:
    """The workers of one program: the `SessionsView` of the admin listener, and its metrics."""

    def __init__(
        self,
        config: Config,
        options: Mapping[str, object],
        listeners: list[list[socket.socket]],
        observe: Observe,
        own: Callable[[], MetricFamilies],
    ) -> None:
        """Prepare workers that are not started yet.

        Args:
            config: the configuration.
            options: what it was made of, from which each worker makes its own.
            listeners: where clients connect, a list for each worker. This closes them.
            observe: hears of workers that die.
            own: returns the metrics of this process.
        """
        self._config = config
        self._own = own
        count = config.workers
        key = secrets.token_bytes(32)
        descriptor = SharedCounters.create(count)
        mailboxes = [make_mailbox() for _ in range(count)]
        addresses = None if config.max_sessions_per_address is None else AddressTable.create(count)
        self._shared = SharedResources(
            descriptor,
            SharedCounters(descriptor, count),
            [reading for reading, _ in mailboxes],
            [writing for _, writing in mailboxes],
            key,
            addresses,
            None if addresses is None else AddressTable(addresses, 0, count, key),
        )
        address = config.listen._replace(port=listeners[0][0].getsockname()[1])
        self._workers = [
            WorkerProcess(
                number,
                _options_of(number, config, options, address),
                at,
                self._shared,
                config.worker_timeout,
                observe,
                self._on_lost,
            )
            for number, at in enumerate(listeners)
        ]
        # The last metrics of workers that have died, added up, and those of each that is running.
        self._past: MetricFamilies = []
        self._last: dict[int, MetricFamilies] = {}
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    # Starting and stopping.

    async def start(self) -> None:
        """Start all workers, and return when each is ready. Raises CannotServe: one ended instead."""
        self._tasks = [asyncio.create_task(worker.run()) for worker in self._workers]
        ready = asyncio.create_task(self._all_ready())
        try:
            await asyncio.wait([*self._tasks, ready], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            await asyncio.wait([ready])
        for worker in self._workers:
            if worker.failure is not None:
                raise CannotServe(f"worker {worker.number} did not start: {worker.failure}")
        self._tasks.append(asyncio.create_task(self._remember()))

    async def _all_ready(self) -> None:
        for worker in self._workers:
            await worker.ready.wait()

    async def broken(self) -> None:
        """Wait for an error of this program in watching over a worker, and raise it."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise AssertionError("a worker is watched until it is told to stop")

    async def stopped(self) -> Stopped:
        """Wait until all workers have stopped, and return what that has ended."""
        return Stopped(*map(sum, zip(*[await worker.stopped() for worker in self._workers], strict=True)))

    def begin_to_stop(self) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.stop()

    def stop_now(self) -> None:
        for worker in self._workers:
            worker.tell("stop-now")

    def reload(self) -> None:
        for worker in self._workers:
            worker.tell("reload")

    def kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    async def close(self) -> None:
        """Kill all workers, and close what they were given."""
        self._stopping = True
        self.kill()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for worker in self._workers:
            worker.close()
        self._shared.close()

    async def wait_ended(self, seconds: float) -> None:
        """Wait until all processes have ended, for so many seconds at the most."""
        await asyncio.wait(self._tasks[: len(self._workers)], timeout=seconds)

    # What an operator asks (admin.view.SessionsView).

    @property
    def sessions(self) -> int:
        return self._shared.counters.all_sessions()

    async def ready(self) -> str | None:
        """Return None if all workers would serve new sessions, or the reason why one would not."""
        if self._stopping:
            return "the proxy is being stopped"
        for worker in self._workers:
            if not worker.up:
                return f"worker {worker.number} is being started"
            if worker.silent:
                return f"worker {worker.number}: it does not answer"
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
        # First only when each session was opened, to know which sessions of which worker are wanted.
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
        """End the session that the operator at the address `operator` calls `name`, if exactly one is found.

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
        """Return the metrics of all as `encode` writes them. If a worker does not answer, its last ones are used."""
        answers = await self._ask_all("metrics", ANSWER)
        for number, answer in answers.items():
            if answer is not None:
                self._last[number] = answer["families"]
        answering = [number for number, answer in answers.items() if answer is not None]
        return encode(
            MergedMetrics(merged([self._own(), self._about_workers(answering), self._past, *self._last.values()]))
        )

    def _about_workers(self, answering: list[int]) -> MetricFamilies:
        counters = self._shared.counters
        return families_of(WorkerGauges([(n in answering, counters.sessions(n)) for n in range(counters.count)]))

    async def _remember(self) -> None:
        """Ask the workers for their metrics again and again."""
        while True:
            await asyncio.sleep(REMEMBER_EVERY)
            for number, answer in (await self._ask_all("metrics", ANSWER)).items():
                if answer is not None:
                    self._last[number] = answer["families"]

    def _on_lost(self, number: int) -> None:
        """Keep the counters of a worker that has died, and tell the others to forget its sessions."""
        for worker in self._workers:
            worker.tell("lost", worker=number)
        self._past = merged([self._past, cumulative(self._last.pop(number, []))])

    # Asking.

    async def _ask_all(self, kind: str, within: float) -> dict[int, dict[str, Any] | None]:
        """Ask all workers, and return their answers by number; None: it did not answer."""
        answers = await asyncio.gather(*(self._try(worker, kind, within) for worker in self._workers))
        return dict(enumerate(answers))

    async def _ask_each(self, kind: str, **details: Any) -> dict[int, dict[str, Any]]:
        """Ask all workers that serve, and return their answers by number. Raises Unanswered."""
        numbers = [worker.number for worker in self._workers if worker.up]
        answers = await asyncio.gather(*(self._ask(number, kind, **details) for number in numbers))
        return dict(zip(numbers, answers, strict=True))

    async def _ask(self, number: int, kind: str, **details: Any) -> dict[str, Any]:
        answer = await self._try(self._workers[number], kind, ANSWER, **details)
        if answer is None:
            raise Unanswered(f"worker {number} does not answer")
        return answer

    @staticmethod
    async def _try(worker: WorkerProcess, kind: str, within: float, **details: Any) -> dict[str, Any] | None:
        try:
            return await worker.ask(kind, within, **details)
        except (TimeoutError, ChannelClosed):
            return None


def _options_of(number: int, config: Config, options: Mapping[str, object], listen: Address) -> dict[str, object]:
    """Return the options of worker `number`: those of the program, with its part of those that are divided."""
    its = {option: value for option, value in options.items() if option not in SUPERVISOR_ONLY}
    its["listen"] = str(listen)
    # The limits of all workers together.
    limits = session_limits(config)
    its |= {"max_sessions": limits.sessions, "max_sessions_per_address": limits.per_address or "off"}
    for option in DIVIDED:
        limit = getattr(config, option)
        if limit is not None:
            its[option] = share(limit, number, config.workers)
    if config.dial is Dial.START and number:
        # The shared session lives in the first worker.
        its["dial"] = Dial.FIRST_CLIENT.value
    return its
