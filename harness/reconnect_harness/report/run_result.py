"""The result of one run of a scenario, be it real (`run.runner`) or simulated (`simulate.simulation`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reconnect_harness.checks.judgement import Judgement
from reconnect_harness.history.history import History
from reconnect_harness.scenario.model import Scenario


@dataclass(slots=True)
class RunResult:
    """A run that has ended.

    Attributes:
        scenario: what was run.
        seed: what its random parts were drawn from.
        system: the system under test, in a line.
        toxiproxy: the Toxiproxy that its links were led through, in a line; None where none was needed.
        folder: where its files are.
        history: what was recorded.
        judgement: the verdict, and the checks behind it.
        seconds: how long there was traffic.

    """

    scenario: Scenario
    seed: int
    system: str
    toxiproxy: str | None
    folder: Path
    history: History
    judgement: Judgement
    seconds: float
