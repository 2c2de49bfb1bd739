"""The topology of a run: containers, upstreams, proxies, clients and the links between them.

They are started in this order, and stopped in the opposite one whatever happens.

    clients --> [client link] --> proxy --> [middle link] --> proxy --> [upstream link] --> upstream
                                  `------- in a chain -------'          (each of several has its own)

Each box is a process of its own, or a container. A link is led through Toxiproxy where a fault is done to it, and is
direct otherwise.
"""

from __future__ import annotations

import contextlib
import copy
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from harness.certificates import Certificates, Encryption, certificates
from harness.containers import Container, ContainerFailed
from harness.engine import Engine, EngineError, EngineUnavailable
from harness.faults import Process, needs_resets
from harness.footprint import Watch
from harness.links import Link, ToxiproxyServer
from harness.processes import ANSWER_SECONDS, Actor, ProcessFailed, Warden
from harness.role import Role
from harness.scenario import Scenario
from harness.sut import SystemUnderTest
from harness.uninterrupted import uninterrupted


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
    links: Mapping[str, Link]
    containers: Mapping[str, Container]

    @property
    def processes(self) -> dict[str, Process]:
        """The processes that a fault may be done to, by name."""
        systems = {name: system.process for name, system in self.systems.items()}
        ours: dict[str, Process] = {name: process for name, process in systems.items() if process is not None}
        return {**self.upstreams, **ours}


@dataclass(slots=True)
class Topology:
    """What runs in a run. Make it with `build`."""

    scenario: Scenario
    clients: Role
    upstreams: Mapping[str, Role]
    systems: Mapping[str, SystemUnderTest]
    links: Mapping[str, Link]
    containers: Mapping[str, Container]
    clock: Clock
    watch: Watch | None = None

    @property
    def processes(self) -> dict[str, Process]:
        """The processes that a fault may be done to, by name."""
        target = Target("", self.upstreams, self.systems, self.links, self.containers)
        return {**target.processes, "clients": self.clients}

    async def go(self) -> float:
        """Let the clients talk, and return the moment from which times count."""
        # So that there is an answer from everybody, whoever is killed first.
        await self.counts()
        self.clock.start = time.monotonic()
        for upstream in self.upstreams.values():
            await upstream.ask("go")
        await self.clients.ask("go")
        return self.clock.start

    async def counts(self) -> Counts:
        """Ask the ends how far they are."""
        there = await self.clients.ask("count")
        here = [await upstream.ask("count") for upstream in self.upstreams.values()]
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
        for upstream in self.upstreams.values():
            await upstream.ask("quiet")

    async def close(self) -> None:
        """Have the clients close their connections."""
        # Closing is a round trip for each client, and a system under test may be slow to answer.
        await self.clients.ask("close", within=60)

    def ends(self) -> dict[str, int | None]:
        """Return the exit status of each system under test that is a process of ours, None while it runs."""
        return {name: system.process.returncode for name, system in self.systems.items() if system.process}


@contextlib.asynccontextmanager
async def build(
    scenario: Scenario,
    system: SystemUnderTest,
    toxiproxy: ToxiproxyServer | None,
    seed: int,
    folder: Path,
    engine: Engine | None = None,
) -> AsyncIterator[Topology]:
    """Start everything, from the containers to the clients, and stop it in the opposite order.

    Raises:
        ProcessFailed: a process or a container did not start, or the container is not there.
        EngineUnavailable: a container is needed, and there is no `engine`, or not its image.
        ToxiproxyError: a link could not be made.

    """
    async with AsyncExitStack() as built:
        files = built.enter_context(certificates()) if scenario.tls else None
        builder = _Builder(scenario, toxiproxy, seed, folder, built, built.enter_context(Warden()), engine, files)
        target = await builder.target(system)
        trust = files.of_client() if files is not None and scenario.tls_client else None
        watch = await _warm_up(target.url, target.systems, target.upstreams, trust) if scenario.watches else None
        clients = await builder.clients(target.url)
        yield Topology(
            scenario,
            clients,
            target.upstreams,
            target.systems,
            builder.links,
            target.containers,
            builder.clock,
            watch,
        )


@contextlib.asynccontextmanager
async def build_target(
    scenario: Scenario,
    system: SystemUnderTest,
    toxiproxy: ToxiproxyServer | None,
    seed: int,
    folder: Path,
    engine: Engine | None = None,
) -> AsyncIterator[Target]:
    """Start all but the clients, and let the upstreams speak; for clients that somebody else brings.

    Raises what `build` raises.
    """
    async with AsyncExitStack() as built:
        builder = _Builder(scenario, toxiproxy, seed, folder, built, built.enter_context(Warden()), engine)
        target = await builder.target(system)
        builder.clock.start = time.monotonic()
        for upstream in target.upstreams.values():
            await upstream.ask("go")
        yield target


async def _warm_up(
    url: str, systems: Mapping[str, SystemUnderTest], upstreams: Mapping[str, Role], trust: ssl.SSLContext | None
) -> Watch:
    """Use the systems under test once, and see what they hold then. The upstreams take no notice of it."""
    ours = [(system.process.pid, system.admin) for system in systems.values() if system.process is not None]
    watch = Watch(ours)
    if ours:

        async def in_use() -> int:
            return sum([(await upstream.ask("warm"))["connections"] for upstream in upstreams.values()])

        await watch.before(url, in_use, trust)
    for upstream in upstreams.values():
        await upstream.ask("warmed")
    return watch


@dataclass(slots=True)
class _Builder:
    """Starts the parts of a topology, and has them stopped when `built` is closed."""

    scenario: Scenario
    toxiproxy: ToxiproxyServer | None
    seed: int
    folder: Path
    built: AsyncExitStack
    warden: Warden
    engine: Engine | None = None
    files: Certificates | None = None
    clock: Clock = field(default_factory=Clock)
    links: dict[str, Link] = field(default_factory=dict)

    async def target(self, system: SystemUnderTest) -> Target:
        """Start everything that clients connect to, from the containers on."""
        containers = {name: await self.container(name) for name in self.scenario.container_specs}
        upstreams: dict[str, Role] = {}
        addresses = []
        for index, name in enumerate(self.scenario.upstream_names, 1):
            if name in containers:
                address = containers[name].address or ""
            else:
                upstreams[name], address = await self.upstream(name, f"u{index}")
            addresses.append(self.link(name, address))
        systems: dict[str, SystemUnderTest] = {}
        path, scheme = "/", "ws"
        betweens = self.scenario.link_names[: len(self.scenario.proxies)]
        proxies = zip(self.scenario.proxy_names, betweens, self.scenario.proxies, strict=True)
        for name, link, options in reversed(list(proxies)):
            systems[name] = copy.copy(system)
            url = urlsplit(await self.system(systems[name], name, addresses, options))
            addresses, path = [self.link(link, url.netloc)], url._replace(scheme="", netloc="").geturl()
            scheme = url.scheme
        address = f"{scheme}://{addresses[0]}{path}"
        return Target(address, upstreams, dict(reversed(systems.items())), self.links, containers)

    async def container(self, name: str) -> Container:
        """Start a container of the scenario, or find the one that runs."""
        engine = self.engine
        if engine is None:
            raise EngineUnavailable(f"container {name}: this run was given no container engine")
        spec = self.scenario.container_specs[name]
        port = self._reserved() if spec.chooses_port else spec.port
        log = self.folder / f"{name}.log"

        def make() -> Container:
            if spec.image is None:
                return Container.by_label(engine, name, spec)
            made = Container.from_image(engine, name, spec, port)
            # Here, and not when it has been made: whoever is cancelled then never hears of it.
            self.built.push_async_callback(uninterrupted, lambda: made.remove(log))
            return made

        try:
            container = await uninterrupted(make)
            if spec.image is not None:
                await uninterrupted(container.start, container.hurry)
        except (EngineError, ContainerFailed) as failure:
            raise ProcessFailed(str(failure)) from failure
        return container

    async def upstream(self, name: str, label: str) -> tuple[Role, str]:
        """Start an upstream that is called `label` in the history; return it, and its HOST:PORT."""
        port = self._reserved()
        tls = list(map(str, self.files)) if self.files is not None and self.scenario.tls_upstream else None
        fields = {**self.scenario.upstream.actor_spec, "name": label, "port": port, "tls": tls}

        async def launch() -> Actor:
            warm = self.scenario.watches and self.clock.start is None
            actor = await self._actor(name, "harness.upstreams", {**fields, "warm": warm})
            if self.clock.start is not None:
                # Who takes over in the middle of a run is in it at once.
                await actor.ask("go")
            return actor

        return await self._role(launch), f"127.0.0.1:{port}"

    async def system(self, system: SystemUnderTest, name: str, upstreams: list[str], options: dict[str, Any]) -> str:
        """Start a proxy in front of `upstreams`; return its URL."""
        self.built.push_async_callback(system.stop)
        # Each one of a chain has a folder of its own, and sees a scenario with one proxy, itself.
        folder = self.folder / name if self.scenario.chain else self.folder
        folder.mkdir(exist_ok=True)
        mine = self.scenario.model_copy(update={"proxy": options, "chain": []})
        return await system.start(upstreams, mine, folder, self.warden, self._encryption(name))

    async def clients(self, url: str) -> Role:
        """Start the clients, which connect to `url`."""
        spec = self.scenario.clients
        fields = {
            "kind": spec.kind,
            "load": spec.load.to_spec(),
            "count": spec.count,
            "ping": spec.ping,
            "compress": spec.compress,
            "slow": spec.slow.model_dump() if spec.slow else None,
            "absence": spec.absence.model_dump(),
            "visits": spec.visits.model_dump() if spec.visits else None,
            "url": url,
            "ca": str(self.files.ca) if self.files is not None and self.scenario.tls_client else None,
        }

        async def launch() -> Actor:
            within = 60 + spec.count / 50
            actor = await self._actor(
                "clients", "harness.clients", {**fields, "lasts": self.clock.left(spec.lasts)}, within=within
            )
            if self.clock.start is not None:
                # Whoever comes back in the middle of a run goes on where the last one stopped.
                await actor.ask("go")
            return actor

        return await self._role(launch)

    def _encryption(self, name: str) -> Encryption | None:
        """Say which legs of a proxy speak TLS. In a chain the first meets the clients, and the last the upstreams."""
        if self.files is None:
            return None
        first, last = self.scenario.proxy_names[0], self.scenario.proxy_names[-1]
        client = self.scenario.tls_client and name == first
        upstream = self.scenario.tls_upstream and name == last
        return Encryption(self.files, client, upstream)

    def link(self, name: str, target: str) -> str:
        """Return where to connect to get to `target`: through Toxiproxy if a fault is done to this link."""
        if name not in self.scenario.links:
            return target
        assert self.toxiproxy is not None, "a scenario with link faults is given a Toxiproxy"
        resets = needs_resets(self.scenario.faults, name)
        self.links[name] = self.built.enter_context(Link(self.toxiproxy, name, target, resets=resets))
        return self.links[name].listen

    async def _role(self, launch: Callable[[], Awaitable[Actor]]) -> Role:
        role = await Role.start(launch)
        self.built.push_async_callback(role.stop)
        return role

    async def _actor(self, name: str, module: str, fields: dict[str, Any], within: float = ANSWER_SECONDS) -> Actor:
        """Start an actor and wait until it is ready."""
        history = str(self.folder / f"{name}.jsonl")
        spec = {"history": history, **fields, "seed": str(self.seed)}
        actor = await Actor.launch(f"the {name} process", module, spec, self.folder / f"{name}.log", self.warden)
        try:
            await actor.hear(within)
        except BaseException:
            await actor.stop()
            raise
        return actor

    def _reserved(self) -> int:
        """Return a port that stays ours to the end of the run, though whoever listens there may come and go.

        A socket that is bound and does not listen keeps it: others are refused there, as at a port that nobody has.
        """
        keeper = self.built.enter_context(socket.socket())
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind(("127.0.0.1", 0))
        port: int = keeper.getsockname()[1]
        return port
