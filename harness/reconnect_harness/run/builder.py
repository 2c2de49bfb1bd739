"""Starts the parts of a topology one after the other, and stops them in the opposite order on every path.

Scenarios and load runs (`run.scenario_topology`), the soak, the benchmark and the pytest fixtures build with it.

    builder = TopologyBuilder(folder, seed=1)
    async with builder:
        port = builder.reserve_port()
        server = await builder.role("upstream", launch)
        address = builder.link(toxiproxy, "upstream", f"127.0.0.1:{port}")
        url = await builder.system(system, [address], scenario)
        …
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

from reconnect_harness.processes.certificates import Encryption
from reconnect_harness.processes.child import ANSWER_SECONDS, Actor, Child, Warden
from reconnect_harness.run.restartable import Role
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.sut.base import SutSetup, SystemUnderTest, free_port, until_listening
from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.server import ToxiproxyServer, reserve_port

T = TypeVar("T")


class TopologyBuilder:
    """Starts parts, and stops those that it has started when it is left: an asynchronous context manager.

    Args:
        folder: where the parts leave their logs and records.

    Attributes:
        exits: stops the parts. What else has to be undone can be added.
        warden: ends the processes if this process dies.
        links: the links that were made, by name.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.exits = AsyncExitStack()
        self.warden = Warden()
        self.links: dict[str, ToxiproxyLink] = {}

    async def __aenter__(self) -> Self:
        self.exits.enter_context(self.warden)
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self.exits.__aexit__(*exception)

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enter a context, which is left in its turn."""
        return self.exits.enter_context(context)

    def reserve_port(self) -> int:
        """Return a loopback port that stays reserved to the end; the parts may listen there."""
        port: int = self.enter(reserve_port()).getsockname()[1]
        return port

    async def launch(
        self, name: str, module: str, spec: Mapping[str, Any], *, within: float = ANSWER_SECONDS
    ) -> tuple[Actor, dict[str, Any]]:
        """Start a program of the harness, and return it with what it says when it is ready. The caller stops it.

        Args:
            name: what the process, and its log, is called.
            module: the module to run, from `reconnect_harness.` on.
            spec: what it is told.
            within: seconds that it may take.

        Raises:
            ProcessFailed: it did not start.

        """
        log = self.folder / f"{name}.log"
        actor = await Actor.launch(f"the {name} process", f"reconnect_harness.{module}", spec, log, self.warden)
        try:
            return actor, await actor.hear(within)
        except BaseException:
            await actor.stop()
            raise

    async def actor(self, name: str, module: str, spec: Mapping[str, Any]) -> tuple[Actor, dict[str, Any]]:
        """Start a program of the harness as `launch` does, and stop it in its turn."""
        actor, ready = await self.launch(name, module, spec)
        self.exits.push_async_callback(actor.stop)
        return actor, ready

    async def role(self, launch: Callable[[], Awaitable[Child]]) -> Role:
        """Start a process that faults may end and start again; `launch` starts one, and returns it when it is ready."""
        role = await Role.start(launch)
        self.exits.push_async_callback(role.stop)
        return role

    async def program(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> tuple[Role, str]:
        """Start a server of the user's own that faults may end and start again; return it, and its HOST:PORT.

        `{port}` in the command and the variables stands for its port, which is also the variable PORT. Programs of this
        Python's environment are found first.

        Raises:
            ProcessFailed: it does not listen at its port within `sut.base.START_SECONDS`.

        """
        # Not reserved: not every program sets SO_REUSEADDR.
        port = str(free_port())
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        told = {key: text.replace("{port}", port) for key, text in env.items()}
        environ = {**os.environ, "PATH": path, "PORT": port, **told}
        line = [word.replace("{port}", port) for word in command]

        async def launch() -> Child:
            log = self.folder / f"{name}.log"
            child = await Child.start(f"the program {name}", line, log, self.warden, environ=environ)
            try:
                await until_listening(child, f"127.0.0.1:{port}")
            except BaseException:
                await child.stop()
                raise
            return child

        return await self.role(launch), f"127.0.0.1:{port}"

    def link(self, toxiproxy: ToxiproxyServer, name: str, target: str, *, resets: bool) -> str:
        """Lead a link to `target`, HOST:PORT, through Toxiproxy; return where to connect instead.

        Raises:
            ToxiproxyError: it cannot be made.

        """
        self.links[name] = self.enter(ToxiproxyLink(toxiproxy, name, target, resets=resets))
        return self.links[name].listen

    async def system(
        self,
        system: SystemUnderTest,
        upstreams: list[str],
        scenario: Scenario,
        folder: Path | None = None,
        tls: Encryption | None = None,
    ) -> str:
        """Start a system under test in front of `upstreams`, HOST:PORT each; return the URL for its clients.

        Raises:
            ProcessFailed: it does not start to listen.

        """
        self.exits.push_async_callback(system.stop)
        return await system.start(upstreams, SutSetup(scenario, folder or self.folder, self.warden, tls))
