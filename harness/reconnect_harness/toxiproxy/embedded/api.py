"""The HTTP API: the proxies by name, what each request does to them, and its answer."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from reconnect_harness.toxiproxy.embedded.body import ProxyBody, ToxicBody, ToxicChange, read
from reconnect_harness.toxiproxy.embedded.errors import ApiError, Conflict, NotFound
from reconnect_harness.toxiproxy.embedded.metrics import ToxiproxyMetrics
from reconnect_harness.toxiproxy.embedded.proxy import ToxicProxy
from reconnect_proxy.admin.server import AdminRequest, AdminResponse

VERSION = "2.12.0"
"""The version of Toxiproxy whose API this is, as /version answers it."""

_JSON = "application/json"

_log = logging.getLogger(__name__)

_Handler = Callable[..., Awaitable[AdminResponse]]
_ROUTES: dict[re.Pattern[str], dict[str, _Handler]] = {}


def _route(path: str, *methods: str) -> Callable[[_Handler], _Handler]:
    """Register a handler for a path. It is given the body, and the names at the places of {}."""
    handlers = _ROUTES.setdefault(re.compile(path.replace("{}", "([^/]+)")), {})

    def enter(handler: _Handler) -> _Handler:
        handlers.update(dict.fromkeys(methods, handler))
        return handler

    return enter


class Api:
    """Answers requests, one at a time, so that a change is complete before the next begins."""

    def __init__(self, metrics: ToxiproxyMetrics) -> None:
        self._metrics = metrics
        self._proxies: dict[str, ToxicProxy] = {}
        self._lock = asyncio.Lock()

    async def answer(self, request: AdminRequest) -> AdminResponse:
        """Do what a request asks for."""
        path = re.sub("/+", "/", unquote(request.target.partition("?")[0]))
        try:
            answer = await self._find(request, path)
        except ApiError as refused:
            answer = refusal(HTTPStatus(refused.status), str(refused))
        _log.debug("%s %s -> %d", request.method, request.target, answer.status)
        return replace(answer, headers=(*answer.headers, ("X-Toxiproxy-Request-Id", secrets.token_hex(10))))

    async def close(self) -> None:
        """Stop all proxies."""
        await asyncio.gather(*(proxy.stop() for proxy in self._proxies.values()))

    async def populate(self, body: bytes) -> tuple[list[ToxicProxy], ApiError | None]:
        """Make or replace the proxies of a list; one with the same addresses stays unchanged, with its toxics.

        Nothing is made if an entry is malformed. Returns the proxies up to the first that could not be made,
        and why it could not.
        """
        made: list[ToxicProxy] = []
        try:
            wanted = read(body, list[ProxyBody])
            for number, asked in enumerate(wanted, 1):
                asked.check(f" at proxy {number}")
            for asked in wanted:
                made.append(await self._put(asked))
        except ApiError as failure:
            return made, failure
        return made, None

    async def _find(self, request: AdminRequest, path: str) -> AdminResponse:
        found = [(match, handlers) for pattern, handlers in _ROUTES.items() if (match := pattern.fullmatch(path))]
        if not found or (path == "/metrics" and not self._metrics.enabled):
            return _plain(HTTPStatus.NOT_FOUND, "404 page not found")
        ((match, handlers),) = found
        handler = handlers.get(request.method)
        if handler is None:
            return AdminResponse(HTTPStatus.METHOD_NOT_ALLOWED, b"", None)
        # A page in a browser must not control a Toxiproxy on the user's machine.
        if request.headers.get("user-agent", "").startswith("Mozilla/"):
            return _plain(HTTPStatus.FORBIDDEN, "User agent not allowed")
        async with self._lock:
            return await handler(self, request.body, *match.groups())

    def _proxy(self, name: str) -> ToxicProxy:
        try:
            return self._proxies[name]
        except KeyError:
            raise NotFound("proxy not found") from None

    async def _put(self, asked: ProxyBody) -> ToxicProxy:
        existing = self._proxies.get(asked.name)
        if existing is not None:
            if not await existing.differs(asked.listen, asked.upstream):
                return existing
            await existing.stop()
        proxy = ToxicProxy(asked.name, asked.listen, asked.upstream, self._metrics)
        if asked.enabled:
            await proxy.start()
        self._proxies[proxy.name] = proxy
        return proxy

    @_route("/metrics", "GET")
    async def _show_metrics(self, _body: bytes) -> AdminResponse:
        return AdminResponse(HTTPStatus.OK, *self._metrics.render())

    @_route("/version", "GET")
    async def _version(self, _body: bytes) -> AdminResponse:
        return AdminResponse(HTTPStatus.OK, b'{"version": "%s"}\n' % VERSION.encode(), f"{_JSON};charset=utf-8")

    @_route("/reset", "POST")
    async def _reset(self, _body: bytes) -> AdminResponse:
        for proxy in self._proxies.values():
            if not proxy.enabled:
                await proxy.start()
            for toxic in list(proxy.toxics):
                proxy.remove_toxic(toxic)
        return _NO_CONTENT

    @_route("/proxies", "GET")
    async def _proxy_index(self, _body: bytes) -> AdminResponse:
        return _json({name: proxy.as_json() for name, proxy in sorted(self._proxies.items())})

    @_route("/proxies", "POST")
    async def _proxy_create(self, body: bytes) -> AdminResponse:
        asked = read(body, ProxyBody)
        asked.check()
        if asked.name in self._proxies:
            raise Conflict("proxy already exists")
        return _json((await self._put(asked)).as_json(), HTTPStatus.CREATED)

    @_route("/populate", "POST")
    async def _populate(self, body: bytes) -> AdminResponse:
        made, failure = await self.populate(body)
        shown = {"proxies": [proxy.as_json() for proxy in made] or None}
        if failure is None:
            return _json(shown, HTTPStatus.CREATED)
        return _json({"error": str(failure), "status": failure.status, **shown}, HTTPStatus(failure.status))

    @_route("/proxies/{}", "GET")
    async def _proxy_show(self, _body: bytes, name: str) -> AdminResponse:
        return _json(self._proxy(name).as_json())

    @_route("/proxies/{}", "POST", "PATCH")
    async def _proxy_update(self, body: bytes, name: str) -> AdminResponse:
        proxy = self._proxy(name)
        given = read(body, ProxyBody).model_dump(exclude_unset=True)
        await proxy.update(*(given.get(key, getattr(proxy, key)) for key in ("listen", "upstream", "enabled")))
        return _json(proxy.as_json())

    @_route("/proxies/{}", "DELETE")
    async def _proxy_delete(self, _body: bytes, name: str) -> AdminResponse:
        await self._proxy(name).stop()
        del self._proxies[name]
        return _NO_CONTENT

    @_route("/proxies/{}/toxics", "GET")
    async def _toxic_index(self, _body: bytes, name: str) -> AdminResponse:
        return _json(self._proxy(name).toxics_as_json())

    @_route("/proxies/{}/toxics", "POST")
    async def _toxic_create(self, body: bytes, name: str) -> AdminResponse:
        return _json(self._proxy(name).add_toxic(read(body, ToxicBody)).as_json())

    @_route("/proxies/{}/toxics/{}", "GET")
    async def _toxic_show(self, _body: bytes, name: str, toxic_name: str) -> AdminResponse:
        return _json(self._proxy(name).toxic(toxic_name).as_json())

    @_route("/proxies/{}/toxics/{}", "POST", "PATCH")
    async def _toxic_update(self, body: bytes, name: str, toxic_name: str) -> AdminResponse:
        proxy = self._proxy(name)
        toxic = proxy.toxic(toxic_name)
        proxy.change_toxic(toxic, read(body, ToxicChange))
        return _json(toxic.as_json())

    @_route("/proxies/{}/toxics/{}", "DELETE")
    async def _toxic_delete(self, _body: bytes, name: str, toxic_name: str) -> AdminResponse:
        proxy = self._proxy(name)
        proxy.remove_toxic(proxy.toxic(toxic_name))
        return _NO_CONTENT


def refusal(status: HTTPStatus, detail: str) -> AdminResponse:
    """Return the answer to a request that is refused; as in the original, such JSON is served as plain text."""
    return _plain(status, _dump({"error": detail, "status": int(status)}))


def _plain(status: HTTPStatus, text: str) -> AdminResponse:
    body = f"{text}\n".encode(errors="replace")
    return AdminResponse(status, body, "text/plain; charset=utf-8", (("X-Content-Type-Options", "nosniff"),))


def _json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> AdminResponse:
    return AdminResponse(status, _dump(value).encode(errors="replace"), _JSON)


def _dump(value: Any) -> str:
    """Return JSON as the original writes it: without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


_NO_CONTENT = AdminResponse(HTTPStatus.NO_CONTENT, b"", None)
