"""The testbed of a load run: what its users talk to if no host is given. A process of its own, for asyncio.

    users ──► [client link] ──► system under test ──► [upstream link] ──► aware echo server

It is started as `python -m reconnect_harness.load.testbed_process SPEC`, writes one JSON line when it is ready, and
answers commands as the other programs of the harness do (`processes.actor`): `faults` begins the timeline of the
scenario, `heal` ends it, `ends` asks which processes have ended. Between answers it writes a line for each fault. When
its stdin ends, it stops all that it has started, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reconnect_harness.containers.engine import Engine, EngineError, EngineUnavailable
from reconnect_harness.faults.nemesis import Nemesis
from reconnect_harness.history.record import FaultRecord
from reconnect_harness.peers.workload import Workload
from reconnect_harness.processes.actor import converse, run, say
from reconnect_harness.processes.child import ProcessFailed
from reconnect_harness.run.scenario_topology import TopologySpec, build_server_side
from reconnect_harness.run.topology import ServerSide
from reconnect_harness.scenario.clients_spec import ClientsSpec
from reconnect_harness.scenario.find import load_scenario, scenario_files
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.scenario.upstream_spec import UpstreamSpec
from reconnect_harness.sut.base import GivenUrl, SystemUnderTest
from reconnect_harness.sut.choose import system_under_test
from reconnect_harness.toxiproxy.find import find_toxiproxy
from reconnect_harness.toxiproxy.server import ToxiproxyError

#: A user that leaves in good order does not resume its session, so the session can end at once.
_LEAVING = {"grace_on": "abnormal"}


class LoadUpstream(UpstreamSpec):
    """The server of a load run: aware, so that a proxy can deliver everything; its messages say when they were sent."""

    @property
    def load(self) -> Workload:
        """The messages that it pushes to each user."""
        return Workload(self.push, *self.size, "text", timed=True)

    @property
    def actor_spec(self) -> dict[str, Any]:
        """The spec of its process, without a history: the users keep the accounts."""
        return {**super().actor_spec, "history": None}


def scenario_of_load(name: str | None, push: float, url: str | None) -> Scenario:
    """Return the scenario of a load run: the faults and proxies of the scenario `name`, and an upstream of our own.

    Raises:
        ScenarioError: there is no such scenario, or its faults cannot be done in a load run.

    """
    upstream = LoadUpstream.model_validate({"kind": "aware-echo", "push": push, "size": 128})
    clients = ClientsSpec.model_validate({"kind": "aware", "send": "1/s", "for": "1s"})
    if name is None:
        # `expect` is required, and not used: the users judge.
        told = {"name": "load", "summary": "A load run.", "expect": {"lost": 0}, "proxy": _LEAVING}
        return Scenario.model_validate({**told, "upstream": upstream, "clients": clients})
    files = scenario_files(name)
    if len(files) != 1:
        raise ScenarioError(f"--scenario {name!r} stands for {len(files)} scenarios; a load run has one at a time")
    chosen = load_scenario(files[0])
    _check(chosen, url)
    ours = {"upstream": upstream.model_copy(update={"count": chosen.upstream.count}), "clients": clients, "tls": None}
    if chosen.chain:
        return chosen.model_copy(update={**ours, "chain": [{**_LEAVING, **options} for options in chosen.chain]})
    return chosen.model_copy(update={**ours, "proxy": {**_LEAVING, **chosen.proxy}})


def _check(chosen: Scenario, url: str | None) -> None:
    """Raise ScenarioError for a scenario that needs more than faults between users and upstreams."""
    targets = {fault.target for fault in chosen.faults}
    if not targets:
        raise ScenarioError(f"scenario {chosen.name} has no faults, so it adds nothing to the load")
    if "clients" in targets:
        raise ScenarioError(
            f"scenario {chosen.name} has faults of its clients' process; a load run has users of locust instead"
        )
    if chosen.upstream.gate is not None:
        raise ScenarioError(f"scenario {chosen.name} needs an upstream with a gate; that of a load run has none")
    if chosen.upstream.is_container:
        raise ScenarioError(f"scenario {chosen.name} has its upstream in a container; that of a load run is ours")
    if chosen.upstream.is_program or chosen.adapter is not None:
        raise ScenarioError(f"scenario {chosen.name} has an application of its own: give it as --host or --sut")
    if url is not None and not targets <= {"client", *chosen.containers}:
        raise ScenarioError(
            f"scenario {chosen.name} has faults of {', '.join(sorted(targets))}; with --host only the link of the "
            "users, client, and `containers` can have faults. Without --host, --sut says what is started"
        )


class RepeatedTimeline:
    """The faults of a scenario, once or repeatedly, until `end`."""

    def __init__(self, scenario: Scenario, servers: ServerSide, seed: int, every: float | None) -> None:
        self._scenario = scenario
        self._servers = servers
        self._rng = random.Random(seed)
        self._every = every
        self._running: asyncio.Task[None] | None = None

    async def begin(self) -> dict[str, Any]:
        """Begin; answer with the number of faults in one timeline."""
        await self.end()
        self._running = asyncio.create_task(self._run())
        return {"faults": len(self._nemesis().timeline)}

    async def end(self) -> dict[str, Any]:
        """End, and heal every link and process."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None
        return {}

    def deaths(self) -> Iterator[str]:
        """Yield the systems under test that have ended and should not have."""
        for name, system in self._servers.systems.items():
            done = {fault.name for fault in self._scenario.faults if fault.target == name}
            status = system.process.returncode if system.process is not None else None
            if status is not None and not done & {"kill", "terminate"}:
                yield f"the system under test, {name}, has ended with status {status}"

    async def _run(self) -> None:
        try:
            while True:
                begun = time.monotonic()
                await self._nemesis().run()
                if self._every is None:
                    return
                await asyncio.sleep(max(0.0, begun + self._every - time.monotonic()))
        except Exception as failure:  # noqa: BLE001  # every failure makes the run unknown
            say({"trouble": f"the faults could not be done, or undone: {failure}"})

    def _nemesis(self) -> Nemesis:
        servers = self._servers
        return Nemesis(
            self._scenario.faults,
            servers.links,
            _say_fault,
            processes=servers.processes,
            containers=servers.containers,
            rng=self._rng,
        )


def _say_fault(fault: FaultRecord) -> None:
    """Write a line about a fault, with times in seconds since 1970."""
    say({"fault": fault.shifted(time.time() - time.monotonic())._asdict()})


async def play(spec: dict[str, Any]) -> None:
    """Start everything, and keep it running until stdin ends.

    `spec`: sut, toxiproxy, scenario, every (seconds or None), seed, push (messages a second), host (a URL, or None).
    """
    try:
        scenario = scenario_of_load(spec["scenario"], spec["push"], spec["host"])
        system = _system(spec, scenario)
        with tempfile.TemporaryDirectory(prefix="reconnect-load-") as folder, contextlib.ExitStack() as opened:
            toxiproxy = None
            if scenario.links:
                toxiproxy = opened.enter_context(find_toxiproxy(spec["toxiproxy"]).server())
            engine = opened.enter_context(Engine()) if scenario.container_specs else None
            topology = TopologySpec(scenario, system, toxiproxy, spec["seed"], Path(folder), engine)
            async with build_server_side(topology) as servers:
                named = {"system": system.describe(), "toxiproxy": toxiproxy.describe() if toxiproxy else None}
                say({"ready": servers.url, **named, "scenario": scenario.name if scenario.faults else None})
                await _serve(RepeatedTimeline(scenario, servers, spec["seed"], spec["every"]))
    except ScenarioError as error:
        say({"error": str(error), "code": 2})
    except (ToxiproxyError, ProcessFailed, EngineUnavailable, EngineError) as error:
        say({"error": str(error), "code": 1})


def _system(spec: Mapping[str, Any], scenario: Scenario) -> SystemUnderTest:
    if spec["host"] is not None:
        return GivenUrl(spec["host"])
    system = system_under_test(spec["sut"])
    if isinstance(system, GivenUrl):
        raise ScenarioError(f"--sut {spec['sut']} is a URL: give it as --host {spec['sut']}")
    system.check(scenario)
    return system


async def _serve(timeline: RepeatedTimeline) -> None:
    async def ends() -> dict[str, Any]:
        return {"ends": list(timeline.deaths())}

    commands = {"faults": timeline.begin, "heal": timeline.end, "ends": ends}
    try:
        await converse(lambda line: commands[line]())
    finally:
        await timeline.end()


if __name__ == "__main__":
    run(play)
