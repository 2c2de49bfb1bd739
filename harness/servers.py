"""Servers for people's own tests: a mock upstream, and this project's proxy. Each is a process of its own.

They are used from code that is not asynchronous: what they do is done backstage, and every call waits until it is done.
"""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from harness.backstage import Backstage
from harness.history import History
from harness.message import Direction
from harness.own_proxy import OwnProxy
from harness.processes import Actor, Warden
from harness.scenario import proxy_options
from harness.upstream_spec import UpstreamSpec


class MockUpstream:
    """A mock upstream on a port of its own: a context manager.

    Args:
        backstage: where it is looked after.
        folder: where it leaves its record and its log.
        kind: one of the kinds of `harness.upstreams`.
        options: the other keys of `upstream` in a scenario: `push`, `size`, `type`, `rude`, …

    Raises:
        ValueError: there is no such kind or key, or a value will not do (pydantic's ValidationError is one).

    Attributes:
        url: `ws://HOST:PORT/`; it stays the same over a restart.

    """

    def __init__(self, backstage: Backstage, folder: Path, kind: str, **options: Any) -> None:
        spec = UpstreamSpec.model_validate({"kind": kind, **options})
        if spec.is_container:
            raise ValueError("a mock upstream is no container: start that one with the tools of its engine")
        self._backstage = backstage
        self._folder = folder
        self._warden = Warden()
        self._actor: Actor | None = None
        # Bound and not listening: the port stays ours while nobody serves it.
        self._keeper = socket.socket()
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            self._keeper.setsockopt(socket.SOL_SOCKET, option, 1)
        self._keeper.bind(("127.0.0.1", 0))
        port: int = self._keeper.getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/"
        self._spec = {
            **spec.actor_spec,
            "name": "u1",
            "port": port,
            "seed": "1",
            "history": str(folder / "upstream.jsonl"),
        }

    def __enter__(self) -> Self:
        self._warden.__enter__()
        self.restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._keeper.close()
        self._warden.__exit__(kind, error, trace)

    def stop(self) -> None:
        """Be gone, as in a crash: its connections end, and whoever connects is refused. It may be started again."""
        if self._actor is not None:
            self._actor.send_signal(signal.SIGKILL)
            self._backstage.run(self._actor.stop())
            self._actor = None

    def restart(self) -> None:
        """Stop, where it runs, and start again on the same port, with no memory of what was."""
        self.stop()
        self._actor = self._backstage.run(self._start())

    def history(self) -> History:
        """Return what it has seen so far: messages, and links that came and went."""
        return History.merge([self._folder / "upstream.jsonl"])

    def received(self) -> int:
        """Return how many messages have arrived so far."""
        return self.history().count("received", Direction.C2U)

    async def _start(self) -> Actor:
        log = self._folder / "upstream.log"
        actor = await Actor.launch("the mock upstream", "harness.upstreams", self._spec, log, self._warden)
        try:
            await actor.hear()
            await actor.ask("go")
        except BaseException:
            await actor.stop()
            raise
        return actor


class ProxyServer:
    """This project's proxy in front of a server: a context manager.

    Args:
        backstage: where it is looked after.
        folder: where it leaves its log.
        upstream: the URL of the server, `ws://HOST:PORT/path`.
        options: options of `reconnect-proxy serve`: `mode="sender"`, `retry_for="5s"`, …

    Raises:
        ValueError: there is no such option, or its value will not do; or `upstream` has no host and port.

    Attributes:
        url: where to connect instead of `upstream`, with the same path.

    """

    def __init__(self, backstage: Backstage, folder: Path, upstream: str, **options: Any) -> None:
        parts = urlsplit(upstream)
        if parts.scheme != "ws" or parts.hostname is None or parts.port is None:
            raise ValueError(f"the upstream {upstream!r} is not of the form ws://HOST:PORT/path")
        proxy_options(options)
        self.url = upstream
        self._options = options
        self._backstage = backstage
        self._folder = folder
        self._warden = Warden()
        self._proxy = OwnProxy()

    def __enter__(self) -> Self:
        parts = urlsplit(self.url)
        self._warden.__enter__()
        try:
            launching = self._proxy.launch([parts.netloc], self._options, self._folder, self._warden)
            self.url = parts._replace(netloc=urlsplit(self._backstage.run(launching)).netloc).geturl()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A test that is over waits for nothing that is still owed to anybody.
        if self._proxy.process is not None:
            self._proxy.process.send_signal(signal.SIGKILL)
        self.stop()
        self._warden.__exit__(kind, error, trace)

    def stop(self) -> None:
        """Stop it in good order: clients are closed with 1012. May be called twice."""
        self._backstage.run(self._proxy.stop())

    def log(self) -> str:
        """Return what it has logged so far."""
        return (self._folder / "sut.log").read_text(errors="replace")
