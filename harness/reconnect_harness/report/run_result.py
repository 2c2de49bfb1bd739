"""The result of one run of a scenario, be it real (`run.runner`) or simulated (`simulate.simulation`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reconnect_harness.checks.judgement import Judgement
from reconnect_harness.history.history import History
from reconnect_harness.scenario.model import Scenario


@dataclass(slots=True)
class RunResult:
    """A run that has ended."""

    scenario: Scenario
    seed: int
    #: The system under test, and the Toxiproxy, in a line each; None where no link was led through one.
    system: str
    toxiproxy: str | None
    #: Where its files are.
    folder: Path
    history: History
    judgement: Judgement
    #: How long there was traffic.
    seconds: float
