"""One run of a scenario: its topology is built, talks, suffers, falls silent, is torn down come what may, and judged.

    clients --> [client link] --> system under test --> [upstream link] --> upstream

Each box is a process of its own. A link is led through Toxiproxy where a fault is done to it, and is direct otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from harness.checkers import Judgement, judge
from harness.faults import Process, needs_resets
from harness.history import History
from harness.links import Link, ToxiproxyServer
from harness.message import Direction
from harness.nemesis import FaultRecord, Nemesis
from harness.processes import Actor, Warden
from harness.scenario import Scenario
from harness.sut import SystemUnderTest

T = TypeVar("T")

#: How often the ends are asked how far they are, in seconds.
POLL_SECONDS = 0.1

#: Once everything has arrived: how much longer to listen for what should not come, in seconds.
LINGER_SECONDS = 0.3

#: The files that a run leaves in its folder, and may overwrite there.
LEFT_BEHIND = (
    "clients.jsonl",
    "clients.log",
    "history.jsonl",
    "report.html",
    "results.json",
    "sut.log",
    "upstream.jsonl",
    "upstream.log",
)


class Terminated(KeyboardInterrupt):
    """The run was ended by SIGTERM; all that it had started is stopped."""


@dataclass(slots=True)
class Run:
    """A run that has come to its end. `folder` holds what it left, `seconds` is how long there was traffic."""

    scenario: Scenario
    seed: int
    system: str
    toxiproxy: str | None
    folder: Path
    history: History
    judgement: Judgement
    seconds: float


@dataclass(slots=True)
class _Topology:
    clients: Actor
    upstream: Actor
    links: dict[str, Link]
    processes: dict[str, Process]


@dataclass(slots=True)
class Stack:
    """What one run is made of, and where it leaves its files.

    `toxiproxy` is a started server, or None for a scenario that harms no link; `progress` is called now and then with a
    line that says how far the run is.
    """

    scenario: Scenario
    system: SystemUnderTest
    toxiproxy: ToxiproxyServer | None
    seed: int
    folder: Path
    progress: Callable[[str], None] = lambda line: None

    async def run(self) -> Run:
        """Run the scenario and judge it.

        Raises:
            ScenarioError: it cannot be run with this system under test.
            ProcessFailed: a process did not start, or died of itself.
            ToxiproxyError: a link could not be made, or healed.

        """
        self.system.check(self.scenario)
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in LEFT_BEHIND:
            (self.folder / name).unlink(missing_ok=True)
        faults: list[FaultRecord] = []
        async with self._build() as topology:
            start = time.monotonic()
            await topology.clients.ask("go")
            await self._suffer(topology, start, faults)
            await topology.upstream.ask("quiet")
            await self._settle(topology)
            seconds = time.monotonic() - start
            ended = self.system.process.returncode if self.system.process else None
            # Closing is a round trip for each client, and a system under test may be slow to answer.
            await topology.clients.ask("close", within=60)
        history = History.merge(
            (self.folder / "clients.jsonl", self.folder / "upstream.jsonl"),
            faults,
            start=start,
            echoed=self.system.echoes,
        )
        judgement = judge(history, self.scenario.expect, self._directions())
        if ended is not None:
            judgement = judgement.doubted(f"the system under test has ended, with status {ended}")
        toxiproxy = self.toxiproxy.describe() if self.toxiproxy and self.scenario.links else None
        return Run(
            self.scenario,
            self.seed,
            self.system.describe(),
            toxiproxy,
            self.folder,
            history,
            judgement,
            seconds,
        )

    def _directions(self) -> list[Direction]:
        return [Direction.U2C] if self.system.echoes else self.scenario.directions

    @contextlib.asynccontextmanager
    async def _build(self) -> AsyncIterator[_Topology]:
        """Start everything, from the upstream to the clients, and stop it in the opposite order."""
        async with AsyncExitStack() as built:
            warden = built.enter_context(Warden())
            links: dict[str, Link] = {}
            upstream = await self._actor(
                built, warden, "upstream", kind=self.scenario.upstream.kind, load=self.scenario.upstream.load
            )
            port = (await upstream.hear())["ready"]
            address = self._link(built, links, "upstream", f"127.0.0.1:{port}")
            built.push_async_callback(self.system.stop)
            url = urlsplit(await self.system.start(address, self.scenario, self.folder, warden))
            address = self._link(built, links, "client", url.netloc)
            clients = await self._actor(
                built,
                warden,
                "clients",
                kind=self.scenario.clients.kind,
                load=self.scenario.clients.load,
                count=self.scenario.clients.count,
                lasts=self.scenario.clients.lasts,
                ping=self.scenario.clients.ping,
                slow=self.scenario.clients.slow.model_dump() if self.scenario.clients.slow else None,
                url=url._replace(netloc=address).geturl(),
            )
            await clients.hear(within=60 + self.scenario.clients.count / 50)
            processes: dict[str, Process] = {"upstream": upstream, "clients": clients}
            if self.system.process is not None:
                processes["proxy"] = self.system.process
            yield _Topology(clients, upstream, links, processes)

    async def _actor(self, built: AsyncExitStack, warden: Warden, name: str, **spec: Any) -> Actor:
        spec = {
            **spec,
            "name": "u1",
            "load": spec["load"].to_spec(),
            "seed": str(self.seed),
            "history": str(self.folder / f"{name}.jsonl"),
        }
        module = {"upstream": "harness.upstreams", "clients": "harness.clients"}[name]
        actor = await Actor.launch(f"the {name} process", module, spec, self.folder / f"{name}.log", warden)
        built.push_async_callback(actor.stop)
        return actor

    def _link(self, built: AsyncExitStack, links: dict[str, Link], name: str, target: str) -> str:
        """Return where to connect to get to `target`: through Toxiproxy if a fault is done to this link."""
        if name not in self.scenario.links:
            return target
        assert self.toxiproxy is not None, "a scenario with link faults is given a Toxiproxy"
        resets = needs_resets(self.scenario.faults, name)
        links[name] = built.enter_context(Link(self.toxiproxy, name, target, resets=resets))
        return links[name].listen

    async def _suffer(self, topology: _Topology, start: float, faults: list[FaultRecord]) -> None:
        """Let the nemesis loose until its timeline is over and the clients have said all that they have to say."""
        nemesis = Nemesis(
            self.scenario.faults,
            topology.links,
            faults.append,
            processes=topology.processes,
            rng=random.Random(self.seed),
        )
        suffering = asyncio.create_task(nemesis.run(start))
        try:
            while True:
                there, here = await self._counts(topology)
                self._say(start, there, here, len(faults))
                if suffering.done() and not there["sending"]:
                    break
                await asyncio.wait([suffering], timeout=POLL_SECONDS)
                if suffering.done():
                    suffering.result()
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            suffering.cancel()
            await asyncio.wait([suffering])

    async def _settle(self, topology: _Topology) -> None:
        """Wait until everything has arrived, or nothing new has for as long as the scenario allows."""
        latest: list[dict[str, Any]] = []
        changed = time.monotonic()
        while time.monotonic() - changed < self.scenario.settle:
            there, here = await self._counts(topology)
            if self.system.echoes:
                here = {"sent": there["sent"], "arrived": there["sent"]}
            if there["sent"] == here["arrived"] and here["sent"] == there["arrived"]:
                await asyncio.sleep(LINGER_SECONDS)
                return
            if [there, here] != latest:
                latest, changed = [there, here], time.monotonic()
            await asyncio.sleep(POLL_SECONDS)

    async def _counts(self, topology: _Topology) -> tuple[dict[str, Any], dict[str, Any]]:
        return await topology.clients.ask("count"), await topology.upstream.ask("count")

    def _say(self, start: float, there: dict[str, Any], here: dict[str, Any], faults: int) -> None:
        self.progress(
            f"{self.scenario.name}: {time.monotonic() - start:4.1f} s, {faults} faults, "
            f"c2u {there['sent']:,} sent {here['arrived']:,} arrived, "
            f"u2c {here['sent']:,} sent {there['arrived']:,} arrived"
        )


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from code that is not asynchronous; Ctrl-C and SIGTERM end it in good order.

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
            return await work
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        if terminated:
            raise Terminated from None
        raise
