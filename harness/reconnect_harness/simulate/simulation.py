"""A scenario without sockets, processes or waiting: the core of this proxy over a simulated network, in virtual time.

    SimulatedClient == client link ==> SimulatedProxy (reconnect_proxy.core) == upstream link ==> SimulatedUpstream

What comes out is a `RunResult` like that of `run.runner`: the same history, judged by the same checkers. A timeline of
seconds takes milliseconds, and the same scenario and seed give the same run. This and the
`simulated_*` modules use more of the proxy than its public names, on purpose: they test `reconnect_proxy.core`, and
nothing of `net`.

It knows one proxy of any mode whose clients have sessions of their own (`KINDS`), one upstream, and the faults of
`LINK_FAULTS` and `PROCESS_FAULTS`; `check` says so where a scenario has others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from reconnect_harness.checks.checkers import judge
from reconnect_harness.faults.fault import Occurrence, timeline
from reconnect_harness.history.record import End as Side
from reconnect_harness.history.record import FaultRecord, Footprint
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.simulate.network import LINK_FAULTS, SimulatedLink, VirtualClock
from reconnect_harness.simulate.peers import OPEN_SECONDS, Ledger, SimulatedClient
from reconnect_harness.simulate.proxy import SimulatedDialler, SimulatedProxy
from reconnect_harness.simulate.upstream import SimulatedUpstream
from reconnect_proxy import Config
from reconnect_proxy.config.session_policy import policy_of
from reconnect_proxy.core.policy import GateKind, Mode, Policy

#: The kinds of client and of upstream that there are in a simulation.
KINDS = {"clients": ("plain", "reconnecting", "aware"), "upstream": ("record", "push", "aware")}

#: What can be done to the simulated upstream.
PROCESS_FAULTS = ("kill", "stop")

#: How far time is advanced at once, and how long the run goes on when everything has arrived, in seconds.
STEP_SECONDS = 0.1
LINGER_SECONDS = 0.3

#: What a run says of the system that it has tested.
SYSTEM = "reconnect_proxy.core, simulated"


def check(scenario: Scenario) -> None:
    """Say whether a scenario can be simulated.

    Raises:
        ScenarioError: it has something that there is not in a simulation.

    """
    for found, known, what in (
        (str(scenario.clients.kind), KINDS["clients"], "clients"),
        (str(scenario.upstream.kind), KINDS["upstream"], "upstream"),
        *((fault.name, (*LINK_FAULTS, *PROCESS_FAULTS), "fault") for fault in scenario.faults),
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
    """Run a scenario in virtual time and judge it. `folder` is where its files would lie; nothing is written.

    Raises:
        ScenarioError: it cannot be simulated.

    """
    check(scenario)
    with _seeded(seed):
        simulation = _Simulation(scenario, seed)
        try:
            start, seconds = simulation.run()
        except Exception as crash:  # noqa: BLE001  # whatever it is
            # The core has raised it, and that is a finding. What was recorded until then says how it came about.
            start, seconds = 0.0, simulation.clock.time()
            simulation.ledger.link(Side.UPSTREAM, "core", "breach", False, reason=f"it raised {crash!r}")
    history = simulation.ledger.history
    history.start = start
    judgement = judge(history, scenario.expect, scenario.directions)
    return RunResult(scenario, seed, SYSTEM, None, folder, history, judgement, seconds)


def _is_shared(scenario: Scenario) -> bool:
    """Return whether the clients of a receiver name no sessions of their own."""
    return scenario.shared or (_policy(scenario).mode is Mode.RECEIVER and scenario.clients.kind != "reconnecting")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Have the module `random`, from which the core draws its waits, begin at a seed; afterwards it is as before."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _policy(scenario: Scenario) -> Policy:
    """Return the policy that the options of a scenario's proxy ask for."""
    return policy_of(Config(upstream="ws://127.0.0.1:1", **scenario.proxies[0]))


class _Simulation:
    """Everything of one simulated run."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.clock = VirtualClock()
        self.ledger = Ledger(self.clock)
        self._scenario = scenario
        self._draw = random.Random(seed)
        self._links = {name: SimulatedLink(name, self.clock, self._draw) for name in scenario.link_names}
        self._upstream = SimulatedUpstream(scenario, self.clock, self.ledger, seed)
        dial = partial(SimulatedDialler, self._links["upstream"], self._upstream)
        self._proxy = SimulatedProxy(_policy(scenario), self.clock, dial)
        count = scenario.clients.count
        names = [f"c{index:0{max(2, len(str(count)))}d}" for index in range(1, count + 1)]
        link = self._links["client"]
        self._clients = [SimulatedClient(name, scenario, link, self._proxy.accept, self.ledger, seed) for name in names]

    def run(self) -> tuple[float, float]:
        """Run it all; return when the traffic began, and how many seconds there was some."""
        clock = self.clock
        for client in self._clients:
            client.dial()
        while not all(client.tried for client in self._clients) and clock.time() < OPEN_SECONDS + 1:
            clock.advance(STEP_SECONDS)
        start = clock.time()
        occurrences = timeline(self._scenario.faults, self._draw)
        for occurrence in occurrences:
            clock.call_later(occurrence.at, partial(self._suffer, occurrence))
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
        latest, changed = self.ledger.progress, self.clock.time()
        while not self.ledger.complete and self.clock.time() - changed < self._scenario.settle:
            self.clock.advance(STEP_SECONDS)
            if self.ledger.progress != latest:
                latest, changed = self.ledger.progress, self.clock.time()
        self.clock.advance(LINGER_SECONDS)

    def _measure(self, start: float, seconds: float) -> None:
        """Say what is left of the sessions when all clients are gone."""
        self.ledger.history.footprints += [
            Footprint(start, "before", 0, 0, 0, 0, 0),
            Footprint(start + seconds, "after", 0, 0, 0, 0, self._proxy.sessions),
        ]

    def _suffer(self, occurrence: Occurrence) -> None:
        """Do a fault, and have it end in time."""
        asked = self.clock.time()
        do, target = occurrence.fault.name, occurrence.fault.target
        end: Callable[[], None]
        if do == "kill":
            self._upstream.kill(self._draw)
            end = self._upstream.restart
        elif do == "stop":
            self._upstream.stop()
            end = self._upstream.cont
        else:
            link = self._links[target]
            link.begin(occurrence)
            end = partial(link.end, occurrence)

        def cleared() -> None:
            end()
            self.ledger.history.faults.append(FaultRecord(do, target, asked, asked, self.clock.time()))

        if occurrence.lasts is None:
            cleared()
        else:
            self.clock.call_later(occurrence.lasts, cleared)
