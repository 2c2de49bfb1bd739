"""What the core's state machines have in common: states, tables of transitions, and the error of leaving a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import TypeVar


class MachineState(Enum):
    """Base of the states of a machine. Members are hashed by identity: the hash of `Enum` is a call in Python."""

    __hash__ = object.__hash__


S = TypeVar("S", bound=MachineState)

#: For each state, those that may follow it.
Transitions = Mapping[S, Collection[S]]


class IllegalTransition(Exception):
    """A machine was to go from one state to another that its table does not allow: a fault of this program."""

    def __init__(self, present: MachineState, following: MachineState) -> None:
        super().__init__(f"{type(present).__name__} cannot go from {present.name} to {following.name}")
