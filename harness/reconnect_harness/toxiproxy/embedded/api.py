"""The HTTP API: which request does what, and what it is answered."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

from reconnect_harness.toxiproxy.embedded import VERSION
from reconnect_harness.toxiproxy.embedded.address import AddressError
from reconnect_harness.toxiproxy.embedded.body import decode, fields
from reconnect_harness.toxiproxy.embedded.errors import ApiError
from reconnect_harness.toxiproxy.embedded.proxies import PROXY_FIELDS, ProxyCollection

_JSON = "application/json"
_PLAIN = "text/plain; charset=utf-8"


class Request(NamedTuple):
    """A request. `target` is its path, quoted, and its query."""

    method: str
    target: str
    user_agent: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. `headers` are those besides Content-Type and Content-Length."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


_Handler = Callable[["Api", Request, dict[str, str]], Awaitable[Answer]]
_ROUTES: list[tuple[re.Pattern[str], tuple[str, ...], _Handler]] = []


def _route(path: str, *methods: str) -> Callable[[_Handler], _Handler]:
    """Enter a handler for a path, in which {…} stands for a name."""
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))

    def enter(handler: _Handler) -> _Handler:
        _ROUTES.append((pattern, methods, handler))
        return handler

    return enter


class Api:
    """Answers requests about `proxies`, one at a time, so that a change is whole before the next is looked at."""

    def __init__(self, proxies: ProxyCollection) -> None:
        self._proxies = proxies
        self._lock = asyncio.Lock()

    async def answer(self, request: Request) -> Answer:
        """Do what a request asks for."""
        quoted = request.target.partition("?")[0]
        path = unquote(quoted)
        if "//" in path:
            return Answer(301, headers={"Location": re.sub("/+", "/", quoted)})
        found = [(match, methods, handler) for p, methods, handler in _ROUTES if (match := p.fullmatch(path))]
        if not found:
            return _plain_error("404 page not found", 404)
        for match, methods, handler in found:
            if request.method in methods:
                if request.user_agent.startswith("Mozilla/"):
                    return _plain_error("User agent not allowed", 403)
                return await self._handle(handler, request, match.groupdict())
        return Answer(405)

    async def _handle(self, handler: _Handler, request: Request, names: dict[str, str]) -> Answer:
        async with self._lock:
            try:
                return await handler(self, request, names)
            except ApiError as refused:
                return _error(refused, refused.status)
            except AddressError as failure:
                return _error(failure, 500)

    @_route("/version", "GET")
    async def _version(self, _request: Request, _names: dict[str, str]) -> Answer:
        return Answer(200, b'{"version": "%s"}\n' % VERSION.encode(), f"{_JSON};charset=utf-8")

    @_route("/reset", "POST")
    async def _reset(self, _request: Request, _names: dict[str, str]) -> Answer:
        for proxy in self._proxies:
            if not proxy.enabled:
                await proxy.start()
            await proxy.toxics.reset()
        return Answer(204)

    @_route("/proxies", "GET")
    async def _proxy_index(self, _request: Request, _names: dict[str, str]) -> Answer:
        return _json({proxy.name: proxy.as_json() for proxy in sorted(self._proxies, key=lambda proxy: proxy.name)})

    @_route("/proxies", "POST")
    async def _proxy_create(self, request: Request, _names: dict[str, str]) -> Answer:
        return _json((await self._proxies.create(request.body)).as_json(), 201)

    @_route("/populate", "POST")
    async def _populate(self, request: Request, _names: dict[str, str]) -> Answer:
        made, failure = await self._proxies.populate(request.body)
        body: dict[str, Any] = {}
        status = 201
        if failure is not None:
            status = failure.status if isinstance(failure, ApiError) else 500
            body = {"error": str(failure), "status": status}
        return _json({**body, "proxies": [proxy.as_json() for proxy in made] or None}, status)

    @_route("/proxies/{proxy}", "GET")
    async def _proxy_show(self, _request: Request, names: dict[str, str]) -> Answer:
        return _json(self._proxies.get(names["proxy"]).as_json())

    @_route("/proxies/{proxy}", "POST", "PATCH")
    async def _proxy_update(self, request: Request, names: dict[str, str]) -> Answer:
        proxy = self._proxies.get(names["proxy"])
        asked = fields(decode(request.body), PROXY_FIELDS, "Proxy", "toxiproxy.Proxy")
        await proxy.update(
            asked.get("listen", proxy.listen),
            asked.get("upstream", proxy.upstream),
            asked.get("enabled", proxy.enabled),
        )
        return _json(proxy.as_json())

    @_route("/proxies/{proxy}", "DELETE")
    async def _proxy_delete(self, _request: Request, names: dict[str, str]) -> Answer:
        await self._proxies.remove(names["proxy"])
        return Answer(204)

    @_route("/proxies/{proxy}/toxics", "GET")
    async def _toxic_index(self, _request: Request, names: dict[str, str]) -> Answer:
        return _json([toxic.as_json() for toxic in self._proxies.get(names["proxy"]).toxics])

    @_route("/proxies/{proxy}/toxics", "POST")
    async def _toxic_create(self, request: Request, names: dict[str, str]) -> Answer:
        return _json(self._proxies.get(names["proxy"]).toxics.add(request.body).as_json())

    @_route("/proxies/{proxy}/toxics/{toxic}", "GET")
    async def _toxic_show(self, _request: Request, names: dict[str, str]) -> Answer:
        return _json(self._proxies.get(names["proxy"]).toxics.get(names["toxic"]).as_json())

    @_route("/proxies/{proxy}/toxics/{toxic}", "POST", "PATCH")
    async def _toxic_update(self, request: Request, names: dict[str, str]) -> Answer:
        return _json((await self._proxies.get(names["proxy"]).toxics.update(names["toxic"], request.body)).as_json())

    @_route("/proxies/{proxy}/toxics/{toxic}", "DELETE")
    async def _toxic_delete(self, _request: Request, names: dict[str, str]) -> Answer:
        toxics = self._proxies.get(names["proxy"]).toxics
        await toxics.remove(toxics.get(names["toxic"]))
        return Answer(204)


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, _dump(value), _JSON)


def _error(failure: Exception, status: int) -> Answer:
    return _plain_error(_dump({"error": str(failure), "status": status}).decode(), status)


def _plain_error(text: str, status: int) -> Answer:
    # JSON errors, too, are served as plain text: Go's http.Error does it.
    return Answer(status, f"{text}\n".encode(), _PLAIN, {"X-Content-Type-Options": "nosniff"})


def _dump(value: Any) -> bytes:
    """Return JSON as Go writes it: without spaces, and safe inside of HTML."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode(errors="replace")
