"""An HTTP client that returns complete answers, and sockets through the proxies that it makes."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.reconnect_harness.toxiproxy.wires import PATIENCE


class Answer(NamedTuple):
    """The answer of the server."""

    status: int
    body: str
    content_type: str | None

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


class Client:
    """Speaks HTTP with a Toxiproxy on one connection that is kept alive."""

    def __init__(self, host: str, port: int) -> None:
        self._http = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self("GET", "/proxies").json:
            self("DELETE", f"/proxies/{name}")
        self.close()

    def close(self) -> None:
        """Close all sockets; the server is not changed."""
        self._stack.close()
        self._http.close()

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Send a request; a body that is not a string is sent as JSON."""
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        self._http.request(method, path, None if text is None else text.encode(), headers or {})
        answer = self._http.getresponse()
        return Answer(answer.status, answer.read().decode(), answer.getheader("Content-Type"))

    def proxy(self) -> ProxyUnderTest:
        """Return a new proxy with an upstream of its own."""
        return self._stack.enter_context(ProxyUnderTest(self, f"proxy{next(self._numbers)}"))


class ProxyUnderTest:
    """A proxy on the server, and the listener that is its upstream."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._stack = contextlib.ExitStack()
        self.path = f"/proxies/{name}"
        self.listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listener.settimeout(PATIENCE)
        self.upstream = f"127.0.0.1:{self.listener.getsockname()[1]}"
        made = client("POST", "/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": self.upstream})
        assert made.status == 201, made
        self.listen: str = made.json["listen"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def dial(self) -> socket.socket:
        """Return the client's end of a new connection."""
        host, port = self.listen.split(":")
        return self._stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """Return the two ends of a new connection: the client's, the upstream's."""
        client = self.dial()
        upstream, _ = self.listener.accept()
        self._stack.enter_context(upstream)
        upstream.settimeout(PATIENCE)
        return client, upstream

    def ends(self, stream: str) -> tuple[socket.socket, socket.socket]:
        """Return the two ends of a new connection, first the one that sends what `stream` carries."""
        client, upstream = self.connect()
        return (client, upstream) if stream == "upstream" else (upstream, client)

    def enable(self, enabled: bool) -> None:
        """Enable or disable it."""
        answer = self._client("POST", self.path, {"enabled": enabled})
        assert (answer.status, answer.json["enabled"], answer.json["listen"]) == (200, enabled, self.listen)

    def add(self, kind: str, stream: str, toxicity: float = 1.0, /, **attributes: int) -> str:
        """Put a toxic on it, and return the toxic's name."""
        asked = {"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        answer = self._client("POST", f"{self.path}/toxics", asked)
        assert answer.status == 200, answer
        return str(answer.json["name"])

    def update(self, name: str, toxicity: float | None = None, /, **attributes: int) -> None:
        """Change a toxic."""
        asked = {"attributes": attributes} | ({} if toxicity is None else {"toxicity": toxicity})
        answer = self._client("PATCH", f"{self.path}/toxics/{name}", asked)
        assert answer.status == 200, answer

    def remove(self, name: str) -> None:
        """Remove a toxic."""
        answer = self._client("DELETE", f"{self.path}/toxics/{name}")
        assert answer.status == 204, answer
