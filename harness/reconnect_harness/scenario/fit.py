"""Which profiles a scenario fits: those that claim what it requires.

A scenario may name them (`profiles: [transparent]`). Otherwise `REQUIREMENTS` derives the least profile from what the
scenario expects, of which ends, during which faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from reconnect_harness.history.message import Direction
from reconnect_harness.peers.kinds import ClientKind, UpstreamKind
from reconnect_harness.profile import Profile
from reconnect_harness.scenario.model import Scenario

#: Faults after which a connection is lost, by the kind of their target.
_ENDING = {
    "link": ("down", "reset", "silence", "cut", "timeout", "reset_peer", "limit_data"),
    "process": ("kill", "terminate"),
    "container": ("kill", "stop", "restart", "disconnect"),
}

#: Clients that ask for sessions by their ids, or for those of others.
_CLAIMING = (
    ClientKind.HALF_OPEN,
    ClientKind.VANISHING,
    ClientKind.WRONG_IDS,
    ClientKind.ROBBED,
    ClientKind.STALE_COUNTS,
)


class Requirement(NamedTuple):
    """What some scenarios require: the least profile that claims it, the sentence, and whether a scenario does."""

    least: Profile
    why: str
    applies: Callable[[Scenario], bool]


def _cuts(chosen: Scenario, targets: Iterable[str]) -> bool:
    """Return whether a fault ends connections of one of these targets; upstream-2 is `upstream`."""
    return any(
        fault.name in _ENDING.get(fault.kind.target_kind.name, ()) and fault.target.partition("-")[0] in targets
        for fault in chosen.faults
    )


def _loses_upstream(chosen: Scenario) -> bool:
    """Return whether connections to the upstream are lost, or cannot be made at first."""
    rude = chosen.upstream.rude
    refuses = bool(rude.close or rude.reject or rude.reject_again or chosen.upstream.late)
    return refuses or _cuts(chosen, ("upstream", "middle"))


def _both_know_the_protocol(chosen: Scenario) -> bool:
    aware = chosen.upstream.kind in (UpstreamKind.AWARE, UpstreamKind.AWARE_ECHO)
    return aware and chosen.clients.kind is ClientKind.AWARE


def _bounds(chosen: Scenario, check: str, direction: Direction | None = None) -> bool:
    """Return whether a scenario bounds a check."""
    return any(
        expected.check == check and expected.direction is direction and (expected.bound is not None or expected.find)
        for expected in chosen.expect
    )


def _said(chosen: Scenario, check: str) -> str:
    """Return what a scenario says of a check of `checks.endings`; "" if it does not."""
    return next((expected.said for expected in chosen.expect if expected.check == check), "")


def _shares_or_chains(chosen: Scenario) -> bool:
    return bool(chosen.chain) or chosen.proxy.get("mode", "duplex") != "duplex"


def _gets_closes_of_the_proxy(chosen: Scenario) -> bool:
    """Return whether clients have to be closed by the proxy itself, rather than by their upstream."""
    return bool(_said(chosen, "client_close")) and not chosen.upstream.rude.close


def _outlives_clients(chosen: Scenario) -> bool:
    kept = _bounds(chosen, "upstream_connections") or _bounds(chosen, "lost", Direction.U2C)
    return kept and _cuts(chosen, ("client", "clients")) and not chosen.upstream.is_foreign


def _is_complete(chosen: Scenario) -> bool:
    """Return whether what clients send has to arrive though the upstream is lost."""
    complete = _bounds(chosen, "lost", Direction.C2U) and Direction.C2U in chosen.directions
    return complete and _loses_upstream(chosen)


def _keeps_clients(chosen: Scenario) -> bool:
    kept = _bounds(chosen, "client_disconnects")
    return kept and _loses_upstream(chosen)


def _hides_refusals(chosen: Scenario) -> bool:
    """Return whether some refusals and closes of the upstream must not reach clients."""
    rude = chosen.upstream.rude
    hidden = [code for code in rude.close if str(code) not in _said(chosen, "passed_on").split(" or ")]
    refused = [status for status in rude.reject if str(status) not in _said(chosen, "handshake")]
    return bool((hidden and _said(chosen, "passed_on")) or refused)


#: What scenarios require, the most first.
REQUIREMENTS = (
    Requirement(
        Profile.EXACTLY_ONCE,
        "its proxies share one session among clients, or speak the protocol to each other",
        _shares_or_chains,
    ),
    Requirement(
        Profile.EXACTLY_ONCE,
        "both ends resume their sessions through it, so that it has to pass the protocol on",
        lambda chosen: _both_know_the_protocol(chosen) and _cuts(chosen, ("client", "clients", "upstream")),
    ),
    Requirement(
        Profile.EXACTLY_ONCE,
        "one of several processes of the proxy is killed",
        lambda chosen: any(fault.name == "kill-worker" for fault in chosen.faults),
    ),
    Requirement(
        Profile.EXACTLY_ONCE,
        "its upstream knows sessions that come again by headers of the protocol",
        lambda chosen: bool(chosen.upstream.rude.reject_again),
    ),
    Requirement(
        Profile.EXACTLY_ONCE,
        "its clients ask for sessions by their ids",
        lambda chosen: chosen.clients.kind in _CLAIMING,
    ),
    Requirement(
        Profile.EXACTLY_ONCE,
        "its upstream sends a state with which it is to be reconnected",
        lambda chosen: chosen.upstream.kind is UpstreamKind.GATE,
    ),
    Requirement(Profile.EXACTLY_ONCE, "clients have to be closed as the protocol says", _gets_closes_of_the_proxy),
    Requirement(Profile.EXACTLY_ONCE, "sessions have to outlive the connections of their clients", _outlives_clients),
    Requirement(
        Profile.EXACTLY_ONCE,
        "what clients send has to arrive, and once, though their upstream is lost",
        lambda chosen: _is_complete(chosen) and _bounds(chosen, "duplicated", Direction.C2U),
    ),
    Requirement(Profile.AT_LEAST_ONCE, "what clients send has to arrive though their upstream is lost", _is_complete),
    Requirement(
        Profile.AT_LEAST_ONCE,
        "it measures what is repeated",
        lambda chosen: _bounds(chosen, "repeat_age") and _loses_upstream(chosen),
    ),
    Requirement(
        Profile.RECONNECTING, "clients have to keep their connections though their upstream is lost", _keeps_clients
    ),
    Requirement(
        Profile.RECONNECTING, "some refusals and closes of the upstream must not reach clients", _hides_refusals
    ),
)


def least_profile(chosen: Scenario) -> tuple[Profile, str]:
    """Return the least profile that claims what a scenario requires, and what that is."""
    for requirement in REQUIREMENTS:
        if requirement.applies(chosen):
            return requirement.least, requirement.why
    return Profile.TRANSPARENT, "it requires nothing more"


def profiles_of(chosen: Scenario) -> list[Profile]:
    """Return the profiles that a scenario fits."""
    least, _ = least_profile(chosen)
    return chosen.profiles or [profile for profile in Profile if profile.claims(least)]


def misfit(chosen: Scenario, profile: Profile | None) -> str | None:
    """Return why a scenario does not fit a profile; None if it does, or nothing is claimed."""
    if profile is None or profile in profiles_of(chosen):
        return None
    if chosen.profiles:
        return f"it is for a system that is {' or '.join(chosen.profiles)}, not for one that is {profile}"
    least, why = least_profile(chosen)
    return f"{why}, which a system claims that is {least}, but not one that is {profile}"
