"""Which profiles a scenario fits, by what it requires, and by what it says."""

from __future__ import annotations

from typing import Any

import pytest

from reconnect_harness.profile import Profile
from reconnect_harness.scenario.find import load_scenario, parse_scenario, shipped_scenarios
from reconnect_harness.scenario.fit import least_profile, misfit, profiles_of
from reconnect_harness.scenario.model import Scenario, ScenarioError

DOWN = {"at": "1s", "link": "upstream", "do": "down", "for": "400ms"}
GONE = {"at": "1s", "link": "client", "do": "reset"}
SLOW = {"at": "1s", "link": "upstream", "do": "latency", "for": "1s", "latency": "50ms"}

PLAIN = {"kind": "plain", "send": "9/s", "for": "2s"}
RETURNING = {**PLAIN, "kind": "reconnecting"}
AWARE = {**PLAIN, "kind": "aware"}
PUSH = {"kind": "push", "push": "9/s"}
CLOSES = {**PUSH, "rude": {"close": [1000, 1012]}}


def _scenario(
    clients: dict[str, Any], upstream: dict[str, Any], expect: dict[str, Any], *faults: dict[str, Any], **more: Any
) -> Scenario:
    told = {"name": "mine", "summary": "It holds.", "clients": clients, "upstream": upstream, "expect": expect}
    return parse_scenario({**told, "faults": list(faults), **more}, "mine.yaml")


KEPT = {"client_disconnects": 0, "c2u": "report"}
COMPLETE = {"c2u": {"lost": 0}}
ONCE = {"c2u": {"lost": 0, "duplicated": 0}}


@pytest.mark.parametrize(
    ("chosen", "least"),
    [
        (_scenario(PLAIN, PUSH, {"lost": 0, "duplicated": 0, "client_disconnects": 0}), Profile.TRANSPARENT),
        (_scenario(PLAIN, PUSH, {"lost": 0, "duplicated": 0, "client_disconnects": 0}, SLOW), Profile.TRANSPARENT),
        (_scenario(RETURNING, PUSH, {"duplicated": 0}, DOWN, GONE), Profile.TRANSPARENT),
        (_scenario(AWARE, {"kind": "aware"}, {"lost": 0, "duplicated": 0}, SLOW), Profile.TRANSPARENT),
        (_scenario(AWARE, {"kind": "aware"}, {"lost": 0, "duplicated": 0}, DOWN), Profile.EXACTLY_ONCE),
        (_scenario(AWARE, {"kind": "aware"}, {"lost": 0, "duplicated": 0}, GONE), Profile.EXACTLY_ONCE),
        (_scenario(PLAIN, CLOSES, {"passed_on": [1000, 1012]}), Profile.TRANSPARENT),
        (_scenario(PLAIN, CLOSES, {"client_close": [1000, 1012]}), Profile.TRANSPARENT),
        (_scenario(PLAIN, CLOSES, {"passed_on": [1000]}), Profile.RECONNECTING),
        (_scenario(PLAIN, PUSH, KEPT, DOWN), Profile.RECONNECTING),
        (_scenario(AWARE, PUSH, KEPT, DOWN), Profile.RECONNECTING),
        (_scenario(RETURNING, PUSH, KEPT, {**DOWN, "link": "client"}), Profile.TRANSPARENT),
        (_scenario(PLAIN, {**PUSH, "late": "1s"}, KEPT), Profile.RECONNECTING),
        (_scenario(PLAIN, PUSH, COMPLETE, DOWN), Profile.AT_LEAST_ONCE),
        (_scenario(PLAIN, {**PUSH, "rude": {"reject_again": [401]}}, COMPLETE, DOWN), Profile.EXACTLY_ONCE),
        (_scenario(PLAIN, {"kind": "aware"}, ONCE, DOWN), Profile.EXACTLY_ONCE),
        (_scenario(RETURNING, PUSH, {"u2c": {"lost": 0}}, GONE), Profile.EXACTLY_ONCE),
        (_scenario(PLAIN, PUSH, {"client_close": 1014}, DOWN), Profile.EXACTLY_ONCE),
        (_scenario(PLAIN, PUSH, {"lost": 0}, proxy={"mode": "receiver"}), Profile.EXACTLY_ONCE),
        (_scenario(PLAIN, PUSH, {"lost": 0}, chain=[{}, {}]), Profile.EXACTLY_ONCE),
    ],
)
def test_the_least_profile_follows_from_what_is_expected(chosen: Scenario, least: Profile) -> None:
    """The same faults need more where more must hold, or the ends do not know the protocol."""
    assert least_profile(chosen)[0] is least
    assert profiles_of(chosen) == [profile for profile in Profile if profile.claims(least)]


def test_a_scenario_may_name_its_profiles() -> None:
    """Then they hold, and nothing is derived."""
    chosen = _scenario(PLAIN, PUSH, {"lost": 0}, profiles=["transparent"])
    assert misfit(chosen, Profile.TRANSPARENT) is None
    assert misfit(chosen, Profile.EXACTLY_ONCE) == (
        "it is for a system that is transparent, not for one that is exactly-once"
    )


def test_a_profile_that_does_not_exist_is_refused() -> None:
    """With those that do."""
    with pytest.raises(ScenarioError, match=r"mine.yaml: profiles.0: there is no profile 'transparant'; did you mean"):
        _scenario(PLAIN, PUSH, {"lost": 0}, profiles=["transparant"])


def test_a_scenario_that_asks_for_more_says_what() -> None:
    """And from which profile on it is claimed."""
    chosen = load_scenario(shipped_scenarios()["upstream-flap-plain"])
    assert misfit(chosen, Profile.TRANSPARENT) == (
        "what clients send has to arrive though their upstream is lost, which a system claims that is at-least-once, "
        "but not one that is transparent"
    )
    assert misfit(chosen, Profile.AT_LEAST_ONCE) is None


def test_everything_fits_where_nothing_is_claimed() -> None:
    """A command of the user's own is judged by every scenario, as before there were profiles."""
    assert [path for path in shipped_scenarios().values() if misfit(load_scenario(path), None)] == []


def test_each_profile_has_scenarios() -> None:
    """And a scenario in which a transparent system cannot be right is none of its own."""
    fitting = {
        profile: {name for name, path in shipped_scenarios().items() if not misfit(load_scenario(path), profile)}
        for profile in Profile
    }
    assert {"steady", "message-shapes", "steady-echo"} <= fitting[Profile.TRANSPARENT]
    assert not {"upstream-close-codes", "upstream-flap-plain", "upstream-half-dead"} & fitting[Profile.TRANSPARENT]
    assert fitting[Profile.RECONNECTING] < fitting[Profile.AT_LEAST_ONCE] < fitting[Profile.EXACTLY_ONCE]
