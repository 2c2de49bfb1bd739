"""A container of somebody else as it was found, and how it is put back: running, on the networks that it was on.

What is noted is JSON, since the keeper is told of it too, which puts back what a run that was killed could not.
"""

from __future__ import annotations

from typing import Any


def note(handle: Any) -> dict[str, Any]:
    """Return what there is to say of a container that runs; `handle` is what the docker SDK calls it."""
    return {
        "id": handle.id,
        "paused": handle.attrs["State"]["Paused"],
        "networks": {name: endpoint(was, handle) for name, was in handle.attrs["NetworkSettings"]["Networks"].items()},
    }


def endpoint(was: dict[str, Any], handle: Any) -> dict[str, Any]:
    """Return how a container is to be put on a network on which it `was`: the engine would forget its names there."""
    aliases = [alias for alias in was.get("Aliases") or [] if not handle.id.startswith(alias)]
    fixed = (was.get("IPAMConfig") or {}).get("IPv4Address")
    return {"aliases": aliases or None, "links": was.get("Links"), "ipv4_address": fixed}


def put_back(client: Any, noted: dict[str, Any]) -> None:
    """Make a container again what was noted of it.

    Raises:
        DockerException: the engine refuses, or there is no such container any more.

    """
    handle = client.containers.get(noted["id"])
    state = handle.attrs["State"]
    if state["Paused"] and not noted["paused"]:
        handle.unpause()
    on, was = handle.attrs["NetworkSettings"]["Networks"], noted["networks"]
    for name in on.keys() - was.keys():
        client.networks.get(name).disconnect(handle)
    for name in was.keys() - on.keys():
        client.networks.get(name).connect(handle, **was[name])
    if not state["Running"]:
        handle.start()
    if noted["paused"] and not state["Paused"]:
        handle.pause()
