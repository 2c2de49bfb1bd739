"""Systems under test: what stands between the clients and the upstream of a run. `sut.choose` makes one of an option.

For a scenario with `tls` a command needs `{tls_cert}` and `{tls_key}` (what to serve clients with), `{upstream_ca}`
(what to trust at the upstream, which is then wss://), or all three. They become the paths of PEM files.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shlex
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from reconnect_harness.processes.certificates import Encryption, TlsSide
from reconnect_harness.processes.child import Child, ProcessFailed, Warden
from reconnect_harness.scenario.model import Scenario, ScenarioError

#: How long a system under test may take until it listens, in seconds.
START_SECONDS = 30.0

#: This project's proxy, by name.
OWN = "reconnect-proxy"

#: No system under test at all.
DIRECT = "direct"

_POLL_SECONDS = 0.01
_START_ATTEMPTS = 3
#: The lowest port that a system under test is started on, and where Linux says which ones it gives to anybody.
_FIRST_FREE = 10_000
_GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PLACES = ("{listen}", "{listen_port}", "{upstream}", "{upstream_port}")
#: Where a command takes what it needs for TLS towards its clients, and its upstreams.
_CLIENT_TLS = ("{tls_cert}", "{tls_key}")
_UPSTREAM_TLS = ("{upstream_ca}",)


class NotInstalled(ScenarioError):
    """A preset whose program is not on this machine. The message says what to install."""


class SystemUnderTest(Protocol):
    """What a run needs of a system under test."""

    @property
    def process(self) -> Child | None:
        """Its process where it is ours and runs."""

    @property
    def admin(self) -> str | None:
        """URL of a listener that answers /sessions as this project's proxy does, if there is one."""

    def describe(self) -> str:
        """Return what it is, for the header of a run."""

    def check(self, scenario: Scenario) -> None:
        """Raise ScenarioError if this scenario cannot be run with it, NotInstalled if no scenario can."""

    @property
    def echoes(self) -> bool:
        """Whether it brings an upstream of its own, which sends back what the clients send."""

    async def start(
        self,
        upstreams: Sequence[str],
        scenario: Scenario,
        folder: Path,
        warden: Warden,
        tls: Encryption | None = None,
    ) -> str:
        """Start it in front of `upstreams` (HOST:PORT each) and return the URL that clients are to use.

        `tls` says which of its legs speak TLS, if any. Raises ProcessFailed if it does not come to listen.
        """

    async def stop(self) -> None:
        """Stop it, if it is ours."""


def without_tls(system: SystemUnderTest, scenario: Scenario) -> None:
    """Raise ScenarioError for a scenario that speaks TLS, on behalf of a system that cannot be told to."""
    if scenario.tls is not None:
        raise ScenarioError(
            f"scenario {scenario.name} needs a system under test that speaks TLS (`tls: {scenario.tls}`): {OWN}, or "
            "a command with {tls_cert} and {tls_key} for the client side, {upstream_ca} for the upstream side; "
            f"and not {system.describe()}"
        )


class _Unproxied:
    """A system under test without a process of ours."""

    process: Child | None = None
    admin: str | None = None
    echoes = False

    async def stop(self) -> None:
        """Do nothing: there is nothing to stop."""


class Direct(_Unproxied):
    """No proxy at all."""

    def describe(self) -> str:
        """Say that there is none."""
        return "none: clients talk to the upstream directly"

    def check(self, scenario: Scenario) -> None:
        """Refuse scenarios in which one end speaks TLS and the other does not."""
        if scenario.tls not in (None, TlsSide.BOTH):
            raise ScenarioError(
                f"scenario {scenario.name} speaks TLS with the {scenario.tls} side only, so something has to be "
                "between the two: it cannot be run with direct"
            )

    async def start(
        self,
        upstreams: Sequence[str],
        scenario: Scenario,
        folder: Path,
        warden: Warden,
        tls: Encryption | None = None,
    ) -> str:
        """Return the URL of the upstream itself, of several the first."""
        return f"{scheme(tls is not None)}://{upstreams[0]}/"


class GivenUrl(_Unproxied):
    """A service that runs already. What the clients send it has to send back."""

    echoes = True

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "ws" or not parts.hostname:
            raise ScenarioError(f"--sut {url!r} is not of the form ws://HOST:PORT/path")
        self.url = url

    def describe(self) -> str:
        """Return the URL."""
        return self.url

    def check(self, scenario: Scenario) -> None:
        """Refuse scenarios that need an upstream of ours behind the service, or certificates of ours at it."""
        without_tls(self, scenario)
        within = {"client", "clients", *scenario.containers}
        if scenario.upstream.kind != "echo" or {fault.target for fault in scenario.faults} - within:
            raise ScenarioError(
                f"scenario {scenario.name} cannot be run against {self.url}, which brings its own upstream: "
                "the upstream must be of kind echo, and faults be done to clients, their link and `containers` only"
            )
        if scenario.upstream.is_container:
            raise ScenarioError(
                f"scenario {scenario.name} cannot be run against {self.url}, which brings its own upstream: leave "
                "`upstream` at {kind: echo}, and name the containers behind it in `containers`"
            )

    async def start(
        self,
        upstreams: Sequence[str],
        scenario: Scenario,
        folder: Path,
        warden: Warden,
        tls: Encryption | None = None,
    ) -> str:
        """Return the URL."""
        return self.url


class Started:
    """A system under test that is a process of ours; what they have in common."""

    admin: str | None = None
    echoes = False

    def __init__(self) -> None:
        self.process: Child | None = None

    async def stop(self) -> None:
        """Stop the process."""
        if self.process is not None:
            await self.process.stop()


class Listening(Started):
    """A system under test that is told where to listen: a port that is free, or was a moment ago."""

    #: Which legs speak TLS in the run that it is started for, if any.
    tls: Encryption | None = None

    def describe(self) -> str:
        """Return what it is, for the header of a run."""
        raise NotImplementedError

    def check(self, scenario: Scenario) -> None:
        """Refuse scenarios that speak TLS, if not overridden."""
        without_tls(self, scenario)

    async def prepare(self, folder: Path, warden: Warden) -> None:
        """Do what has to be done once before a command is started; nothing, if not overridden."""

    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Return the command that listens and connects there (HOST:PORT each); `folder` is for what it has to read."""
        raise NotImplementedError

    async def start(
        self,
        upstreams: Sequence[str],
        scenario: Scenario,
        folder: Path,
        warden: Warden,
        tls: Encryption | None = None,
    ) -> str:
        """Start the command on a free port and wait until it listens there."""
        self.tls = tls
        await self.prepare(folder, warden)
        log = folder / "sut.log"
        for attempt in range(1, _START_ATTEMPTS + 1):
            listen = f"127.0.0.1:{_free_port()}"
            command = self.command(listen, upstreams[0], folder)
            self.process = await Child.start("the system under test", command, log, warden)
            try:
                await self._until_it_listens(self.process, listen)
            except ProcessFailed:
                # Somebody else may have been given the port since it was found to be free.
                taken = "in use" in self.process.last_lines().lower()
                await self.process.stop()
                if attempt == _START_ATTEMPTS or not taken:
                    raise
            else:
                return f"{scheme(tls is not None and tls.client)}://{listen}/"
        raise AssertionError("the last attempt returns or raises")

    async def _until_it_listens(self, process: Child, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return
            await wait_a_moment(process, deadline)


class Command(Listening):
    """Any proxy that a command starts."""

    def __init__(self, template: str) -> None:
        super().__init__()
        self._template = template
        try:
            self._parts = shlex.split(template)
        except ValueError as error:
            raise ScenarioError(f"--sut {template!r} is not a command: {error}") from None
        for end in ("listen", "upstream"):
            if f"{{{end}}}" not in template and f"{{{end}_port}}" not in template:
                raise ScenarioError(
                    f"--sut {template!r} does not say where to {'listen' if end == 'listen' else 'connect'}: it needs "
                    f"{{{end}}} (HOST:PORT) or {{{end}_port}}; or give a URL, ws://HOST:PORT, or direct"
                )

    def describe(self) -> str:
        """Return the command."""
        return self._template

    def check(self, scenario: Scenario) -> None:
        """Refuse scenarios that speak TLS where the command has no place for what that takes."""
        needed = (*(_CLIENT_TLS if scenario.tls_client else ()), *(_UPSTREAM_TLS if scenario.tls_upstream else ()))
        if any(place not in self._template for place in needed):
            without_tls(self, scenario)

    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Fill in the places of the command."""
        places = (listen, listen.rpartition(":")[2], upstream, upstream.rpartition(":")[2])
        values = dict(zip(_PLACES, places, strict=True))
        if self.tls is not None:
            files = map(str, self.tls.files)
            values |= dict(zip((*_CLIENT_TLS, *_UPSTREAM_TLS), files, strict=True))
        return [_filled(part, values) for part in self._parts]


async def wait_a_moment(process: Child, deadline: float) -> None:
    """Wait a moment for a process to be ready; raise ProcessFailed if it has ended, or the time is over."""
    if process.returncode is not None:
        raise process.failure(f"did not start: it ended with status {process.returncode}")
    if asyncio.get_running_loop().time() > deadline:
        raise process.failure(f"does not listen after {START_SECONDS:g} s")
    await asyncio.sleep(_POLL_SECONDS)


def scheme(tls: bool) -> str:
    """Return the scheme of a WebSocket URL, with `tls` or without."""
    return "wss" if tls else "ws"


def _filled(part: str, values: Mapping[str, str]) -> str:
    # Not str.format: a command may have braces of its own.
    for place, value in values.items():
        part = part.replace(place, value)
    return part


def _free_port() -> int:
    """Return a port that nobody has, out of those that the system does not give to whoever asks for just any.

    One of the others may be somebody's a moment later, if only as the near end of a connection. And a connection to it
    while nobody listens there may come to be one to itself (RFC 9293 section 3.5), which looks as if somebody did.
    """
    first_given = _first_given()
    ports = range(_FIRST_FREE, first_given) if first_given > _FIRST_FREE else range(1)
    for port in random.sample(ports, len(ports)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free: int = probe.getsockname()[1]
            return free
    raise ProcessFailed(f"no port from {_FIRST_FREE} to {first_given - 1} is free on 127.0.0.1")


def _first_given() -> int:
    """Return the lowest port that the system gives to whoever asks for just any."""
    try:
        return int(_GIVEN.read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        # Another system than Linux: what RFC 6335 section 6 sets aside for that.
        return 49152
