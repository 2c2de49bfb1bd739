"""The faults of containers. A new one is one entry in `CONTAINER_FAULTS`; `containers.container` has the calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from reconnect_harness.faults.fault import (
    Extent,
    FaultAction,
    FaultKind,
    FaultTarget,
    Occurrence,
    TargetKind,
    table,
)


class ContainerTarget(Protocol):
    """What the faults need of a container. Each call blocks until the engine has confirmed it."""

    def start(self) -> None:
        """Start it, and wait until it listens."""

    def kill(self) -> None:
        """Send it SIGKILL, and wait until it has ended."""

    def stop(self) -> None:
        """Tell it to end, and wait until it has ended."""

    def pause(self) -> None:
        """Freeze its processes."""

    def unpause(self) -> None:
        """Let its processes continue."""

    def disconnect(self, network: str | None) -> None:
        """Disconnect it from a network."""

    def connect(self, network: str | None) -> None:
        """Connect it to a network."""

    def restore(self) -> None:
        """Unpause it and connect it again, as it was before the faults."""

    def hurry(self) -> None:
        """Make `start` stop waiting. May be called from any thread."""


def _heal(target: FaultTarget[ContainerTarget]) -> None:
    """Restore a container; one that a fault without an end has ended stays ended."""
    target.handle.restore()
    target.holds.clear()


def _hurry(container: ContainerTarget) -> None:
    container.hurry()


CONTAINER = TargetKind("container", _heal, _hurry)


def _end_with(
    call: Callable[[ContainerTarget], None],
) -> Callable[[Occurrence, FaultTarget[ContainerTarget]], FaultAction]:
    """Return the effect of ending a container with `call`. Where it lasts the container is started again."""

    def effect(occurrence: Occurrence, target: FaultTarget[ContainerTarget]) -> FaultAction:
        def begin() -> None:
            call(target.handle)
            # A container that has ended is not paused any more.
            target.holds.pop("pause", None)

        return FaultAction(begin, None if occurrence.lasts is None else target.handle.start)

    return effect


def _kill(container: ContainerTarget) -> None:
    container.kill()


def _stop(container: ContainerTarget) -> None:
    container.stop()


def _pause(occurrence: Occurrence, target: FaultTarget[ContainerTarget]) -> FaultAction:
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


def _unpause(occurrence: Occurrence, target: FaultTarget[ContainerTarget]) -> FaultAction:
    def begin() -> None:
        target.handle.unpause()
        target.holds.pop("pause", None)

    return FaultAction(begin)


def _restart(occurrence: Occurrence, target: FaultTarget[ContainerTarget]) -> FaultAction:
    def begin() -> None:
        target.handle.stop()
        target.holds.pop("pause", None)

    return FaultAction(begin, target.handle.start)


def _disconnect(occurrence: Occurrence, target: FaultTarget[ContainerTarget]) -> FaultAction:
    container, network = target.handle, occurrence.fault.network
    end = None if occurrence.lasts is None else lambda: container.connect(network)
    return FaultAction(lambda: container.disconnect(network), end)


def _connect(occurrence: Occurrence, target: FaultTarget[ContainerTarget]) -> FaultAction:
    return FaultAction(lambda: target.handle.connect(occurrence.fault.network))


CONTAINER_FAULTS: Mapping[str, FaultKind] = table(
    FaultKind(
        "kill",
        CONTAINER,
        "SIGKILL. With `for` it is started again then, at the same address",
        _end_with(_kill),
        Extent.EITHER,
    ),
    FaultKind(
        "stop",
        CONTAINER,
        "as `docker stop`: SIGTERM (or the signal that its image asks for), and SIGKILL after ten seconds. With `for` "
        "it is started again then",
        _end_with(_stop),
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
