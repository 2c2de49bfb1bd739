"""The kinds of peers: each name has its class, and scenarios need only the names."""

from __future__ import annotations

import subprocess
import sys

from reconnect_harness.peers import clients, upstreams
from reconnect_harness.peers.contenders import AbsentClient
from reconnect_harness.peers.kinds import ABSENT_CLIENTS, MISBEHAVIOURS, ClientKind, UpstreamKind
from reconnect_harness.peers.misbehaviour import Misbehaviour


def test_every_kind_has_a_class() -> None:
    """A scenario that is accepted can be run."""
    assert set(clients.KINDS) == set(ClientKind)
    assert set(upstreams.KINDS) == set(UpstreamKind)


def test_the_absent_kinds_are_those_whose_class_takes_an_absence() -> None:
    """The names and the classes agree."""
    assert {kind for kind, made in clients.KINDS.items() if issubclass(made, AbsentClient)} == set(ABSENT_CLIENTS)


def test_every_misbehaviour_is_a_field() -> None:
    """The names and the dataclass agree; `after` is when they happen."""
    assert {*MISBEHAVIOURS, "after"} == set(Misbehaviour.__dataclass_fields__)


def test_reading_a_scenario_imports_no_peer_and_no_implementation_of_a_fault() -> None:
    """Kinds are data: neither clients and upstreams, nor Toxiproxy and container engines, are loaded."""
    program = """
import sys
from reconnect_harness.scenario.find import load_scenario, shipped_scenarios
load_scenario(shipped_scenarios()["random-cuts"])
print(*(name.removeprefix("reconnect_harness.") for name in sys.modules if name.startswith("reconnect_harness.")))
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    loaded = [name for name in done.stdout.split() if name.startswith(("peers.", "toxiproxy.", "containers."))]
    assert sorted(loaded) == ["containers.spec", "peers.kinds", "peers.workload", "toxiproxy.toxics"]
    assert "faults.nemesis" not in done.stdout.split()
