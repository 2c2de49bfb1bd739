"""How a topology comes to be: each part is started in turn, and stopped in the opposite order whatever happens."""

from __future__ import annotations

import contextlib
import copy
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconnect_harness.containers.container import Container
from reconnect_harness.containers.engine import Engine, EngineError, EngineUnavailable
from reconnect_harness.faults.fault import needs_resets
from reconnect_harness.processes.certificates import Certificates, Encryption, certificates
from reconnect_harness.processes.child import ANSWER_SECONDS, Actor, ProcessFailed, Warden
from reconnect_harness.processes.footprint import Watch
from reconnect_harness.processes.shielded import run_shielded
from reconnect_harness.run.restartable import Role
from reconnect_harness.run.topology import Clock, Target, Topology
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.sut.base import SystemUnderTest
from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.server import ToxiproxyServer


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What is to be built: the topology of which scenario, around which system under test.

    `toxiproxy` is a started server, or None for a scenario that harms no link; what is random follows from `seed`; the
    parts leave their files in `folder`; `engine` is where the containers are, or None for a scenario that has none.
    """

    scenario: Scenario
    system: SystemUnderTest
    toxiproxy: ToxiproxyServer | None
    seed: int
    folder: Path
    engine: Engine | None = None


@contextlib.asynccontextmanager
async def build(plan: Blueprint) -> AsyncIterator[Topology]:
    """Start everything, from the containers to the clients, and stop it in the opposite order.

    Raises:
        ProcessFailed: a process or a container did not start, or the container is not there.
        EngineUnavailable: a container is needed, and there is no engine, or not its image.
        ToxiproxyError: a link could not be made.

    """
    scenario = plan.scenario
    async with AsyncExitStack() as built:
        files = built.enter_context(certificates()) if scenario.tls else None
        builder = _Builder(plan, built, built.enter_context(Warden()), files)
        target = await builder.target()
        trust = files.of_client() if files is not None and scenario.tls_client else None
        watch = await _warm_up(target, trust) if scenario.watches else None
        clients = await builder.clients(target.url)
        yield Topology(clients, target, builder.clock, watch)


@contextlib.asynccontextmanager
async def build_target(plan: Blueprint) -> AsyncIterator[Target]:
    """Start all but the clients, and let the upstreams speak; for clients that somebody else brings.

    Raises what `build` raises.
    """
    async with AsyncExitStack() as built:
        builder = _Builder(plan, built, built.enter_context(Warden()))
        target = await builder.target()
        builder.clock.start = time.monotonic()
        for upstream in target.upstreams.values():
            await upstream.ask("go")
        yield target


async def _warm_up(target: Target, trust: ssl.SSLContext | None) -> Watch:
    """Use the systems under test once, and see what they hold then. The upstreams take no notice of it."""
    ours = [(system.process.pid, system.admin) for system in target.systems.values() if system.process is not None]
    watch = Watch(ours)
    if ours:

        async def in_use() -> int:
            return sum([(await upstream.ask("warm"))["connections"] for upstream in target.upstreams.values()])

        await watch.before(target.url, in_use, trust)
    for upstream in target.upstreams.values():
        await upstream.ask("warmed")
    return watch


@dataclass(slots=True)
class _Builder:
    """Starts the parts of a topology, and has them stopped when `built` is closed."""

    plan: Blueprint
    built: AsyncExitStack
    warden: Warden
    files: Certificates | None = None
    clock: Clock = field(default_factory=Clock)
    links: dict[str, ToxiproxyLink] = field(default_factory=dict)

    @property
    def scenario(self) -> Scenario:
        """What is built is that of this scenario."""
        return self.plan.scenario

    async def target(self) -> Target:
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
            systems[name] = copy.copy(self.plan.system)
            url = urlsplit(await self.system(systems[name], name, addresses, options))
            addresses, path = [self.link(link, url.netloc)], url._replace(scheme="", netloc="").geturl()
            scheme = url.scheme
        address = f"{scheme}://{addresses[0]}{path}"
        return Target(address, upstreams, dict(reversed(systems.items())), self.links, containers)

    async def container(self, name: str) -> Container:
        """Start a container of the scenario, or find the one that runs."""
        engine = self.plan.engine
        if engine is None:
            raise EngineUnavailable(f"container {name}: this run was given no container engine")
        spec = self.scenario.container_specs[name]
        port = self._reserved() if spec.chooses_port else spec.port
        log = self.plan.folder / f"{name}.log"

        def make() -> Container:
            if spec.image is None:
                return Container.by_label(engine, name, spec)
            made = Container.from_image(engine, name, spec, port)
            # Here, and not when it has been made: whoever is cancelled then never hears of it.
            self.built.push_async_callback(run_shielded, lambda: made.remove(log))
            return made

        try:
            container = await run_shielded(make)
            if spec.image is not None:
                await run_shielded(container.start, container.hurry)
        except EngineError as failure:
            raise ProcessFailed(str(failure)) from failure
        return container

    async def upstream(self, name: str, label: str) -> tuple[Role, str]:
        """Start an upstream that is called `label` in the history; return it, and its HOST:PORT."""
        port = self._reserved()
        tls = list(map(str, self.files)) if self.files is not None and self.scenario.tls_upstream else None
        fields = {**self.scenario.upstream.actor_spec, "name": label, "port": port, "tls": tls}

        async def launch() -> Actor:
            warm = self.scenario.watches and self.clock.start is None
            actor = await self._actor(name, "reconnect_harness.peers.upstreams", {**fields, "warm": warm})
            if self.clock.start is not None:
                # Who takes over in the middle of a run is in it at once.
                await actor.ask("go")
            return actor

        return await self._role(launch), f"127.0.0.1:{port}"

    async def system(self, system: SystemUnderTest, name: str, upstreams: list[str], options: dict[str, Any]) -> str:
        """Start a proxy in front of `upstreams`; return its URL."""
        self.built.push_async_callback(system.stop)
        # Each one of a chain has a folder of its own, and sees a scenario with one proxy, itself.
        folder = self.plan.folder / name if self.scenario.chain else self.plan.folder
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
                "clients",
                "reconnect_harness.peers.clients",
                {**fields, "lasts": self.clock.left(spec.lasts)},
                within=within,
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
        assert self.plan.toxiproxy is not None, "a scenario with link faults is given a Toxiproxy"
        resets = needs_resets(self.scenario.faults, name)
        self.links[name] = self.built.enter_context(ToxiproxyLink(self.plan.toxiproxy, name, target, resets=resets))
        return self.links[name].listen

    async def _role(self, launch: Callable[[], Awaitable[Actor]]) -> Role:
        role = await Role.start(launch)
        self.built.push_async_callback(role.stop)
        return role

    async def _actor(self, name: str, module: str, fields: dict[str, Any], within: float = ANSWER_SECONDS) -> Actor:
        """Start an actor and wait until it is ready."""
        history = str(self.plan.folder / f"{name}.jsonl")
        spec = {"history": history, **fields, "seed": str(self.plan.seed)}
        actor = await Actor.launch(f"the {name} process", module, spec, self.plan.folder / f"{name}.log", self.warden)
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
