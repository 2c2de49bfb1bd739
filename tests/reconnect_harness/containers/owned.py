"""The containers of one process. Other tests may have containers at the same time."""

from __future__ import annotations

from typing import Any

from reconnect_harness.containers.engine import OWNER_LABEL, Engine


def owned_by(engine: Engine, pid: int, image: str | None = None) -> list[Any]:
    """Return the containers that the process `pid` has made, of one image or of any."""
    filters = {"label": OWNER_LABEL} | ({} if image is None else {"ancestor": image})
    there = engine._client.containers.list(all=True, filters=filters, ignore_removed=True)
    return [container for container in there if container.labels[OWNER_LABEL].split()[-2] == str(pid)]
