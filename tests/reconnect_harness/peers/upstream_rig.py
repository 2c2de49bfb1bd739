"""Mock upstreams as processes, for their tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from reconnect_harness.peers.workload import Workload
from reconnect_harness.processes.child import Actor, Warden

#: Starts an upstream of a kind that pushes so many messages a second, with further fields of its spec; returns it, and
#: its URL.
Start = Callable[..., Awaitable[tuple[Actor, str]]]


@asynccontextmanager
async def upstreams_in(folder: Path) -> AsyncIterator[Start]:
    """Yield a `Start`; everything that it starts is stopped at the end. The upstreams write to `folder`/history."""
    async with AsyncExitStack() as stack:
        warden = stack.enter_context(Warden())

        async def launch(kind: str = "record", rate: float = 0, **fields: Any) -> tuple[Actor, str]:
            spec = {
                "kind": kind,
                "name": "u1",
                "load": Workload(rate, 40, 400).to_spec(),
                "seed": "1",
                "history": str(folder / "history"),
                **fields,
            }
            actor = await Actor.launch(
                "the upstream", "reconnect_harness.peers.upstreams", spec, folder / "log", warden
            )
            stack.push_async_callback(actor.stop)
            return actor, f"ws://127.0.0.1:{(await actor.hear())['ready']}/"

        yield launch
