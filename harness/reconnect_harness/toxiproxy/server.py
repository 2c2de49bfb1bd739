"""One Toxiproxy server: its HTTP API, and how it is started and stopped if it is started here.

All requests go through `toxiproxy-python`. That library keeps the server's address on a class, so that a whole
process talks to one server, and returns HTTP errors other than 400, 404 and 409 as if they were answers. Here each
server has an `APIConsumer` class of its own, with a timeout on every request, and any status but 2xx is an error.

A server that is started here is a process (`toxiproxy.process`) or a container (`toxiproxy.container`).
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import requests
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from reconnect_harness.containers.engine import EngineError, EngineUnavailable
from reconnect_harness.toxiproxy.container import ServerContainer
from reconnect_harness.toxiproxy.process import ServerProcess

_API_SECONDS = 10.0
"""How long one request may take. Toxiproxy answers in a millisecond, unless a connection whose receiver does
not read keeps it from changing a toxic."""

_START_SECONDS = 20.0
_START_ATTEMPTS = 5
_LOG_SECONDS = 1.0

_EMBEDDED = (sys.executable, "-P", "-m", "reconnect_harness.toxiproxy.embedded")
"""-P: a folder of that name in the working directory is not imported."""

_NO_PROXIES = {"http": None, "https": None, "all": None}
"""The HTTP_PROXY of the environment does not lead to a server on loopback."""


class ToxiproxyError(RuntimeError):
    """A Toxiproxy server refused a request, did not answer, or did not do what it said."""


class ToxiproxyUnavailable(ToxiproxyError):
    """There is no Toxiproxy server, or the one that was asked for cannot be used."""


class ToxiproxyApi:
    """The HTTP API of the server at `url` (``http://HOST:PORT``); safe to use from several threads.

    Raises ToxiproxyUnavailable if the URL is not of that form.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme != "http" or not parts.hostname or port is None or parts.path.strip("/") or parts.query:
            raise ToxiproxyUnavailable(f"the Toxiproxy URL {url!r} is not of the form http://HOST:PORT")
        self.host: str = parts.hostname
        self.port: int = port
        bracketed = f"[{self.host}]" if ":" in self.host else self.host
        self.url = f"http://{bracketed}:{port}"
        self._consumer: Any = type("ServerConsumer", (APIConsumer,), {"host": bracketed, "port": port})

    def get(self, path: str, seconds: float = _API_SECONDS) -> Any:
        """Return the JSON of `path`, or its text where it is not JSON; wait at most `seconds`."""
        return self._call("get", path, timeout=seconds)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Post `body` as JSON to `path` and return the answer's JSON."""
        return self._call("post", path, json=body)

    def delete(self, path: str) -> None:
        """Delete what `path` names."""
        self._call("delete", path)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        asked = f"{method.upper()} {self.url}{path}"
        try:
            request = getattr(self._consumer, method)
            answer = request(path, **{"timeout": _API_SECONDS, "proxies": _NO_PROXIES, **arguments})
        except (InvalidToxic, NotFound, ProxyExists) as refusal:
            raise ToxiproxyError(f"Toxiproxy refused {asked}: {_reason(refusal.args[0])}") from None
        except requests.RequestException as failure:
            raise ToxiproxyError(f"Toxiproxy did not answer {asked}: {_why(failure)}") from failure
        if not answer.ok:
            raise ToxiproxyError(f"Toxiproxy refused {asked} ({answer.status_code}): {_reason(answer.content)}")
        try:
            return answer.json() if answer.content else None
        except requests.JSONDecodeError:
            return answer.text


def _reason(body: bytes) -> str:
    """Return the sentence in an error body of Toxiproxy, or the whole body if it has none."""
    text = body.decode(errors="replace").strip()
    with contextlib.suppress(json.JSONDecodeError, TypeError, KeyError):
        return str(json.loads(text)["error"])
    return text or "no reason given"


class ServerRuntime(Protocol):
    """What a server that is started here runs in: a process or a container."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def launch(self, port: int) -> None:
        """Start it, to listen for its API at this port of 127.0.0.1."""

    def last_output(self) -> str:
        """Return the last 4 KiB that the server wrote since it was launched."""

    def ended(self) -> str | None:
        """Return how it has ended, None while it runs."""

    def stop(self) -> None:
        """End it and remove it. May be called twice."""


class ToxiproxyServer:
    """A Toxiproxy server to make links on: a context manager.

    Args:
        binary: the `toxiproxy-server` to start on a free loopback port; it is stopped on exit, and ends if
            this process dies.
        url: a server that runs already (``http://HOST:PORT``): it is used, and never stopped.
        embedded: start `toxiproxy.embedded`, the server of this package, instead of a binary.
        image: run this image in a container, on the host's network; it is removed on exit, and if this process dies.
        origin: how it was found, in a few words, for `describe`.
        log: a file to which the output of a started server is appended; a temporary one if not given.

    Attributes:
        url: where its HTTP API is; set on entry.
        version: what the server says it is; set on entry.
        run: a token in the names of all proxies made through this object, so that runs that share a server use
            different names.
    """

    def __init__(
        self,
        *,
        binary: str | None = None,
        url: str | None = None,
        embedded: bool = False,
        image: str | None = None,
        origin: str = "given",
        log: Path | None = None,
    ) -> None:
        if [binary is not None, url is not None, embedded, image is not None].count(True) != 1:
            raise ValueError("ToxiproxyServer takes one of a binary, a url, embedded, and an image")
        self._origin = origin
        self._embedded = embedded
        self._runtime: ServerRuntime | None = None
        if image is not None:
            self._runtime = ServerContainer(image, log)
        elif url is None:
            self._runtime = ServerProcess(_EMBEDDED if binary is None else (binary,), log)
        self._api: ToxiproxyApi | None = None if url is None else ToxiproxyApi(url)
        self._open = contextlib.ExitStack()
        self.run = secrets.token_hex(4)
        self.version = ""

    @property
    def api(self) -> ToxiproxyApi:
        """The server's HTTP API."""
        if self._api is None:
            raise ToxiproxyError("this Toxiproxy server is not started: use it as a context manager")
        return self._api

    @property
    def url(self) -> str:
        """Where the HTTP API is, ``http://HOST:PORT``."""
        return self.api.url

    @property
    def pid(self) -> int | None:
        """The process id (and group) of the supervising shell, or None for a server without one."""
        return self._runtime.pid if isinstance(self._runtime, ServerProcess) else None

    def describe(self) -> str:
        """Return one line for the header of a run: version, what it is, where it was found."""
        if self._embedded:
            return f"Toxiproxy {self.version} (embedded)"
        where = self.url if self._runtime is None else self._runtime.name
        return f"Toxiproxy {self.version} (real, {where}, {self._origin})"

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have `callback` called before the server is left, last one first."""
        self._open.callback(callback)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            if self._runtime is not None:
                self._start(self._runtime)
            else:
                self._check_given()
            undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the proxies that were made here, and stop the server if it was started here. May be called twice."""
        try:
            self._open.close()
        finally:
            if self._runtime is not None:
                self._runtime.stop()

    def _check_given(self) -> None:
        try:
            self.version = _version(self.api, self.run)
        except ToxiproxyError as failure:
            raise ToxiproxyUnavailable(f"no Toxiproxy server at {self.url} ({self._origin}): {failure}") from failure

    def _start(self, runtime: ServerRuntime) -> None:
        try:
            for _ in range(_START_ATTEMPTS):
                with reserve_port() as reserved:
                    port = reserved.getsockname()[1]
                    if sys.platform != "linux":
                        reserved.close()
                    self._api = ToxiproxyApi(f"http://127.0.0.1:{port}")
                    runtime.launch(port)
                    if self._wait_until_ready(runtime):
                        return
                runtime.stop()
        except (EngineUnavailable, EngineError) as failure:
            raise ToxiproxyUnavailable(f"{runtime.name} cannot be started: {failure}") from failure
        raise ToxiproxyUnavailable(f"{runtime.name} found no free port in {_START_ATTEMPTS} attempts")

    def _wait_until_ready(self, runtime: ServerRuntime) -> bool:
        """Wait until the server answers; return False if its port was taken."""
        deadline = time.monotonic() + _START_SECONDS
        answered = None
        while True:
            with contextlib.suppress(ToxiproxyError):
                self.version = _version(self.api, self.run)
                answered = answered or time.monotonic()
            # It does not exit when its port is taken: only its log says so. Then another server answers at the port,
            # so an answer counts when the log shows our request, or (old servers do not log requests) when the
            # server has had time to log the error.
            said = runtime.last_output()
            if "address already in use" in said:
                return False
            if answered and (self.run in said or time.monotonic() > answered + _LOG_SECONDS):
                return True
            problem = runtime.ended()
            if problem is None:
                if time.monotonic() <= deadline:
                    time.sleep(0.02)
                    continue
                problem = f"did not answer at {self.url} within {_START_SECONDS:.0f} s"
            said = runtime.last_output() or "(nothing)"
            raise ToxiproxyUnavailable(f"{runtime.name} {problem}. It said:\n{said}")


def _why(failure: BaseException) -> str:
    """Return the system's reason for a request that failed, which is nested deep in it, or the text of requests."""
    seen: BaseException | None = failure
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    return str(failure)


def _version(api: ToxiproxyApi, token: str) -> str:
    answer = api.get(f"/version?run={token}", seconds=2.0)
    return str(answer["version"] if isinstance(answer, dict) else answer).strip()


@contextlib.contextmanager
def reserve_port() -> Iterator[socket.socket]:
    """Hold a free loopback port: a socket that is bound to it and does not listen.

    On Linux another socket with SO_REUSEADDR may bind the port by number and listen on it at the same time (Go sets
    the option), and the kernel gives it to no program that asks for any port. Elsewhere it must be closed first.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved
