"""Systems under test: what is between the clients and the upstream of a run. `sut.choose` makes one of an option.

For a scenario with `tls` a command needs `{tls_cert}` and `{tls_key}` (to serve clients), `{upstream_ca}` (to trust the
upstream, which is then wss://), or all three. They become the paths of PEM files.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shlex
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from reconnect_harness.processes.certificates import Encryption, TlsSide
from reconnect_harness.processes.child import Child, ProcessFailed, Warden
from reconnect_harness.profile import Profile
from reconnect_harness.scenario.model import Scenario, ScenarioError

#: How long a system under test may take until it listens, in seconds.
START_SECONDS = 30.0

#: The name of this project's proxy.
OWN = "reconnect-proxy"

#: The name for no system under test.
DIRECT = "direct"

_POLL_SECONDS = 0.01
_START_ATTEMPTS = 3
#: The lowest port that a system under test is started on.
_LOWEST_PORT = 10_000
#: The file in which Linux gives the range of ephemeral ports.
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: The fields of a command: addresses, and files for TLS towards clients and upstreams.
_ADDRESS_FIELDS = ("{listen}", "{listen_port}", "{upstream}", "{upstream_port}")
_CLIENT_TLS_FIELDS = ("{tls_cert}", "{tls_key}")
_UPSTREAM_TLS_FIELDS = ("{upstream_ca}",)


class NotInstalled(ScenarioError):
    """A preset whose program is not on this machine. The message says what to install."""


@dataclass(frozen=True, slots=True)
class SutSetup:
    """What a system under test is started for.

    Args:
        scenario: its `proxy` has the options of this project's proxy.
        folder: for its log and its configuration.
        warden: ends it if this process dies.
        tls: which of its legs use TLS, if any.
    """

    scenario: Scenario
    folder: Path
    warden: Warden
    tls: Encryption | None = None


class SystemUnderTest(ABC):
    """A system under test.

    Attributes:
        process: its process, if the run has started one.
        admin: URL of a listener that answers /sessions as this project's proxy does, if there is one.
        echoes: whether it brings an upstream of its own, which sends back what the clients send.
        profile: what it claims, if that is known.

    """

    process: Child | None = None
    admin: str | None = None
    echoes = False
    profile: Profile | None = None

    @abstractmethod
    def describe(self) -> str:
        """Return what it is, for the header of a run."""

    def check(self, scenario: Scenario) -> None:
        """Raise ScenarioError if this scenario cannot be run with it, NotInstalled if no scenario can."""
        refuse_tls(self, scenario)

    @abstractmethod
    async def start(self, upstreams: Sequence[str], setup: SutSetup) -> str:
        """Start it in front of `upstreams` (HOST:PORT each) and return the URL for clients.

        Raises ProcessFailed if it does not listen in time.
        """

    async def stop(self) -> None:
        """Stop it, if the run has started it."""
        if self.process is not None:
            await self.process.stop()


def refuse_tls(system: SystemUnderTest, scenario: Scenario) -> None:
    """Raise ScenarioError if a scenario uses TLS, for a system that cannot be configured for it."""
    if scenario.tls is not None:
        raise ScenarioError(
            f"scenario {scenario.name} needs a system under test that speaks TLS (`tls: {scenario.tls}`): {OWN}, or "
            "a command with {tls_cert} and {tls_key} for the client side, {upstream_ca} for the upstream side; "
            f"not {system.describe()}"
        )


class Direct(SystemUnderTest):
    """No proxy: the clients talk to the upstream."""

    profile = Profile.TRANSPARENT

    def describe(self) -> str:
        """Return that there is none."""
        return "none: clients talk to the upstream directly"

    def check(self, scenario: Scenario) -> None:
        """Refuse scenarios in which only one end uses TLS, and faults of a proxy."""
        if any(fault.target in scenario.proxy_names for fault in scenario.faults):
            raise ScenarioError(
                f"scenario {scenario.name} has faults of the proxy's process: it cannot be run with direct, where "
                "there is none"
            )
        if scenario.tls not in (None, TlsSide.BOTH):
            raise ScenarioError(
                f"scenario {scenario.name} uses TLS on the {scenario.tls} side only, so it needs a system between the "
                "two sides: it cannot be run with direct"
            )

    async def start(self, upstreams: Sequence[str], setup: SutSetup) -> str:
        """Return the URL of the upstream, the first one if there are several."""
        return f"{scheme(setup.tls is not None)}://{upstreams[0]}/"


class GivenUrl(SystemUnderTest):
    """A service that runs already. It must send back what the clients send, if the scenario has no adapter.

    Clients connect to its own URL also through a link with faults: its name is in their Host header and TLS handshake.
    """

    echoes = True

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ScenarioError(f"--sut {url!r} is not of the form ws://HOST:PORT/path or wss://HOST/path")
        self.url = url

    def describe(self) -> str:
        """Return the URL."""
        return self.url

    def check(self, scenario: Scenario) -> None:
        """Refuse scenarios that need an upstream or certificates of the harness behind the service."""
        refuse_tls(self, scenario)
        allowed = {"client", "clients", *scenario.containers}
        targets = {fault.target for fault in scenario.faults if not fault.commands}
        if scenario.upstream.kind != "echo" or targets - allowed:
            raise ScenarioError(
                f"scenario {scenario.name} cannot be run against {self.describe()}, which brings its own upstream: "
                "the upstream must be of kind echo, and faults be done to clients, their link and `containers` only"
            )
        if scenario.upstream.is_foreign:
            raise ScenarioError(
                f"scenario {scenario.name} cannot be run against {self.describe()}, which brings its own upstream: "
                "leave `upstream` at {kind: echo}, and name the containers behind it in `containers`"
            )

    async def start(self, upstreams: Sequence[str], setup: SutSetup) -> str:
        """Return the URL."""
        return self.url


class ListeningSystem(SystemUnderTest):
    """A system under test that is told where to listen: at a port that was free when it was chosen."""

    #: Which legs use TLS in the run that it is started for, if any.
    tls: Encryption | None = None

    async def prepare(self, folder: Path, warden: Warden) -> None:
        """Do what is needed once before the command is started; nothing, if not overridden."""

    @abstractmethod
    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Return the command that listens and connects there (HOST:PORT each); `folder` is for its configuration."""

    async def start(self, upstreams: Sequence[str], setup: SutSetup) -> str:
        """Start the command on a free port and wait until it listens there."""
        tls = self.tls = setup.tls
        await self.prepare(setup.folder, setup.warden)
        log = setup.folder / "sut.log"
        for attempt in range(1, _START_ATTEMPTS + 1):
            listen = f"127.0.0.1:{free_port()}"
            command = self.command(listen, upstreams[0], setup.folder)
            self.process = await Child.start("the system under test", command, log, setup.warden)
            try:
                await until_listening(self.process, listen)
            except ProcessFailed:
                # Another program may have taken the port since it was found to be free.
                taken = "in use" in self.process.last_lines().lower()
                await self.process.stop()
                if attempt == _START_ATTEMPTS or not taken:
                    raise
            else:
                return f"{scheme(tls is not None and tls.client)}://{listen}/"
        raise AssertionError("the last attempt returns or raises")


class Command(ListeningSystem):
    """Any proxy that a command starts."""

    def __init__(self, template: str) -> None:
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
        """Refuse scenarios that use TLS if the command has no fields for the files."""
        needed = (
            *(_CLIENT_TLS_FIELDS if scenario.tls_client else ()),
            *(_UPSTREAM_TLS_FIELDS if scenario.tls_upstream else ()),
        )
        if any(name not in self._template for name in needed):
            refuse_tls(self, scenario)

    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Fill in the fields of the command."""
        addresses = (listen, listen.rpartition(":")[2], upstream, upstream.rpartition(":")[2])
        values = dict(zip(_ADDRESS_FIELDS, addresses, strict=True))
        if self.tls is not None:
            files = map(str, self.tls.files)
            values |= dict(zip((*_CLIENT_TLS_FIELDS, *_UPSTREAM_TLS_FIELDS), files, strict=True))
        return [_filled(part, values) for part in self._parts]


async def until_listening(process: Child, address: str) -> None:
    """Wait until a process listens at HOST:PORT; raise ProcessFailed if it ends, or does not in `START_SECONDS`."""
    host, _, port = address.rpartition(":")
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return
        await poll_until(process, deadline)


async def poll_until(process: Child, deadline: float) -> None:
    """Wait for one interval of polling; raise ProcessFailed if the process has ended, or the deadline has passed."""
    if process.returncode is not None:
        raise process.failure(f"did not start: it ended with status {process.returncode}")
    if asyncio.get_running_loop().time() > deadline:
        raise process.failure(f"does not listen after {START_SECONDS:g} s")
    await asyncio.sleep(_POLL_SECONDS)


def scheme(tls: bool) -> str:
    """Return the scheme of a WebSocket URL, with `tls` or without."""
    return "wss" if tls else "ws"


def _filled(part: str, values: Mapping[str, str]) -> str:
    # Not str.format: a command may have other braces.
    for name, value in values.items():
        part = part.replace(name, value)
    return part


def free_port() -> int:
    """Return a free port below the ephemeral ports.

    An ephemeral port could be taken by another program a moment later, even by the near end of a connection. And a
    connection to an ephemeral port at which no program listens may become a connection to itself (RFC 9293 section
    3.5), which looks as if the system under test listened.
    """
    first_ephemeral = _first_ephemeral_port()
    ports = range(_LOWEST_PORT, first_ephemeral) if first_ephemeral > _LOWEST_PORT else range(1)
    for port in random.sample(ports, len(ports)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free: int = probe.getsockname()[1]
            return free
    raise ProcessFailed(f"no port from {_LOWEST_PORT} to {first_ephemeral - 1} is free on 127.0.0.1")


def _first_ephemeral_port() -> int:
    """Return the lowest port that the system gives to programs that ask for any port."""
    try:
        return int(_EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        # Not Linux: the start of the range in RFC 6335 section 6.
        return 49152
