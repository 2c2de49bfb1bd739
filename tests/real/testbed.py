"""What a test starts: servers, clients, proxies, and the links between them. All of it is stopped at the end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from reconnect_harness.processes.child import Child, Warden
from reconnect_harness.sut.own_proxy import OwnProxy
from reconnect_harness.toxiproxy.server import reserve_port

from ..acceptance.process import BAD_SIGNS
from ..acceptance.relay import Relay
from .install import run_by
from .program import PATIENCE, Program

#: What the README gives a receiver whose clients come through a sender.
RECEIVER = {"mode": "receiver", "grace": "90s", "grace_on": "abnormal"}
SENDER = {"mode": "sender"}

_POLL_SECONDS = 0.05


@dataclass(slots=True)
class Route:
    """A way to a server: where clients connect, the link that can be cut, and the logs of the proxies on the way."""

    netloc: str
    """HOST:PORT."""
    link: Relay
    logs: list[Path]

    def url(self, path: str = "/", scheme: str = "ws") -> str:
        """Return the URL of a path of the server, by this way."""
        return f"{scheme}://{self.netloc}{path}"

    def log(self) -> str:
        """Return what the proxies have logged."""
        return "\n".join(log.read_text(errors="replace") for log in self.logs)


class Server:
    """A server of the field on a port of its own, which it keeps over a restart. `Testbed.serve` starts it.

    Attributes:
        port: where it listens on loopback.

    """

    def __init__(self, testbed: Testbed, name: str, command: Sequence[str], port: int) -> None:
        """Prepare it; `start` starts it."""
        self.port = port
        self._testbed = testbed
        self._name = name
        self._command = command
        self.process: Child | None = None

    @property
    def netloc(self) -> str:
        """Its HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/", scheme: str = "ws") -> str:
        """Return the URL of a path, without any proxy."""
        return f"{scheme}://{self.netloc}{path}"

    async def start(self) -> Self:
        """Start it, and wait until it accepts connections."""
        self.process = await self._testbed.child(self._name, self._command)
        await self._testbed.accepts(self.port, self.process)
        return self

    async def kill(self) -> None:
        """End it as in a crash."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def restart(self) -> None:
        """End it as in a crash, and start it again at the same port."""
        await self.kill()
        await self.start()

    async def said(self, pattern: str) -> re.Match[str]:
        """Wait until a pattern is in its output."""
        assert self.process is not None
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(pattern, self.process.log.read_text(errors="replace"))):
                assert self.process.returncode is None, self.process.failure(f"ended before it said {pattern}")
                await asyncio.sleep(_POLL_SECONDS)
        return found


class Testbed:
    """Starts the parts of one test in `folder`, where their logs are; an asynchronous context manager."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        """Prepare it; nothing is started."""
        self.folder = folder
        self._undo = contextlib.AsyncExitStack()
        self._warden = Warden()
        self._count = 0

    async def __aenter__(self) -> Self:
        """Begin."""
        self._undo.enter_context(self._warden)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, the last first."""
        await self._undo.aclose()

    def port(self) -> int:
        """Reserve a port of loopback until the end."""
        port: int = self._undo.enter_context(reserve_port()).getsockname()[1]
        return port

    async def accepts(self, port: int, process: Child) -> None:
        """Wait until a process listens at a port of loopback."""
        async with asyncio.timeout(PATIENCE):
            while process.returncode is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(_POLL_SECONDS)
        raise process.failure("ended before it listened")

    async def child(self, name: str, command: Sequence[str]) -> Child:
        """Start a process that says nothing in particular."""
        child = await Child.start(name, command, self._log(name), self._warden)
        self._undo.push_async_callback(self._end, child)
        return child

    async def serve(self, name: str, command: Sequence[str], port: int) -> Server:
        """Start a server whose `command` makes it listen on `port`."""
        return await Server(self, name, command, port).start()

    async def run(self, script: str, **spec: Any) -> Program:
        """Start a script of `programs/`, and wait until it is ready."""
        program = await Program.launch(script, run_by(script), spec, self._log(script), self._warden)
        self._undo.push_async_callback(program.stop)
        return await program.ready()

    async def pair(self, server: str, *, sender: Mapping[str, Any] | None = None, **receiver: Any) -> Route:
        """Start a sender and a receiver in front of a server (HOST:PORT), with a link between them that can be cut.

        The options are added to `SENDER` and `RECEIVER`.
        """
        behind, behind_log = await self._proxy(server, {**RECEIVER, **receiver})
        link = await self._link(behind)
        before, before_log = await self._proxy(f"127.0.0.1:{link.port}", {**SENDER, **(sender or {})})
        return Route(before, link, [before_log, behind_log])

    async def single(self, server: str, **options: Any) -> Route:
        """Start one proxy in front of a server (HOST:PORT), with a link between the two that can be cut."""
        link = await self._link(server)
        netloc, log = await self._proxy(f"127.0.0.1:{link.port}", options)
        return Route(netloc, link, [log])

    async def direct(self, server: str) -> Route:
        """Make a link to a server (HOST:PORT) that can be cut, and no proxy."""
        link = await self._link(server)
        return Route(f"127.0.0.1:{link.port}", link, [])

    async def _link(self, target: str) -> Relay:
        return await self._undo.enter_async_context(Relay(int(target.rpartition(":")[2])))

    async def _proxy(self, upstream: str, options: Mapping[str, Any]) -> tuple[str, Path]:
        """Start a proxy; return its HOST:PORT, and its log."""
        self._count += 1
        folder = self.folder / f"proxy-{self._count}"
        folder.mkdir()
        proxy = OwnProxy()
        self._undo.push_async_callback(self._end_proxy, proxy)
        url = await proxy.launch([upstream], {"drain": "300ms", **options}, folder, self._warden)
        assert proxy.process is not None
        return urlsplit(url).netloc, proxy.process.log

    async def _end_proxy(self, proxy: OwnProxy) -> None:
        """Stop a proxy in good order; it must not have complained of itself."""
        if proxy.process is None:
            return
        process = proxy.process
        await proxy.stop()
        log = process.log.read_text(errors="replace")
        # Shown by pytest where the test failed.
        print(f"--- log of {process.log.parent.name}\n{log[-20_000:]}")
        found = [sign for sign in BAD_SIGNS if sign in log]
        assert not found, f"the proxy wrote {found}:\n{log}"

    async def _end(self, child: Child) -> None:
        child.send_signal(signal.SIGKILL)
        await child.stop()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '-')}.log"
