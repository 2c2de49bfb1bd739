"""The faults of containers. A new one is one entry in `CONTAINER_FAULTS`; `containers.container` has the calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from reconnect_harness.faults.fault import (
    Extent,
    FaultAction,
    FaultKind,
    FaultTarget,
    Occurrence,
    TargetKind,
    table,
)

if TYPE_CHECKING:
    from reconnect_harness.containers.container import Container


def _heal(target: FaultTarget[Container]) -> None:
    """Restore a container; one that a fault without an end has ended stays ended."""
    target.handle.restore()
    target.holds.clear()


CONTAINER = TargetKind("container", _heal, hurry=lambda container: container.hurry())


def _end_with(call: Callable[[Container], None]) -> Callable[[Occurrence, FaultTarget[Container]], FaultAction]:
    """Return the effect of ending a container with `call`. Where it lasts the container is started again."""

    def effect(occurrence: Occurrence, target: FaultTarget[Container]) -> FaultAction:
        def begin() -> None:
            call(target.handle)
            # A container that has ended is not paused any more.
            target.holds.pop("pause", None)

        return FaultAction(begin, None if occurrence.lasts is None else target.handle.start)

    return effect


def _pause(occurrence: Occurrence, target: FaultTarget[Container]) -> FaultAction:
    def begin() -> None:
        if not target.holds["pause"]:
            target.handle.pause()
        target.holds["pause"] += 1

    def end() -> None:
        if target.holds["pause"] == 1:
            target.handle.unpause()
        # A kill or an unpause in between has ended all pauses.
        target.holds["pause"] = max(0, target.holds["pause"] - 1)

    return FaultAction(begin, None if occurrence.lasts is None else end)


def _unpause(occurrence: Occurrence, target: FaultTarget[Container]) -> FaultAction:
    def begin() -> None:
        target.handle.unpause()
        target.holds.pop("pause", None)

    return FaultAction(begin)


def _restart(occurrence: Occurrence, target: FaultTarget[Container]) -> FaultAction:
    def begin() -> None:
        target.handle.stop()
        target.holds.pop("pause", None)

    return FaultAction(begin, target.handle.start)


def _disconnect(occurrence: Occurrence, target: FaultTarget[Container]) -> FaultAction:
    container, network = target.handle, occurrence.fault.network
    end = None if occurrence.lasts is None else lambda: container.connect(network)
    return FaultAction(lambda: container.disconnect(network), end)


def _connect(occurrence: Occurrence, target: FaultTarget[Container]) -> FaultAction:
    return FaultAction(lambda: target.handle.connect(occurrence.fault.network))


CONTAINER_FAULTS: Mapping[str, FaultKind] = table(
    FaultKind(
        "kill",
        CONTAINER,
        "SIGKILL. With `for` it is started again then, at the same address",
        _end_with(lambda container: container.kill()),
        Extent.EITHER,
    ),
    FaultKind(
        "stop",
        CONTAINER,
        "as `docker stop`: SIGTERM (or the signal that its image asks for), and SIGKILL after ten seconds. With `for` "
        "it is started again then",
        _end_with(lambda container: container.stop()),
        Extent.EITHER,
    ),
    FaultKind("restart", CONTAINER, "`stop`, and started at once", _restart, Extent.MOMENT),
    FaultKind(
        "pause",
        CONTAINER,
        "all its processes are frozen, its sockets open and silent. With `for` they continue then",
        _pause,
        Extent.EITHER,
    ),
    FaultKind("unpause", CONTAINER, "its processes continue", _unpause, Extent.MOMENT),
    FaultKind(
        "disconnect",
        CONTAINER,
        "it is disconnected from `network`; from its only one, if that is not given. With `for` it is connected again "
        "then, with its names and its address",
        _disconnect,
        Extent.EITHER,
        takes_network=True,
    ),
    FaultKind(
        "connect",
        CONTAINER,
        "it is connected to `network`; to the one that it was disconnected from, if that is not given",
        _connect,
        Extent.MOMENT,
        takes_network=True,
    ),
)
"""Every fault of a container by name. Some names are those of faults of processes too."""
