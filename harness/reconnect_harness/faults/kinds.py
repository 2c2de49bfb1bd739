"""All faults: the tables of the kinds of targets together."""

from __future__ import annotations

from collections.abc import Mapping

from reconnect_harness.faults.command_faults import COMMAND, COMMAND_FAULTS
from reconnect_harness.faults.container_faults import CONTAINER, CONTAINER_FAULTS
from reconnect_harness.faults.fault import FaultKind
from reconnect_harness.faults.link_faults import LINK, LINK_FAULTS
from reconnect_harness.faults.process_faults import PROCESS, PROCESS_FAULTS

#: The faults by the name of the kind of their target, and by their own name.
FAULT_KINDS: Mapping[str, Mapping[str, FaultKind]] = {
    LINK.name: LINK_FAULTS,
    PROCESS.name: PROCESS_FAULTS,
    CONTAINER.name: CONTAINER_FAULTS,
    COMMAND.name: COMMAND_FAULTS,
}
