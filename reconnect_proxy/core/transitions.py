"""The one way in which a state machine of the core moves on: along its table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import TypeVar

S = TypeVar("S", bound=Enum)

#: For each state, those that may follow it.
Transitions = Mapping[S, Collection[S]]


class IllegalTransition(Exception):
    """A state machine was to enter a state that its table does not allow: a fault of this program."""


def follow(table: Transitions[S], present: S, following: S) -> S:
    """Return the state `following`. Raises IllegalTransition if it may not follow the `present` one."""
    if following not in table[present]:
        raise IllegalTransition(f"{type(present).__name__} cannot go from {present.name} to {following.name}")
    return following
