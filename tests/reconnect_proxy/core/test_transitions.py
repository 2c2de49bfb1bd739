"""The tables of the core's state machines, and that a machine cannot leave its table."""

from __future__ import annotations

from typing import Any

import pytest

from reconnect_proxy.core import context, target, upstream_state
from reconnect_proxy.core.context import SessionState
from reconnect_proxy.core.target import DialSlot, SlotState, Target, UpstreamAddress
from reconnect_proxy.core.transitions import IllegalTransition, MachineState
from reconnect_proxy.core.upstream_state import UpstreamState

from .fakes import SessionRig, started

#: For each machine, its states, its table, the state in which it begins and that in which it ends.
MACHINES: dict[str, tuple[type[MachineState], Any, MachineState, MachineState]] = {
    "session": (SessionState, context._TRANSITIONS, SessionState.OPENING, SessionState.ENDED),
    "upstream": (UpstreamState, upstream_state.TRANSITIONS, UpstreamState.IDLE, UpstreamState.TERMINATED),
    "slot": (SlotState, target._SLOT_TRANSITIONS, SlotState.WAITING, SlotState.OVER),
}


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_can_be_reached_and_all_but_the_last_can_be_left(name: str) -> None:
    """From the first state on; no state is missing in the table."""
    states, table, first, last = MACHINES[name]
    assert set(table) == set(states)
    assert not table[last]
    reached, ahead = {first}, [first]
    while ahead:
        new = set(table[ahead.pop()]) - reached
        reached |= new
        ahead += new
    assert reached == set(states)
    assert all(
        last in table[state] or any(last in table[next_] for next_ in table[state]) for state in set(table) - {last}
    )


def test_a_session_cannot_open_twice() -> None:
    """The error names the machine and both states."""
    rig, *_ = started()
    with pytest.raises(IllegalTransition, match="SessionState cannot go from OPEN to OPEN"):
        rig.context._enter(SessionState.OPEN)


def test_an_upstream_that_is_terminated_stays_so() -> None:
    """It cannot even be dialled."""
    rig = SessionRig()
    rig.context.upstream.terminate(1000, "")
    with pytest.raises(IllegalTransition, match="UpstreamState cannot go from TERMINATED to QUEUED"):
        rig.context.upstream.open()


def test_the_outcome_of_a_dial_is_reported_once() -> None:
    """A slot that is over has had its turn."""
    slot = DialSlot(Target(UpstreamAddress("ws://one")), SessionRig().context.upstream)
    for state in (SlotState.DIALLING, SlotState.OVER):
        slot.enter(state, 1.0)
    with pytest.raises(IllegalTransition, match="SlotState cannot go from OVER to CONNECTED"):
        slot.enter(SlotState.CONNECTED, 2.0)
