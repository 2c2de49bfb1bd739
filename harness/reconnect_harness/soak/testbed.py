"""What runs in a soak, from the upstream to the guests, and how it is started.

guests ──► [client link] ──► system under test ──► [upstream link] ──► upstream
probe  ─────────────────────────────►┘ and, beside it, ───────────────────►┘
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconnect_harness.faults.fault import needs_resets
from reconnect_harness.faults.process_faults import ProcessTarget
from reconnect_harness.peers.workload import Workload
from reconnect_harness.processes.child import Actor, Warden
from reconnect_harness.processes.footprint import Watch
from reconnect_harness.run.restartable import Role
from reconnect_harness.soak.fault_phases import CLIENT, FAULTS, GUESTS, PROXY, UPSTREAM
from reconnect_harness.soak.plan import Plan
from reconnect_harness.soak.samples import Sampler
from reconnect_harness.sut.base import SystemUnderTest
from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.server import ToxiproxyServer, reserve_port

#: Seconds of silence after which a guest pings, and then gives its link up.
PING_SECONDS = 3.0

#: How long a guest who wants to leave waits for what is under way, in seconds, before that is lost.
PATIENCE = 60.0

#: What a guest says, and the upstream to it.
LOAD = Workload(rate=2.0, smallest=16, largest=4096)


@dataclass(slots=True)
class Stage:
    """What runs in a soak. `patience` is how many seconds a guest who wants to leave waits for what is under way."""

    upstream: Role
    guests: Actor
    probe: Actor
    watch: Watch
    sampler: Sampler
    links: dict[str, ToxiproxyLink]
    processes: dict[str, ProcessTarget]
    patience: float


async def build(
    built: AsyncExitStack, plan: Plan, system: SystemUnderTest, toxiproxy: ToxiproxyServer, folder: Path
) -> Stage:
    """Start everything, from the upstream to the guests; `built` stops it in the opposite order.

    Raises:
        ProcessFailed: a process did not start.
        ToxiproxyError: a link could not be made.

    """
    warden = built.enter_context(Warden())
    port = built.enter_context(reserve_port()).getsockname()[1]

    async def actor(name: str, **spec: Any) -> Actor:
        given = {"seed": str(plan.seed), "guests": plan.guests, "load": LOAD.to_spec(), **spec}
        log = folder / f"{name}.log"
        made = await Actor.launch(f"the {name} process", f"reconnect_harness.soak.{name}", given, log, warden)
        try:
            await made.hear()
        except BaseException:
            await made.stop()
            raise
        return made

    incarnation = 0

    async def launch() -> Actor:
        nonlocal incarnation
        incarnation += 1
        book = str(folder / "upstream.ledger")
        return await actor("upstream", port=port, ledger=book, incarnation=incarnation)

    server = await Role.start(launch)
    built.push_async_callback(server.stop)
    links: dict[str, ToxiproxyLink] = {}

    def link(name: str, target: str) -> str:
        resets = needs_resets((fault for _, fault in FAULTS), name)
        links[name] = built.enter_context(ToxiproxyLink(toxiproxy, name, target, resets=resets))
        return links[name].listen

    address = link(UPSTREAM, f"127.0.0.1:{port}")
    built.push_async_callback(system.stop)
    url = urlsplit(await system.start([address], plan.scenario, folder, warden))
    assert system.process is not None
    base = url._replace(path="").geturl()
    watch = Watch([(system.process.pid, system.admin)])

    async def in_use() -> int:
        found: int = (await server.ask("count"))["connections"]
        return found

    await watch.before(f"{base}/echo", in_use)
    front = url._replace(netloc=link(CLIENT, url.netloc), path="").geturl()
    probe = await actor("probe", through=f"{base}/echo", beside=f"ws://127.0.0.1:{port}/echo")
    built.push_async_callback(probe.stop)
    crowd = await actor(
        "clients",
        url=front,
        ping=PING_SECONDS,
        patience=PATIENCE,
        ledger=str(folder / "guests.ledger"),
        upstream=str(folder / "upstream.ledger"),
    )
    built.push_async_callback(crowd.stop)
    processes: dict[str, ProcessTarget] = {UPSTREAM: server, PROXY: system.process, GUESTS: crowd}
    sampler = Sampler(system.process.pid, system.admin)
    return Stage(server, crowd, probe, watch, sampler, links, processes, PATIENCE)
