"""The topology of a run: containers, upstreams, proxies, clients and the links between them.

They are started in this order (`run.scenario_topology`), and stopped in the opposite one on every path.

    clients --> [client link] --> proxy --> [middle link] --> proxy --> [upstream link] --> upstream
                                  `------- in a chain -------'          (one for each upstream)

Each box is a process of its own, or a container. A link goes through Toxiproxy where the scenario has faults of it, and
is direct otherwise.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reconnect_harness.containers.container import Container
from reconnect_harness.faults.process_faults import ProcessTarget
from reconnect_harness.processes.footprint import FootprintWatch
from reconnect_harness.processes.shielded import run_shielded
from reconnect_harness.run.restartable import Role
from reconnect_harness.sut.base import SystemUnderTest
from reconnect_harness.toxiproxy.link import ToxiproxyLink


class Counts(NamedTuple):
    """The progress of the ends.

    `sent` and `arrived` count the messages of one direction, repeats left out; `distinct` counts those that arrived at
    several receivers once. `sending` is whether the clients still send.
    """

    c2u_sent: int
    c2u_arrived: int
    u2c_sent: int
    u2c_arrived: int
    u2c_distinct: int
    sending: bool


@dataclass(slots=True)
class TrafficClock:
    """When the traffic began: clients that are started again later have less time left."""

    start: float | None = None

    def left(self, seconds: float) -> float:
        """Return how much is left of the `seconds` from the start; all of them before the start."""
        return seconds if self.start is None else max(0.05, self.start + seconds - time.monotonic())


class ServerSide(NamedTuple):
    """Everything but the clients: the URL that they connect to, and the parts by name.

    `programs` are upstreams that are programs of the user's own: they answer no commands.
    """

    url: str
    upstreams: Mapping[str, Role]
    systems: Mapping[str, SystemUnderTest]
    links: Mapping[str, ToxiproxyLink]
    containers: Mapping[str, Container]
    programs: Mapping[str, Role] = {}
    own_url: str | None = None
    """The URL that a service is known by, if the clients reach it through a link at `url`."""

    @property
    def processes(self) -> dict[str, ProcessTarget]:
        """The processes that a fault may be done to, by name."""
        systems = {name: system.process for name, system in self.systems.items()}
        ours: dict[str, ProcessTarget] = {name: process for name, process in systems.items() if process is not None}
        return {**self.upstreams, **self.programs, **ours}


@dataclass(slots=True)
class Topology:
    """The running parts of a run: the clients, and what they talk to."""

    clients: Role
    servers: ServerSide
    clock: TrafficClock
    watch: FootprintWatch | None = None

    @property
    def processes(self) -> dict[str, ProcessTarget]:
        """The processes that a fault may be done to, by name."""
        return {**self.servers.processes, "clients": self.clients}

    async def go(self) -> float:
        """Start the traffic, and return the moment from which times count."""
        # Each process has answered once then, so that there are counts even if a fault kills it at once.
        await self.counts()
        self.clock.start = time.monotonic()
        for upstream in self.servers.upstreams.values():
            await upstream.ask("go")
        await self.clients.ask("go")
        return self.clock.start

    async def counts(self) -> Counts:
        """Ask the ends for their progress."""
        clients = await self.clients.ask("count")
        upstreams = [await upstream.ask("count") for upstream in self.servers.upstreams.values()]
        return Counts(
            clients["sent"],
            sum(upstream["arrived"] for upstream in upstreams),
            sum(upstream["sent"] for upstream in upstreams),
            clients["arrived"],
            clients["distinct"],
            clients["sending"] and not self.clients.away,
        )

    def measured(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Return a context in which the systems under test are measured from time to time, if the scenario asks so."""
        return contextlib.nullcontext() if self.watch is None else self.watch.during()

    async def quiet(self) -> None:
        for upstream in self.servers.upstreams.values():
            await upstream.ask("quiet")

    async def close(self) -> None:
        # Closing takes a round trip for each client, and a system under test may answer slowly.
        await self.clients.ask("close", within=60)

    def ends(self) -> dict[str, int | None]:
        """Return the exit status of each system under test that is a process of ours, None while it runs."""
        return {name: system.process.returncode for name, system in self.servers.systems.items() if system.process}

    def programs_ended(self) -> list[str]:
        """Return a sentence about each upstream of a `command` that has ended by itself."""
        return [
            f"the program {name} has ended, with status {program.returncode}"
            for name, program in self.servers.programs.items()
            if program.returncode is not None and not program.away
        ]

    async def containers_ended(self) -> dict[str, int]:
        """Return the exit status of each container that has ended."""
        ends = {name: await run_shielded(container.ended) for name, container in self.servers.containers.items()}
        return {name: status for name, status in ends.items() if status is not None}
