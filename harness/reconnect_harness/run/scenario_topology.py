"""Builds what a scenario describes, in the order of `run.topology`: containers, upstreams, links, proxies, clients."""

from __future__ import annotations

import contextlib
import copy
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconnect_harness.containers.container import Container
from reconnect_harness.containers.engine import Engine, EngineError, EngineUnavailable
from reconnect_harness.faults.fault import needs_resets
from reconnect_harness.processes.certificates import Certificates, Encryption, certificates
from reconnect_harness.processes.child import ANSWER_SECONDS, Actor, ProcessFailed
from reconnect_harness.processes.footprint import FootprintWatch
from reconnect_harness.processes.shielded import run_shielded
from reconnect_harness.run.builder import TopologyBuilder
from reconnect_harness.run.restartable import Role
from reconnect_harness.run.topology import ServerSide, Topology, TrafficClock
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.sut.base import SystemUnderTest
from reconnect_harness.toxiproxy.link import address_of
from reconnect_harness.toxiproxy.server import ToxiproxyServer


@dataclass(frozen=True, slots=True)
class TopologySpec:
    """What is to be built: the topology of a scenario."""

    scenario: Scenario
    system: SystemUnderTest
    #: A started server; None for a scenario without faults of links.
    toxiproxy: ToxiproxyServer | None
    #: What random parts are drawn from.
    seed: int
    #: Where the parts leave their files.
    folder: Path
    #: Where the containers are; None for a scenario without any.
    engine: Engine | None = None


@contextlib.asynccontextmanager
async def build(spec: TopologySpec) -> AsyncIterator[Topology]:
    """Start everything, from the containers to the clients, and stop it in the opposite order.

    Raises:
        ProcessFailed: a process or a container did not start, or the container does not exist.
        EngineUnavailable: a container is needed, and there is no engine, or its image cannot be had.
        ToxiproxyError: a link could not be made.

    """
    scenario = spec.scenario
    async with TopologyBuilder(spec.folder) as builder:
        files = builder.enter(certificates()) if scenario.tls else None
        parts = _ScenarioParts(spec, builder, files)
        servers = await parts.server_side()
        trust = files.client_context() if files is not None and scenario.tls_client else None
        watch = await _warm_up(servers, trust) if scenario.watches else None
        clients = await parts.clients(servers.url, servers.own_url)
        yield Topology(clients, servers, parts.clock, watch)


@contextlib.asynccontextmanager
async def build_server_side(spec: TopologySpec) -> AsyncIterator[ServerSide]:
    """Start everything but the clients, and let the upstreams push; the caller brings clients of its own.

    Raises what `build` raises.
    """
    async with TopologyBuilder(spec.folder) as builder:
        parts = _ScenarioParts(spec, builder)
        servers = await parts.server_side()
        parts.clock.start = time.monotonic()
        for upstream in servers.upstreams.values():
            await upstream.ask("go")
        yield servers


async def _warm_up(servers: ServerSide, trust: ssl.SSLContext | None) -> FootprintWatch:
    """Connect through the systems under test once, and measure them then. The upstreams do not count it."""
    ours = [(system.process.pid, system.admin) for system in servers.systems.values() if system.process is not None]
    watch = FootprintWatch(ours)
    if ours:

        async def in_use() -> int:
            return sum([(await upstream.ask("warm"))["connections"] for upstream in servers.upstreams.values()])

        await watch.before(servers.url, in_use, trust)
    for upstream in servers.upstreams.values():
        await upstream.ask("warmed")
    return watch


@dataclass(slots=True)
class _ScenarioParts:
    """Starts the parts of a scenario with a builder, which stops them."""

    spec: TopologySpec
    builder: TopologyBuilder
    files: Certificates | None = None
    clock: TrafficClock = field(default_factory=TrafficClock)

    @property
    def scenario(self) -> Scenario:
        return self.spec.scenario

    async def server_side(self) -> ServerSide:
        """Start everything that clients connect to, from the containers on."""
        # A system that brings its own upstream may start these containers itself.
        echoes = self.spec.system.echoes
        containers = {} if echoes else await self.containers()
        upstreams: dict[str, Role] = {}
        programs: dict[str, Role] = {}
        addresses = []
        for index, name in enumerate(self.scenario.upstream_names, 1):
            spec = self.scenario.upstream
            if name in containers:
                address = containers[name].address or ""
            elif spec.command is not None:
                programs[name], address = await self.builder.program(name, spec.command, spec.env)
            else:
                upstreams[name], address = await self.upstream(name, f"u{index}")
            addresses.append(self.link(name, address))
        systems: dict[str, SystemUnderTest] = {}
        path, scheme = "/", "ws"
        url = urlsplit("")
        links = self.scenario.link_names[: len(self.scenario.proxies)]
        proxies = zip(self.scenario.proxy_names, links, self.scenario.proxies, strict=True)
        for name, link, options in reversed(list(proxies)):
            systems[name] = copy.copy(self.spec.system)
            url = urlsplit(await self.system(systems[name], name, addresses, options))
            addresses, path = [self.link(link, address_of(url))], url._replace(scheme="", netloc="").geturl()
            scheme = url.scheme
        if echoes:
            containers = await self.containers()
        own = None
        if echoes and addresses[0] != address_of(url):
            own = url.geturl()
        address = f"{scheme}://{addresses[0]}{path}"
        systems = dict(reversed(systems.items()))
        return ServerSide(address, upstreams, systems, self.builder.links, containers, programs, own)

    async def containers(self) -> dict[str, Container]:
        return {name: await self.container(name) for name in self.scenario.container_specs}

    async def container(self, name: str) -> Container:
        """Start a container of the scenario, or find the one that runs."""
        engine = self.spec.engine
        if engine is None:
            raise EngineUnavailable(f"container {name}: this run was given no container engine")
        spec = self.scenario.container_specs[name]
        port = self.builder.reserve_port() if spec.chooses_port else spec.port
        log = self.spec.folder / f"{name}.log"

        def make() -> Container:
            if spec.image is None:
                return Container.by_label(engine, name, spec)
            made = Container.from_image(engine, name, spec, port)
            # In the thread that makes it: a caller that is cancelled meanwhile never gets the container.
            self.builder.exits.push_async_callback(run_shielded, lambda: made.remove(log))
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
        port = self.builder.reserve_port()
        tls = list(map(str, self.files)) if self.files is not None and self.scenario.tls_upstream else None
        fields = {**self.scenario.upstream.actor_spec, "name": label, "port": port, "tls": tls}
        fields["handshakes"] = self.scenario.clients.handshake is not None

        async def launch() -> Actor:
            warm = self.scenario.watches and self.clock.start is None
            return await self._launch(name, "peers.upstreams", {**fields, "warm": warm})

        return await self.builder.role(launch), f"127.0.0.1:{port}"

    async def system(self, system: SystemUnderTest, name: str, upstreams: list[str], options: dict[str, Any]) -> str:
        """Start a proxy in front of `upstreams`; return its URL."""
        # Each proxy of a chain has a folder of its own, and is given a scenario with one proxy, itself.
        folder = self.spec.folder / name if self.scenario.chain else self.spec.folder
        folder.mkdir(exist_ok=True)
        mine = self.scenario.model_copy(update={"proxy": options, "chain": []})
        return await self.builder.system(system, upstreams, mine, folder, self._encryption(name))

    async def clients(self, url: str, own_url: str | None = None) -> Role:
        """Start the clients, which connect to `url`, and ask there for `own_url`."""
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
            "handshake": spec.handshake.model_dump() if spec.handshake else None,
            "leaves": spec.leaves,
            "command": spec.command,
            "adapter": self.scenario.adapter and self.scenario.adapter.to_spec(),
            "url": url,
            "own_url": own_url,
            "ca": str(self.files.ca) if self.files is not None and self.scenario.tls_client else None,
        }

        async def launch() -> Actor:
            lasts = self.clock.left(spec.lasts)
            return await self._launch(
                "clients", "peers.clients", {**fields, "lasts": lasts}, within=60 + spec.count / 50
            )

        return await self.builder.role(launch)

    def link(self, name: str, target: str) -> str:
        """Return where to connect to reach `target`: through Toxiproxy if the scenario has faults of this link."""
        if name not in self.scenario.links:
            return target
        assert self.spec.toxiproxy is not None, "a scenario with faults of links is given a Toxiproxy"
        resets = needs_resets(self.scenario.faults, name)
        return self.builder.link(self.spec.toxiproxy, name, target, resets=resets)

    def _encryption(self, name: str) -> Encryption | None:
        """Return which legs of a proxy use TLS. In a chain the first has the clients, and the last the upstreams."""
        if self.files is None:
            return None
        first, last = self.scenario.proxy_names[0], self.scenario.proxy_names[-1]
        client = self.scenario.tls_client and name == first
        upstream = self.scenario.tls_upstream and name == last
        return Encryption(self.files, client, upstream)

    async def _launch(self, name: str, module: str, fields: dict[str, Any], *, within: float = ANSWER_SECONDS) -> Actor:
        """Start a peer that records its history."""
        spec = {"history": str(self.spec.folder / f"{name}.jsonl"), **fields, "seed": str(self.spec.seed)}
        actor, _ = await self.builder.launch(name, module, spec, within=within)
        if self.clock.start is not None:
            # It replaces one that a fault has ended in the middle of the run, and goes on at once.
            await actor.ask("go")
        return actor
