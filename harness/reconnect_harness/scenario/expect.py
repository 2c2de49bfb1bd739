"""The `expect` of a scenario: bounds on checkers, for both directions or for one.

expect: {lost: 0, recovery_p99: 2s}                  # both directions
expect: {c2u: {lost: 0, reordered: 0}, u2c: report}  # u2c is reported only
expect: {client_close: 1014, leaks: 0}               # how links end (`checks.endings`)
"""

from __future__ import annotations

from typing import Any

from reconnect_harness.checks.checkers import RUN_CHECKERS, STREAM_CHECKERS
from reconnect_harness.checks.endings import ENDINGS, expectation
from reconnect_harness.checks.judgement import Expectation, is_size, is_timed
from reconnect_harness.history.message import Direction
from reconnect_harness.values import mapping, one_of, seconds, whole_number
from reconnect_proxy.units import parse_size

#: The value of a checker, or of a direction, that asserts nothing.
REPORT = "report"

_KEYS = [*STREAM_CHECKERS, *RUN_CHECKERS, *ENDINGS, *Direction]

#: Checkers of the run as a whole that must find nothing, unless the scenario says otherwise.
_ALWAYS_OF_RUN = ("breaches", "handshake_changes")

#: Checkers that must find nothing, unless the scenario says otherwise.
_ALWAYS = ("corrupted", "misdelivered", *_ALWAYS_OF_RUN)


def expectations(given: object) -> list[Expectation]:
    """Return the expectations of a scenario; ValueError says what is wrong with them.

    Messages must not be corrupted or misdelivered, nor the protocol be violated, unless the scenario allows it.
    """
    bounds: dict[tuple[str, Direction | None], float | None]
    bounds = {(check, way): 0.0 for check in _ALWAYS for way in ((None,) if check in _ALWAYS_OF_RUN else Direction)}
    endings = []
    said = mapping(given, f"such as {{lost: 0}}; it may bound {', '.join(_KEYS)}")
    for key, bound in said.items():
        if one_of("checker", key, _KEYS) in RUN_CHECKERS:
            bounds[key, None] = _bound(key, bound)
        elif key in ENDINGS:
            endings.append(expectation(key, bound))
        elif key in STREAM_CHECKERS:
            bounds |= {(key, direction): _bound(key, bound) for direction in Direction}
    # After the others: a bound for one direction takes precedence.
    for direction in Direction:
        for key, bound in _one_direction(said.get(direction, {}), direction).items():
            bounds[key, direction] = bound
    if not endings and not any(bound is not None for (check, _), bound in bounds.items() if check not in _ALWAYS):
        raise ValueError(f"nothing is asserted: bound at least one of {', '.join(_KEYS)}")
    return [Expectation(check, direction, bound) for (check, direction), bound in bounds.items()] + endings


def _one_direction(given: object, direction: Direction) -> dict[str, float | None]:
    if given == REPORT:
        return {check: None for check in STREAM_CHECKERS if check not in _ALWAYS}
    said = mapping(given, f"such as {{lost: 0}}, nor {REPORT}, as {direction} must be")
    return {one_of(f"checker of {direction}", key, STREAM_CHECKERS): _bound(key, bound) for key, bound in said.items()}


def _bound(key: str, given: Any) -> float | None:
    if given == REPORT:
        return None
    try:
        if is_size(key):
            return float(parse_size(given))
        return seconds(given) if is_timed(key) else float(whole_number(given))
    except ValueError as error:
        raise ValueError(f"{key}: {error}; or write {REPORT}") from None
