"""The faults of containers: what the engine does to them. See `containers.container` for the calls behind them.

| fault | what happens |
| --- | --- |
| kill | SIGKILL; where it lasts the container is started again |
| stop | the signal that its image asks for, or SIGTERM, and SIGKILL after ten seconds; where it lasts started again |
| pause | all its processes are frozen; where it lasts they go on |
| unpause | they go on |
| restart | stop, and start at once |
| disconnect | taken off a network; where it lasts put on it again |
| connect | put on a network |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from reconnect_harness.containers.container import Container
from reconnect_harness.faults.harm import Extent, FaultKind, Harm, Patient

if TYPE_CHECKING:
    from reconnect_harness.faults.fault import Occurrence


def _ended_by(act: Callable[[Container], None]) -> Callable[[Occurrence, Patient[Container]], Harm]:
    """Return the harm of ending a container by `act`. Where it lasts the container is started again."""

    def harm(occurrence: Occurrence, patient: Patient[Container]) -> Harm:
        def begin() -> None:
            act(patient.handle)
            # What is ended is not paused any more.
            patient.holds.pop("pause", None)

        return Harm(begin, None if occurrence.lasts is None else patient.handle.start)

    return harm


def _pause(occurrence: Occurrence, patient: Patient[Container]) -> Harm:
    def begin() -> None:
        if not patient.holds["pause"]:
            patient.handle.pause()
        patient.holds["pause"] += 1

    def end() -> None:
        if patient.holds["pause"] == 1:
            patient.handle.unpause()
        # A kill or an unpause meanwhile has ended all pauses.
        patient.holds["pause"] = max(0, patient.holds["pause"] - 1)

    return Harm(begin, None if occurrence.lasts is None else end)


def _unpause(occurrence: Occurrence, patient: Patient[Container]) -> Harm:
    def begin() -> None:
        patient.handle.unpause()
        patient.holds.pop("pause", None)

    return Harm(begin)


def _restart(occurrence: Occurrence, patient: Patient[Container]) -> Harm:
    def begin() -> None:
        patient.handle.stop()
        patient.holds.pop("pause", None)

    return Harm(begin, patient.handle.start)


def _disconnect(occurrence: Occurrence, patient: Patient[Container]) -> Harm:
    container, network = patient.handle, occurrence.fault.network
    end = None if occurrence.lasts is None else lambda: container.connect(network)
    return Harm(lambda: container.disconnect(network), end)


def _connect(occurrence: Occurrence, patient: Patient[Container]) -> Harm:
    return Harm(lambda: patient.handle.connect(occurrence.fault.network))


CONTAINER_FAULTS: Mapping[str, FaultKind] = {
    "kill": FaultKind("container", _ended_by(Container.kill), Extent.EITHER),
    "stop": FaultKind("container", _ended_by(Container.stop), Extent.EITHER),
    "pause": FaultKind("container", _pause, Extent.EITHER),
    "unpause": FaultKind("container", _unpause, Extent.MOMENT),
    "restart": FaultKind("container", _restart, Extent.MOMENT),
    "disconnect": FaultKind("container", _disconnect, Extent.EITHER),
    "connect": FaultKind("container", _connect, Extent.MOMENT),
}
"""Every fault of containers by name. Some of the names are those of faults of processes too."""


def heal_container(patient: Patient[Container]) -> None:
    """Put a container back as it was found, but for the end that a fault without an end has given it."""
    patient.handle.put_back()
    patient.holds.clear()
