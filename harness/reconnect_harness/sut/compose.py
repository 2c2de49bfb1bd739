"""A service of a Docker Compose project as a system under test: `compose:FILE#SERVICE`."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from reconnect_harness.processes.child import ProcessFailed
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.sut.base import GivenUrl, NotInstalled, SutSetup

#: How long Compose may take to start a project, in seconds: it may have to build or pull images.
COMPOSE_SECONDS = 600.0

_FORM = re.compile(r"compose:([^#]+)#([\w.-]+)(?::(\d+))?(/.*)?")


class ComposeService(GivenUrl):
    """A service of a project, which is started if it does not run, and removed then after the run.

    Clients connect to the port of this machine at which the service is published: its first one, or that of
    `#SERVICE:PORT`. On the host's network, PORT is needed.
    """

    def __init__(self, option: str) -> None:
        found = _FORM.fullmatch(option)
        if found is None:
            raise ScenarioError(f"--sut {option!r} is not of the form compose:FILE#SERVICE[:PORT][/path]")
        file, self._service, self._port, path = found.groups()
        self._option = option
        self._file = Path(file)
        self._path = path or "/"
        self._ours = False
        if not self._file.is_file():
            raise ScenarioError(f"--sut {option!r}: there is no file {file}")

    def describe(self) -> str:
        """Return the option."""
        return self._option

    def check(self, scenario: Scenario) -> None:
        """Refuse scenarios for which Compose is missing, or that need an upstream of the harness."""
        super().check(scenario)
        self._command()

    async def start(self, upstreams: Sequence[str], setup: SutSetup) -> str:
        """Start the project if the service does not run; return the URL of its published port."""
        self._ours = not (await self._run("ps", "-q", self._service)).strip()
        if self._ours:
            await self._run("up", "-d", self._service)
        self.url = f"ws://{await self._address()}{self._path}"
        return self.url

    async def stop(self) -> None:
        """Remove the project, if the run has started it."""
        if self._ours:
            await self._run("down", "--timeout", "2")
            self._ours = False

    async def _address(self) -> str:
        """Return the HOST:PORT at which the service is published."""
        service = yaml.safe_load(await self._run("config"))["services"][self._service]
        if service.get("network_mode") == "host" and self._port:
            return f"127.0.0.1:{self._port}"
        ports = service.get("ports") or []
        if not ports:
            raise ProcessFailed(f"{self._option}: the service publishes no port on this machine: give it `ports`")
        first = ports[0]["target"] if isinstance(ports[0], dict) else str(ports[0]).rpartition(":")[2].partition("/")[0]
        published = (await self._run("port", self._service, self._port or str(first))).strip()
        # One that is published on all addresses is on loopback too.
        return f"127.0.0.1:{published.rpartition(':')[2]}" if published.startswith(("0.0.0.0", "[", ":")) else published

    def _command(self) -> list[str]:
        """Return the words that start Compose, which is a plugin of docker or, before version 2, a program."""
        for command in (["docker", "compose"], ["docker-compose"]):
            asked = [*command, "version"]
            if shutil.which(command[0]) and not subprocess.run(asked, capture_output=True, check=False).returncode:
                return [*command, "-f", str(self._file)]
        raise NotInstalled(f"--sut {self._option!r} needs Docker Compose, which is not installed")

    async def _run(self, *words: str) -> str:
        """Run a command of Compose, and return its output; raise ProcessFailed if it fails."""
        pipe = asyncio.subprocess.PIPE
        command = [*self._command(), *words]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        try:
            async with asyncio.timeout(COMPOSE_SECONDS):
                said, complained = await process.communicate()
        except TimeoutError:
            raise ProcessFailed(f"{' '.join(command)} has not ended after {COMPOSE_SECONDS:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise ProcessFailed(f"{' '.join(command)} ended with status {process.returncode}: {complained.decode()}")
        return said.decode()
