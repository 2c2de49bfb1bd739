"""What runs in a soak, from the upstream to the clients, and how it is started.

clients ──► [client link] ──► system under test ──► [upstream link] ──► upstream
probe   ─────────────────────────────►┘ and, past it, ─────────────────────►┘
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from reconnect_harness.faults.fault import needs_resets
from reconnect_harness.faults.process_faults import ProcessTarget
from reconnect_harness.peers.workload import Workload
from reconnect_harness.processes.child import Actor
from reconnect_harness.processes.footprint import FootprintWatch
from reconnect_harness.run.builder import TopologyBuilder
from reconnect_harness.run.restartable import Role
from reconnect_harness.soak.fault_phases import CLIENT, CLIENTS, FAULTS, PROXY, UPSTREAM
from reconnect_harness.soak.plan import SoakPlan
from reconnect_harness.soak.samples import Sampler
from reconnect_harness.sut.base import SystemUnderTest
from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.server import ToxiproxyServer

#: Seconds of silence after which a client pings, and then as many after which it gives its link up.
PING_SECONDS = 3.0

#: How many seconds a client that wants to leave waits for what is under way, before that is lost.
PATIENCE = 60.0

#: What a client sends, and the upstream to each client.
LOAD = Workload(rate=2.0, smallest=16, largest=4096)

#: The ledgers of the two ends, in the folder of the soak.
UPSTREAM_LEDGER, CLIENTS_LEDGER = "upstream.ledger", "clients.ledger"


@dataclass(slots=True)
class SoakTestbed:
    """The running parts of a soak. `patience` is how many seconds a client that wants to leave waits."""

    upstream: Role
    clients: Actor
    probe: Actor
    watch: FootprintWatch
    sampler: Sampler
    links: dict[str, ToxiproxyLink]
    processes: dict[str, ProcessTarget]
    patience: float


async def build(
    builder: TopologyBuilder, plan: SoakPlan, system: SystemUnderTest, toxiproxy: ToxiproxyServer
) -> SoakTestbed:
    """Start everything, from the upstream to the clients; the builder stops it in the opposite order.

    Raises:
        ProcessFailed: a process did not start.
        ToxiproxyError: a link could not be made.

    """
    port = builder.reserve_port()
    upstream_ledger = str(builder.folder / UPSTREAM_LEDGER)
    common: dict[str, Any] = {"seed": str(plan.seed), "clients": plan.clients, "load": LOAD.to_spec()}
    incarnation = 0

    async def launch() -> Actor:
        nonlocal incarnation
        incarnation += 1
        spec = {**common, "port": port, "ledger": upstream_ledger, "incarnation": incarnation}
        actor, _ = await builder.launch("upstream", "soak.upstream", spec)
        return actor

    def link(name: str, target: str) -> str:
        return builder.link(toxiproxy, name, target, resets=needs_resets((fault for _, fault in FAULTS), name))

    server = await builder.role(launch)
    address = link(UPSTREAM, f"127.0.0.1:{port}")
    url = urlsplit(await builder.system(system, [address], plan.scenario))
    assert system.process is not None
    base = url._replace(path="").geturl()
    watch = FootprintWatch([(system.process.pid, system.admin)])

    async def in_use() -> int:
        found: int = (await server.ask("count"))["connections"]
        return found

    await watch.before(f"{base}/echo", in_use)
    front = url._replace(netloc=link(CLIENT, url.netloc), path="").geturl()
    direct = f"ws://127.0.0.1:{port}/echo"
    probe, _ = await builder.actor("probe", "soak.probe", {"through": f"{base}/echo", "direct": direct})
    spec = {
        **common,
        "url": front,
        "ping": PING_SECONDS,
        "patience": PATIENCE,
        "ledger": str(builder.folder / CLIENTS_LEDGER),
        "upstream": upstream_ledger,
    }
    clients, _ = await builder.actor("clients", "soak.clients", spec)
    processes: dict[str, ProcessTarget] = {UPSTREAM: server, PROXY: system.process, CLIENTS: clients}
    sampler = Sampler(system.process.pid, system.admin)
    return SoakTestbed(server, clients, probe, watch, sampler, builder.links, processes, PATIENCE)
