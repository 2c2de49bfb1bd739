"""A snapshot of a container that the run did not start, and how the container is restored: running, on its networks.

A snapshot is JSON, because the keeper gets it too: it restores what a run that was killed could not.
"""

from __future__ import annotations

from typing import Any


def take_snapshot(handle: Any) -> dict[str, Any]:
    """Return the state of a running container that faults may change; `handle` is the docker SDK's container."""
    return {
        "id": handle.id,
        "paused": handle.attrs["State"]["Paused"],
        "networks": {name: endpoint(was, handle) for name, was in handle.attrs["NetworkSettings"]["Networks"].items()},
    }


def endpoint(was: dict[str, Any], handle: Any) -> dict[str, Any]:
    """Return the arguments to connect a container to a network as it `was`: the engine would lose its names there."""
    aliases = [alias for alias in was.get("Aliases") or [] if not handle.id.startswith(alias)]
    fixed = (was.get("IPAMConfig") or {}).get("IPv4Address")
    return {"aliases": aliases or None, "links": was.get("Links"), "ipv4_address": fixed}


def restore(client: Any, snapshot: dict[str, Any]) -> None:
    """Bring a container back to the state of its snapshot.

    Raises:
        DockerException: the engine refuses, or the container does not exist any more.

    """
    handle = client.containers.get(snapshot["id"])
    state = handle.attrs["State"]
    if state["Paused"] and not snapshot["paused"]:
        handle.unpause()
    on, was = handle.attrs["NetworkSettings"]["Networks"], snapshot["networks"]
    for name in on.keys() - was.keys():
        client.networks.get(name).disconnect(handle)
    for name in was.keys() - on.keys():
        client.networks.get(name).connect(handle, **was[name])
    if not state["Running"]:
        handle.start()
    if snapshot["paused"] and not state["Paused"]:
        handle.pause()
