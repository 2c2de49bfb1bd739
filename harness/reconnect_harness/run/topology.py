"""The topology of a run: containers, upstreams, proxies, clients and the links between them.

They are started in this order (`run.builder`), and stopped in the opposite one whatever happens.

    clients --> [client link] --> proxy --> [middle link] --> proxy --> [upstream link] --> upstream
                                  `------- in a chain -------'          (each of several has its own)

Each box is a process of its own, or a container. A link is led through Toxiproxy where a fault is done to it, and is
direct otherwise.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reconnect_harness.containers.container import Container
from reconnect_harness.faults.process_faults import ProcessTarget
from reconnect_harness.processes.footprint import Watch
from reconnect_harness.processes.shielded import run_shielded
from reconnect_harness.run.restartable import Role
from reconnect_harness.sut.base import SystemUnderTest
from reconnect_harness.toxiproxy.link import ToxiproxyLink


class Counts(NamedTuple):
    """How far the ends are.

    `sent` and `arrived` count the messages of one direction, repeats left out; `distinct` those that arrived, each once
    however many receivers there are. `sending` is whether the clients still talk.
    """

    c2u_sent: int
    c2u_arrived: int
    u2c_sent: int
    u2c_arrived: int
    u2c_distinct: int
    sending: bool


@dataclass(slots=True)
class Clock:
    """When the clients began to talk: those who come back later have less time."""

    start: float | None = None

    def left(self, seconds: float) -> float:
        """Return how much is left of the `seconds` that there are from the start."""
        return seconds if self.start is None else max(0.05, self.start + seconds - time.monotonic())


class Target(NamedTuple):
    """What clients connect to: its URL, and the parts of it by name."""

    url: str
    upstreams: Mapping[str, Role]
    systems: Mapping[str, SystemUnderTest]
    links: Mapping[str, ToxiproxyLink]
    containers: Mapping[str, Container]

    @property
    def processes(self) -> dict[str, ProcessTarget]:
        """The processes that a fault may be done to, by name."""
        systems = {name: system.process for name, system in self.systems.items()}
        ours: dict[str, ProcessTarget] = {name: process for name, process in systems.items() if process is not None}
        return {**self.upstreams, **ours}


@dataclass(slots=True)
class Topology:
    """What runs in a run: the clients, and what they talk to. `run.builder.build` makes it."""

    clients: Role
    target: Target
    clock: Clock
    watch: Watch | None = None

    @property
    def processes(self) -> dict[str, ProcessTarget]:
        """The processes that a fault may be done to, by name."""
        return {**self.target.processes, "clients": self.clients}

    async def go(self) -> float:
        """Let the clients talk, and return the moment from which times count."""
        # So that there is an answer from everybody, whoever is killed first.
        await self.counts()
        self.clock.start = time.monotonic()
        for upstream in self.target.upstreams.values():
            await upstream.ask("go")
        await self.clients.ask("go")
        return self.clock.start

    async def counts(self) -> Counts:
        """Ask the ends how far they are."""
        there = await self.clients.ask("count")
        here = [await upstream.ask("count") for upstream in self.target.upstreams.values()]
        return Counts(
            there["sent"],
            sum(upstream["arrived"] for upstream in here),
            sum(upstream["sent"] for upstream in here),
            there["arrived"],
            there["distinct"],
            there["sending"] and not self.clients.away,
        )

    def measured(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Return a context in which the systems under test are measured now and then, if that matters."""
        return contextlib.nullcontext() if self.watch is None else self.watch.during()

    async def quiet(self) -> None:
        """Have the upstreams push nothing more."""
        for upstream in self.target.upstreams.values():
            await upstream.ask("quiet")

    async def close(self) -> None:
        """Have the clients close their connections."""
        # Closing is a round trip for each client, and a system under test may be slow to answer.
        await self.clients.ask("close", within=60)

    def ends(self) -> dict[str, int | None]:
        """Return the exit status of each system under test that is a process of ours, None while it runs."""
        return {name: system.process.returncode for name, system in self.target.systems.items() if system.process}

    async def containers_ended(self) -> dict[str, int]:
        """Return the exit status of each container that has ended."""
        ends = {name: await run_shielded(one.ended) for name, one in self.target.containers.items()}
        return {name: status for name, status in ends.items() if status is not None}
