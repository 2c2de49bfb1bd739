"""What a soak is to do: for how long, with how many clients, and against which system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconnect_harness.profile import Profile
from reconnect_harness.scenario.find import bare_scenario
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.sut.base import GivenUrl, SystemUnderTest
from reconnect_harness.sut.choose import system_under_test

#: Options of the proxy other than its defaults: a silent link is to be noticed within the phase of faults, or soon
#: after; and the session of a client that leaves in good order ends at once.
OPTIONS = {"ping_interval": "2s", "ping_timeout": "3s", "connect_timeout": "3s", "grace_on": "abnormal"}


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """What a soak is to do: for how many seconds there are faults and traffic, how many clients there are at a time."""

    seconds: float
    clients: int
    #: What faults and clients are drawn from.
    seed: int
    #: The system under test, as `sut.choose` reads it; None for this project's proxy, which has these further options.
    system: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    #: What the system under test claims; None for what is known of it.
    profile: Profile | None = None

    @property
    def judged_as(self) -> Profile:
        """What the system under test is judged by: everything, if it claims nothing."""
        return self.profile or system_under_test(self.system).profile or Profile.EXACTLY_ONCE

    @property
    def scenario(self) -> Scenario:
        """A scenario with the options of the proxy: systems under test are started with one."""
        return bare_scenario("soak", {**OPTIONS, **self.options})


def check(plan: SoakPlan) -> SystemUnderTest:
    """Return the system under test of a plan.

    Raises:
        ScenarioError: it does not exist, or has no process of ours that could be measured.

    """
    system = system_under_test(plan.system)
    if isinstance(system, GivenUrl) or plan.system == "direct":
        raise ScenarioError(
            f"--sut {plan.system}: a soak measures the memory and the descriptors of a process, and here is none. "
            "Give the command that starts it, with {listen} and {upstream}"
        )
    system.check(plan.scenario)
    return system
