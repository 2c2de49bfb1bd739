"""The HTTP API: what each request does, and its answer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

from reconnect_harness.toxiproxy.embedded.address import AddressError
from reconnect_harness.toxiproxy.embedded.body import decode, fields
from reconnect_harness.toxiproxy.embedded.errors import ApiError
from reconnect_harness.toxiproxy.embedded.metrics import ToxiproxyMetrics
from reconnect_harness.toxiproxy.embedded.proxies import PROXY_FIELDS, ProxyCollection

VERSION = "2.12.0"
"""The version of Toxiproxy whose API this is, as /version answers it."""

_JSON = "application/json"
_PLAIN = "text/plain; charset=utf-8"


class ApiRequest(NamedTuple):
    """A request. `target` is its quoted path and its query."""

    method: str
    target: str
    user_agent: str
    body: bytes


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An answer. `headers` are those other than Content-Type and Content-Length."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


_Handler = Callable[["Api", ApiRequest, dict[str, str]], Awaitable[ApiAnswer]]
_ROUTES: list[tuple[re.Pattern[str], tuple[str, ...], _Handler]] = []


def _route(path: str, *methods: str) -> Callable[[_Handler], _Handler]:
    """Register a handler for a path, in which {…} stands for a name."""
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))

    def enter(handler: _Handler) -> _Handler:
        _ROUTES.append((pattern, methods, handler))
        return handler

    return enter


class Api:
    """Answers requests about `proxies`, one at a time, so that a change is complete before the next begins."""

    def __init__(self, proxies: ProxyCollection, metrics: ToxiproxyMetrics) -> None:
        self._proxies = proxies
        self._metrics = metrics
        self._lock = asyncio.Lock()

    async def answer(self, request: ApiRequest) -> ApiAnswer:
        """Do what a request asks for."""
        quoted = request.target.partition("?")[0]
        path = unquote(quoted)
        if "//" in path:
            return ApiAnswer(301, headers={"Location": re.sub("/+", "/", quoted)})
        found = [(match, methods, handler) for p, methods, handler in _ROUTES if (match := p.fullmatch(path))]
        if not found or (path == "/metrics" and not self._metrics.enabled):
            return _plain_error("404 page not found", 404)
        for match, methods, handler in found:
            if request.method in methods:
                # A page in a browser must not control a Toxiproxy on the user's machine.
                if request.user_agent.startswith("Mozilla/"):
                    return _plain_error("User agent not allowed", 403)
                return await self._handle(handler, request, match.groupdict())
        return ApiAnswer(405)

    async def _handle(self, handler: _Handler, request: ApiRequest, names: dict[str, str]) -> ApiAnswer:
        async with self._lock:
            try:
                return await handler(self, request, names)
            except ApiError as refused:
                return _error(refused, refused.status)
            except AddressError as failure:
                return _error(failure, 500)

    @_route("/metrics", "GET")
    async def _show_metrics(self, _request: ApiRequest, _names: dict[str, str]) -> ApiAnswer:
        text, content_type = self._metrics.render()
        return ApiAnswer(200, text, content_type)

    @_route("/version", "GET")
    async def _version(self, _request: ApiRequest, _names: dict[str, str]) -> ApiAnswer:
        return ApiAnswer(200, b'{"version": "%s"}\n' % VERSION.encode(), f"{_JSON};charset=utf-8")

    @_route("/reset", "POST")
    async def _reset(self, _request: ApiRequest, _names: dict[str, str]) -> ApiAnswer:
        for proxy in self._proxies:
            if not proxy.enabled:
                await proxy.start()
            await proxy.toxics.reset()
        return ApiAnswer(204)

    @_route("/proxies", "GET")
    async def _proxy_index(self, _request: ApiRequest, _names: dict[str, str]) -> ApiAnswer:
        return _json({proxy.name: proxy.as_json() for proxy in sorted(self._proxies, key=lambda proxy: proxy.name)})

    @_route("/proxies", "POST")
    async def _proxy_create(self, request: ApiRequest, _names: dict[str, str]) -> ApiAnswer:
        return _json((await self._proxies.create(request.body)).as_json(), 201)

    @_route("/populate", "POST")
    async def _populate(self, request: ApiRequest, _names: dict[str, str]) -> ApiAnswer:
        made, failure = await self._proxies.populate(request.body)
        body: dict[str, Any] = {}
        status = 201
        if failure is not None:
            status = failure.status if isinstance(failure, ApiError) else 500
            body = {"error": str(failure), "status": status}
        return _json({**body, "proxies": [proxy.as_json() for proxy in made] or None}, status)

    @_route("/proxies/{proxy}", "GET")
    async def _proxy_show(self, _request: ApiRequest, names: dict[str, str]) -> ApiAnswer:
        return _json(self._proxies.get(names["proxy"]).as_json())

    @_route("/proxies/{proxy}", "POST", "PATCH")
    async def _proxy_update(self, request: ApiRequest, names: dict[str, str]) -> ApiAnswer:
        proxy = self._proxies.get(names["proxy"])
        asked = fields(decode(request.body), PROXY_FIELDS)
        await proxy.update(
            asked.get("listen", proxy.listen),
            asked.get("upstream", proxy.upstream),
            asked.get("enabled", proxy.enabled),
        )
        return _json(proxy.as_json())

    @_route("/proxies/{proxy}", "DELETE")
    async def _proxy_delete(self, _request: ApiRequest, names: dict[str, str]) -> ApiAnswer:
        await self._proxies.remove(names["proxy"])
        return ApiAnswer(204)

    @_route("/proxies/{proxy}/toxics", "GET")
    async def _toxic_index(self, _request: ApiRequest, names: dict[str, str]) -> ApiAnswer:
        return _json([toxic.as_json() for toxic in self._proxies.get(names["proxy"]).toxics])

    @_route("/proxies/{proxy}/toxics", "POST")
    async def _toxic_create(self, request: ApiRequest, names: dict[str, str]) -> ApiAnswer:
        return _json(self._proxies.get(names["proxy"]).toxics.add(request.body).as_json())

    @_route("/proxies/{proxy}/toxics/{toxic}", "GET")
    async def _toxic_show(self, _request: ApiRequest, names: dict[str, str]) -> ApiAnswer:
        return _json(self._proxies.get(names["proxy"]).toxics.get(names["toxic"]).as_json())

    @_route("/proxies/{proxy}/toxics/{toxic}", "POST", "PATCH")
    async def _toxic_update(self, request: ApiRequest, names: dict[str, str]) -> ApiAnswer:
        return _json((await self._proxies.get(names["proxy"]).toxics.update(names["toxic"], request.body)).as_json())

    @_route("/proxies/{proxy}/toxics/{toxic}", "DELETE")
    async def _toxic_delete(self, _request: ApiRequest, names: dict[str, str]) -> ApiAnswer:
        toxics = self._proxies.get(names["proxy"]).toxics
        await toxics.remove(toxics.get(names["toxic"]))
        return ApiAnswer(204)


def _json(value: Any, status: int = 200) -> ApiAnswer:
    return ApiAnswer(status, _dump(value), _JSON)


def _error(failure: Exception, status: int) -> ApiAnswer:
    return _plain_error(_dump({"error": str(failure), "status": status}).decode(), status)


def _plain_error(text: str, status: int) -> ApiAnswer:
    # As in the original, JSON errors are served as plain text, too.
    return ApiAnswer(status, f"{text}\n".encode(), _PLAIN, {"X-Content-Type-Options": "nosniff"})


def _dump(value: Any) -> bytes:
    """Return JSON as the original writes it: without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
