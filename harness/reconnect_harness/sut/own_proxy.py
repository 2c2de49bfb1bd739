"""This project's proxy as a system under test: `reconnect-proxy serve`, with the options of a scenario as flags."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reconnect_harness.processes.certificates import Encryption
from reconnect_harness.processes.child import Child, Warden
from reconnect_harness.profile import Profile
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.sut.base import START_SECONDS, SutSetup, SystemUnderTest, poll_until, scheme


class OwnProxy(SystemUnderTest):
    """`reconnect-proxy serve`, on a port that it chooses and prints when it is ready."""

    profile = Profile.EXACTLY_ONCE

    _READY = re.compile(r"^listening on (wss?://\S+)", re.MULTILINE)
    _ADMIN = re.compile(r"admin listening url=(http://\S+)")

    def __init__(self, options: Sequence[str] = ()) -> None:
        """Prepare a proxy that gets these flags after those of a scenario."""
        self._options = options

    def describe(self) -> str:
        """Return its command, with the flags that every scenario gets."""
        return shlex.join(["reconnect-proxy", "serve", *self._options])

    def check(self, scenario: Scenario) -> None:
        """Accept every scenario."""

    async def start(self, upstreams: Sequence[str], setup: SutSetup) -> str:
        """Start it with the options of the scenario."""
        return await self.launch(upstreams, setup.scenario.proxy, setup.folder, setup.warden, setup.tls)

    async def launch(
        self,
        upstreams: Sequence[str],
        options: Mapping[str, Any],
        folder: Path,
        warden: Warden,
        tls: Encryption | None = None,
    ) -> str:
        """Start it with these options; return its URL."""
        log = folder / "sut.log"
        command = [sys.executable, "-P", "-m", "reconnect_proxy.cli", "serve", "--listen", "127.0.0.1:0"]
        command += ["--admin", "127.0.0.1:0"]
        for upstream in upstreams:
            command += ["--upstream", f"{scheme(tls is not None and tls.upstream)}://{upstream}"]
        command += flags(options)
        if tls is not None and tls.client:
            command += ["--tls-cert", str(tls.files.cert), "--tls-key", str(tls.files.key)]
        if tls is not None and tls.upstream:
            command += ["--upstream-ca", str(tls.files.ca)]
        command += self._options
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RECONNECT_PROXY_")}
        self.process = await Child.start("the proxy", command, log, warden, environ=environ)
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not (found := self._READY.search(log.read_text(errors="replace"))):
            await poll_until(self.process, deadline)
        return f"{found[1]}/"

    @property
    def admin(self) -> str | None:  # type: ignore[override]  # the proxy chooses it
        """The URL of its admin listener, when it has logged it."""
        if self.process is None:
            return None
        found = self._ADMIN.search(self.process.log.read_text(errors="replace"))
        return found[1] if found else None


def flags(options: Mapping[str, Any]) -> list[str]:
    """Return the flags of `reconnect-proxy serve` for the options of a scenario."""
    found: list[str] = []
    for option, value in options.items():
        flag = option.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            found += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return found
