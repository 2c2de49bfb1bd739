"""A scenario without sockets, processes or waiting: the core of this proxy on a simulated network, in virtual time.

    SimulatedClient ══ client link ══► SimulatedProxy (reconnect_proxy.core) ══ upstream link ══► SimulatedUpstream

The result is a `RunResult` like that of `run.runner`: the same history, judged by the same checkers. A timeline of
seconds takes milliseconds, and the same scenario and seed give the same run. The modules of this folder use more of the
proxy than its public names, on purpose: they test `reconnect_proxy.core`, and nothing of `net`.

A simulation has one proxy of any mode, one upstream, clients with sessions of their own, the kinds of peer in `KINDS`,
and the faults in `SIMULATED_LINK_FAULTS` and `SIMULATED_PROCESS_FAULTS`. `check` refuses other scenarios.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from reconnect_harness.checks.checkers import judge
from reconnect_harness.faults.fault import Occurrence, timeline
from reconnect_harness.history.record import End, FaultRecord, Footprint
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.simulate.aware_client import SimulatedAwareClient
from reconnect_harness.simulate.client import OPEN_SECONDS, SimulatedClient
from reconnect_harness.simulate.clock import VirtualClock
from reconnect_harness.simulate.network import SIMULATED_LINK_FAULTS, SimulatedLink
from reconnect_harness.simulate.peers import SimulationRecorder
from reconnect_harness.simulate.proxy import SimulatedDialler, SimulatedProxy
from reconnect_harness.simulate.upstream import SimulatedUpstream
from reconnect_proxy import Config
from reconnect_proxy.config.session_policy import policy_of
from reconnect_proxy.core.policy import GateKind, Mode, Policy

#: The kinds of client and of upstream that can be simulated.
KINDS = {"clients": ("plain", "reconnecting", "aware"), "upstream": ("record", "push", "aware")}

#: The faults of the upstream's process that can be simulated.
SIMULATED_PROCESS_FAULTS = ("kill", "stop")

#: How far time is advanced at once, and how long the run goes on when everything has arrived, in seconds.
STEP_SECONDS = 0.1
LINGER_SECONDS = 0.3

#: The system under test of a simulation, in a line.
SYSTEM = "reconnect_proxy.core, simulated"


def check(scenario: Scenario) -> None:
    """Check that a scenario can be simulated.

    Raises:
        ScenarioError: it cannot. The message says why.

    """
    for found, known, what in (
        (str(scenario.clients.kind), KINDS["clients"], "clients"),
        (str(scenario.upstream.kind), KINDS["upstream"], "upstream"),
        *((fault.name, (*SIMULATED_LINK_FAULTS, *SIMULATED_PROCESS_FAULTS), "fault") for fault in scenario.faults),
    ):
        if found not in known:
            raise ScenarioError(f"{scenario.name}: no {what} {found!r} can be simulated; {', '.join(known)} can")
    for there, what in (
        (bool(scenario.chain), "a chain of proxies"),
        (scenario.upstream.count > 1, "several upstreams"),
        (_is_shared(scenario), "a session that clients share"),
        (scenario.upstream.gate is not None or _policy(scenario).gate.kind is not GateKind.OPEN, "a gate"),
        (bool(scenario.upstream.misbehaviours), "an upstream that is rude"),
        (scenario.clients.slow is not None, "slow clients"),
        (scenario.tls is not None, "TLS"),
        (bool(scenario.container_specs), "a container"),
        (any(fault.target in ("proxy", "clients") for fault in scenario.faults), "a fault of a proxy or the clients"),
        (any(fault.toxicity != 1 for fault in scenario.faults), "toxicity"),
    ):
        if there:
            raise ScenarioError(f"{scenario.name}: {what} cannot be simulated, only be run for real")


def simulate(scenario: Scenario, seed: int, folder: Path) -> RunResult:
    """Run a scenario in virtual time and judge it. Nothing is written; `folder` is for the files of the result.

    Raises:
        ScenarioError: it cannot be simulated.

    """
    check(scenario)
    with _seeded(seed):
        simulation = _Simulation(scenario, seed)
        try:
            start, seconds = simulation.run()
        except Exception as crash:  # noqa: BLE001  # any error of the core
            # The core has raised an error, which is a breach. What was recorded until then shows the cause.
            start, seconds = 0.0, simulation.clock.time()
            simulation.recorder.link(End.UPSTREAM, "core", "breach", False, reason=f"it raised {crash!r}")
    history = simulation.recorder.history
    history.start = start
    judgement = judge(history, scenario.expect, scenario.directions)
    return RunResult(scenario, seed, SYSTEM, None, folder, history, judgement, seconds)


def _is_shared(scenario: Scenario) -> bool:
    """Return whether the clients share one session: those of a receiver do if they name none."""
    return scenario.shared or (_policy(scenario).mode is Mode.RECEIVER and scenario.clients.kind != "reconnecting")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the module `random`, from which the core draws its waits, and restore its state afterwards."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _policy(scenario: Scenario) -> Policy:
    return policy_of(Config(upstream="ws://127.0.0.1:1", **scenario.proxies[0]))


class _Simulation:
    """One simulated run."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.clock = VirtualClock()
        self.recorder = SimulationRecorder(self.clock)
        self._scenario = scenario
        self._draw = random.Random(seed)
        self._links = {name: SimulatedLink(name, self.clock, self._draw) for name in scenario.link_names}
        self._upstream = SimulatedUpstream(scenario, self.clock, self.recorder, seed)
        dial = partial(SimulatedDialler, self._links["upstream"], self._upstream)
        self._proxy = SimulatedProxy(_policy(scenario), self.clock, dial)
        count = scenario.clients.count
        names = [f"c{index:0{max(2, len(str(count)))}d}" for index in range(1, count + 1)]
        link = self._links["client"]
        kind = SimulatedAwareClient if scenario.clients.kind == "aware" else SimulatedClient
        self._clients = [kind(name, scenario, link, self._proxy.accept, self.recorder, seed) for name in names]

    def run(self) -> tuple[float, float]:
        """Run it; return when the traffic began, and how many seconds it lasted."""
        clock = self.clock
        for client in self._clients:
            client.dial()
        while not all(client.tried for client in self._clients) and clock.time() < OPEN_SECONDS + 1:
            clock.advance(STEP_SECONDS)
        start = clock.time()
        occurrences = timeline(self._scenario.faults, self._draw)
        for occurrence in occurrences:
            clock.call_later(occurrence.at, partial(self._do, occurrence))
        self._upstream.talk()
        for client in self._clients:
            client.talk(self._scenario.clients.lasts)
        ends = (occurrence.at + (occurrence.lasts or 0.0) for occurrence in occurrences)
        clock.advance(max([self._scenario.clients.lasts, *ends]) + STEP_SECONDS)
        self._upstream.quiet()
        self._settle()
        seconds = clock.time() - start
        for client in self._clients:
            client.leave()
        clock.advance(self._scenario.settle)
        self._measure(start, seconds)
        return start, seconds

    def _settle(self) -> None:
        """Wait until everything has arrived, or nothing new has for as long as the scenario allows."""
        latest, changed = self.recorder.progress, self.clock.time()
        while not self.recorder.complete and self.clock.time() - changed < self._scenario.settle:
            self.clock.advance(STEP_SECONDS)
            if self.recorder.progress != latest:
                latest, changed = self.recorder.progress, self.clock.time()
        self.clock.advance(LINGER_SECONDS)

    def _measure(self, start: float, seconds: float) -> None:
        """Record how many sessions are left after all clients have left."""
        self.recorder.history.footprints += [
            Footprint(start, "before", 0, 0, 0, 0, 0),
            Footprint(start + seconds, "after", 0, 0, 0, 0, self._proxy.sessions),
        ]

    def _do(self, occurrence: Occurrence) -> None:
        """Begin a fault, and schedule its end."""
        asked = self.clock.time()
        name, target = occurrence.fault.name, occurrence.fault.target
        end: Callable[[], None]
        if name == "kill":
            self._upstream.kill(self._draw)
            end = self._upstream.restart
        elif name == "stop":
            self._upstream.stop()
            end = self._upstream.cont
        else:
            link = self._links[target]
            link.begin(occurrence)
            end = partial(link.end, occurrence)

        def cleared() -> None:
            end()
            self.recorder.history.faults.append(FaultRecord(name, target, asked, asked, self.clock.time()))

        if occurrence.lasts is None:
            cleared()
        else:
            self.clock.call_later(occurrence.lasts, cleared)
