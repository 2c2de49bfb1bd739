"""What is to be done in a soak: for how long, with whom, and against which system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.sut.base import GivenUrl, SystemUnderTest
from reconnect_harness.sut.choose import system_under_test

#: What the proxy is told beyond its defaults: a silent link is to be found out within the spell, or nearly; and a guest
#: that leaves in good order is not awaited.
OPTIONS = {"ping_interval": "2s", "ping_timeout": "3s", "connect_timeout": "3s", "grace_on": "abnormal"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    For how many seconds, with how many guests at a time; what is drawn from which seed; against which system, as
    `sut.base` reads it, and with which options where it is this project's proxy.
    """

    seconds: float
    guests: int
    seed: int
    system: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def scenario(self) -> Scenario:
        """A scenario with the options of the proxy: it is in these terms that systems under test are started."""
        given = {
            "name": "soak",
            "summary": "A soak.",
            "proxy": {**OPTIONS, **self.options},
            "upstream": {"kind": "aware"},
            "clients": {"kind": "plain", "send": "1/s", "for": "1s"},
            "expect": {"lost": 0},
        }
        return parse_scenario(given, "soak")


def check(plan: Plan) -> SystemUnderTest:
    """Return the system under test of a plan.

    Raises:
        ScenarioError: there is none, or none that has a process of ours to look at.

    """
    system = system_under_test(plan.system)
    if isinstance(system, GivenUrl) or plan.system == "direct":
        raise ScenarioError(
            f"--sut {plan.system}: a soak looks at the memory and the descriptors of a process, and here is none. "
            "Give the command that starts it, with {listen} and {upstream}"
        )
    system.check(plan.scenario)
    return system
