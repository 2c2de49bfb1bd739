"""What an operator may ask of a running proxy, over HTTP on a listener of its own.

| path | answer |
| --- | --- |
| `/healthz` | 200 while the process serves |
| `/readyz` | 200, or 503 from the moment the proxy was told to stop |
| `/metrics` | the metrics, in Prometheus' text format |
| `/sessions` | the living sessions as JSON, their ids cut short: an id is a secret (PROTOCOL.md section 7) |

A connection is for one request. Its head is bounded in size and the whole of it in time, so that a peer that
stalls costs no more than a socket for a few seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from http import HTTPStatus
from types import TracebackType
from typing import Self

import h11
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from .config import Address
from .proxy import Proxy
from .sessions import SessionInfo

__all__ = ["Admin"]

#: Bytes of a request's head at the most.
MAX_HEAD = 16 * 1024
#: Seconds for a request to arrive, and again for its answer to leave.
PATIENCE = 5.0

JSON = "application/json"
SESSION_FIELDS = tuple(field.name for field in fields(SessionInfo))

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer to a request. `allow` names the methods of a path that was asked with another one."""

    status: HTTPStatus
    body: bytes
    content_type: str = JSON
    allow: str = ""


def refusal(status: HTTPStatus, detail: str, allow: str = "") -> Response:
    """Return an error as JSON: its `error` in words, and a `detail` that says what would be right."""
    return as_json({"error": status.phrase.lower(), "detail": detail}, status, allow)


def as_json(value: object, status: HTTPStatus = HTTPStatus.OK, allow: str = "") -> Response:
    """Return `value` as a JSON response."""
    return Response(status, json.dumps(value).encode() + b"\n", allow=allow)


class Admin:
    """Serves the admin paths on `address` while its `async with` block runs.

    Raises:
        OSError: on entering, when the address cannot be had.

    """

    def __init__(self, address: Address, proxy: Proxy, registry: CollectorRegistry) -> None:
        self.address = address
        self._proxy = proxy
        self._registry = registry
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        # The extension point: a path has a handler for each of its methods, and HEAD goes with GET.
        self._routes: dict[str, dict[str, Callable[[], Response]]] = {
            "/healthz": {"GET": self._health},
            "/readyz": {"GET": self._readiness},
            "/metrics": {"GET": self._metrics},
            "/sessions": {"GET": self._sessions},
        }

    async def __aenter__(self) -> Self:
        """Start listening."""
        self._server = await asyncio.start_server(self._serve, self.address.host, self.address.port)
        if self.address.port == 0:
            self.address = Address(self.address.host, self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, and drop the requests that are not answered yet."""
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it listens: `http://127.0.0.1:9125`."""
        return f"http://{self.address}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        try:
            response, head_only = await self._read_and_answer(http, reader)
            if response is not None:
                async with asyncio.timeout(PATIENCE):
                    writer.write(_encode(http, response, head_only))
                    await writer.drain()
        except (OSError, TimeoutError) as error:
            logger.debug("admin connection lost: %s", error or "the peer does not read")
        finally:
            writer.close()

    async def _read_and_answer(
        self, http: h11.Connection, reader: asyncio.StreamReader
    ) -> tuple[Response | None, bool]:
        """Return the answer to the request, None if none arrives, and whether it goes without its body."""
        try:
            async with asyncio.timeout(PATIENCE):
                while (event := http.next_event()) is h11.NEED_DATA:
                    http.receive_data(await reader.read(MAX_HEAD))
        except TimeoutError:
            detail = f"the request did not arrive within {PATIENCE:g} s"
            return refusal(HTTPStatus.REQUEST_TIMEOUT, detail), False
        except h11.RemoteProtocolError as error:
            return refusal(HTTPStatus(error.error_status_hint), f"not a request that can be read: {error}"), False
        if not isinstance(event, h11.Request):
            return None, False
        method = event.method.decode()
        return self._answer(method, event.target.decode().partition("?")[0]), method == "HEAD"

    def _answer(self, method: str, path: str) -> Response:
        route = self._routes.get(path)
        if route is None:
            return refusal(HTTPStatus.NOT_FOUND, f"there is no {path}; there are {', '.join(self._routes)}")
        handler = route.get("GET" if method == "HEAD" else method)
        if handler is None:
            allow = ", ".join([*route, "HEAD"])
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not for {path}: use {allow}", allow)
        return handler()

    def _health(self) -> Response:
        return as_json({"status": "ok"})

    def _readiness(self) -> Response:
        if self._proxy.draining:
            return as_json({"status": "draining"}, HTTPStatus.SERVICE_UNAVAILABLE)
        return as_json({"status": "ready"})

    def _metrics(self) -> Response:
        return Response(HTTPStatus.OK, generate_latest(self._registry), CONTENT_TYPE_LATEST)

    def _sessions(self) -> Response:
        # Not `dataclasses.asdict`, which copies deeply: with ten thousand sessions it would hold the loop for 150 ms.
        sessions = self._proxy.sessions()
        return as_json({"sessions": [{name: getattr(each, name) for name in SESSION_FIELDS} for each in sessions]})


def _encode(http: h11.Connection, response: Response, head_only: bool) -> bytes:
    """Return the bytes of `response`, with which the connection ends."""
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ]
    if response.allow:
        headers.append(("Allow", response.allow))
    head = http.send(h11.Response(status_code=response.status, headers=headers, reason=response.status.phrase))
    body = b"" if head_only else http.send(h11.Data(data=response.body))
    return (head or b"") + (body or b"")
