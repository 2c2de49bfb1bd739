"""What runs during a benchmark: the server, the generator, and the contenders in front of the server.

Contenders are started once and measured in turn; one that is not measured has no connections, and does nothing. What
leaves traces in a process (many sessions, a server that dies) is measured with a contender that is started for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from reconnect_harness.bench.figures import ContenderFailed
from reconnect_harness.processes.child import Actor, ProcessFailed
from reconnect_harness.processes.cores import Cores, pinned, tree
from reconnect_harness.run.builder import TopologyBuilder
from reconnect_harness.scenario.find import bare_scenario
from reconnect_harness.scenario.model import ScenarioError
from reconnect_harness.sut.base import GivenUrl, NotInstalled, SutSetup, SystemUnderTest
from reconnect_harness.sut.choose import system_under_test

#: Options of this project's proxy other than its defaults. nginx writes no access log either. A session ends at once
#: when its client leaves in good order: otherwise it would stay for 15 s, and be measured with the next case.
OPTIONS = {"log_level": "warning", "grace_on": "abnormal"}

#: How long the generator may take to answer, beyond the time that it measures, in seconds.
ANSWER_SECONDS = 240.0

_REACHED_SECONDS = 20.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Contender:
    """A running contender: its name, the URL for clients, its processes (none for `direct`)."""

    name: str
    url: str
    pids: Sequence[int]


@dataclass(slots=True)
class BenchTestbed:
    """The processes of a benchmark: an asynchronous context manager. `systems` names contenders as `--sut` does."""

    systems: Sequence[str]
    #: For logs and configurations.
    folder: Path
    cores: Cores
    #: The contenders that run, and why others do not, by name.
    contenders: dict[str, Contender] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    _builder: TopologyBuilder = field(init=False)
    _exits: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _server: Actor = field(init=False)
    _generator: Actor = field(init=False)
    _port: int = 0
    _started: int = 0

    async def __aenter__(self) -> Self:
        """Start everything; a contender that does not start is one of `problems`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        async with contextlib.AsyncExitStack() as exits:
            self._builder = await exits.enter_async_context(TopologyBuilder(self.folder))
            with pinned(self.cores.server):
                self._server, ready = await self._builder.actor("server", "bench.server", {})
            self._port = ready["port"]
            spec = {"server": f"ws://127.0.0.1:{self._port}", "pids": [ready["pid"]], "cores": self.cores.load}
            with pinned(self.cores.generator):
                self._generator, _ = await self._builder.actor("generator", "bench.generator", spec)
            for name in self.systems:
                try:
                    self.contenders[name] = await exits.enter_async_context(self.fresh(name))
                except (NotInstalled, ContenderFailed) as failure:
                    self.problems[name] = str(failure).splitlines()[0]
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._exits.aclose()

    @contextlib.asynccontextmanager
    async def fresh(self, name: str, **options: Any) -> AsyncIterator[Contender]:
        """Start a contender anew and stop it at the end; `options` are for this project's proxy.

        Raises:
            NotInstalled: its program is not on this machine.
            ContenderFailed: it does not start.

        """
        contender = system(name)
        scenario = bare_scenario("bench", {**OPTIONS, **options})
        contender.check(scenario)
        self._started += 1
        folder = self.folder / f"{self._started:02}-{_file_name(name)}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            try:
                with pinned(self.cores.contender):
                    setup = SutSetup(scenario, folder, self._builder.warden)
                    url = await contender.start([f"127.0.0.1:{self._port}"], setup)
            except ProcessFailed as failure:
                raise ContenderFailed(str(failure)) from failure
            if contender.process is None:
                yield Contender(name, url, [])
                return
            await _answers(url)
            yield Contender(name, url, tree(contender.process.pid))
        finally:
            await contender.stop()

    async def generate(self, do: str, **given: Any) -> dict[str, Any]:
        """Have the generator do something (see `bench.generator`). ContenderFailed says what went wrong."""
        answer = await self._generator.ask(json.dumps({"do": do, **given}), ANSWER_SECONDS)
        if "problem" in answer:
            raise ContenderFailed(answer["problem"])
        return answer

    async def server(self, command: str) -> dict[str, Any]:
        """Give the server a command: `die`, `live`, `sessions`."""
        return await self._server.ask(command)

    async def reached(self, count: int) -> None:
        """Wait until the server has so many connections: a proxy may accept clients before it dials.

        Raises:
            ContenderFailed: it did not get there in time.

        """
        found = await self._connections(lambda found: found >= count)
        if found < count:
            raise ContenderFailed(f"has opened {found:,} connections to the server, and should have {count:,}")

    async def emptied(self) -> None:
        """Wait until the server has no connections any more, so that no case overlaps with the next."""
        await self._connections(lambda found: not found)

    async def _connections(self, enough: Callable[[int], bool]) -> int:
        """Return how many connections the server has, once that is `enough`, or _REACHED_SECONDS are over."""
        deadline = time.monotonic() + _REACHED_SECONDS
        # The server is another process, so it has to be asked.
        while True:
            found: int = (await self.server("sessions"))["count"]
            if enough(found) or time.monotonic() > deadline:
                return found
            await asyncio.sleep(_POLL_SECONDS)


def system(name: str) -> SystemUnderTest:
    """Return the system under test of that name.

    Raises:
        ScenarioError: it does not exist, or has a server of its own.

    """
    found = system_under_test(name)
    if isinstance(found, GivenUrl):
        raise ScenarioError(
            f"--sut {name}: a service that runs already cannot be measured, since the server behind it has to be the "
            "benchmark's own. Give the command that starts it, with {listen} and {upstream}"
        )
    return found


async def _answers(url: str) -> None:
    """Wait until a contender answers a request: the process that listens may not be the one that serves.

    Raises ContenderFailed if it does not.
    """
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_REACHED_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                # Without Host, so that no contender does more than refuse it (RFC 9112 section 3.2).
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                await reader.read(1)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise ContenderFailed(f"{url} does not answer: {error or 'timed out'}") from error


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)[:40].strip("-")
