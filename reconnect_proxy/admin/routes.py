"""What an operator can ask a running proxy, over HTTP on a listener of its own.

| path | answer |
| --- | --- |
| `GET /healthz` | 200 while the process serves |
| `GET /readyz` | 200, or 503 with a reason: it is being stopped, or no upstream can be reached |
| `GET /metrics` | the metrics, as Prometheus text or OpenMetrics |
| `GET /sessions` | the sessions as JSON, the oldest first, a page at a time: `?limit=`, `?offset=`, `?state=` |
| `DELETE /sessions/ID` | ends a session; ID is the whole id, or what `/sessions` shows of it |

With a token, all but the first two need it (`Authorization: Bearer TOKEN`). Without one, everyone who can connect may
ask. On loopback these are this machine's users, and through the browser of one of them any web page. A page could use a
host name of its own that resolves to this machine (DNS rebinding), so only addresses and `localhost` are answered. A
page could also send a request without seeing the answer, so a request with `Origin` may only read.
"""

from __future__ import annotations

import gzip
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import parse_qs, unquote

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from ..config.values import Address
from ..events import AdminRefused, Observe, short_id
from ..proxy import END_CODE, END_REASON
from .server import AdminRequest, AdminResponse, AdminServer
from .view import STATES, SessionsView, Unanswered

#: Sessions on a page of `/sessions`, by default and at most.
PAGE, LARGEST_PAGE = 100, 1000
logger = logging.getLogger(__name__)

#: Answers a request to a path. The argument is the part of the path behind its last `/`, if the route ends with `/`.
Handler = Callable[[AdminRequest, str], Awaitable[AdminResponse]]


class Scraped(Protocol):
    """What `/metrics` shows."""

    async def scrape(self, encode: Callable[[Collector], bytes]) -> bytes:
        """Return all metrics as `encode` writes them."""


class AdminError(Exception):
    """The answer to a request is an error: `status`, and a sentence that says what would be right."""

    def __init__(self, status: HTTPStatus, detail: str, *headers: tuple[str, str]) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Route:
    """A path, the handler of each of its methods (HEAD goes with GET), and whether it needs no token."""

    path: str
    handlers: dict[str, Handler]
    public: bool = False


class Admin:
    """Serves the admin paths on `address` while its `async with` block runs.

    Raises:
        OSError: on entering, if the address cannot be bound.

    """

    def __init__(
        self, address: Address, sessions: SessionsView, metrics: Scraped, observe: Observe, token: str | None = None
    ) -> None:
        """Make a listener, which does not listen yet.

        Args:
            address: where to listen; port 0 takes any free one.
            sessions: what is shown and ended.
            metrics: what `/metrics` shows.
            observe: is told of refused requests.
            token: the token that requests must have; None: none.
        """
        self._server = AdminServer(address, self._answer, refusal)
        self._sessions = sessions
        self._metrics = metrics
        self._observe = observe
        self._token = token
        self._routes = (
            Route("/healthz", {"GET": self._health}, public=True),
            Route("/readyz", {"GET": self._readiness}, public=True),
            Route("/metrics", {"GET": self._show_metrics}),
            Route("/sessions", {"GET": self._list_sessions}),
            Route("/sessions/", {"DELETE": self._end_session}),
        )

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        if self._token is None and not self._server.loopback:
            logger.warning("admin unprotected", extra={"fields": {"url": self.url, "remedy": "--admin-token-file"}})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, and drop the requests that are not answered yet."""
        await self._server.__aexit__(kind, error, trace)

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was taken."""
        return self._server.address

    @property
    def url(self) -> str:
        """Where it listens: `http://127.0.0.1:9125`."""
        return self._server.url

    # Which route, and who may take it.

    async def _answer(self, request: AdminRequest) -> AdminResponse:
        path = request.target.partition("?")[0]
        route, argument = self._route(path)
        try:
            self._check(request, route)
            return await self._handler(request, route, path)(request, argument)
        except Unanswered as error:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except AdminError as error:
            if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.MISDIRECTED_REQUEST):
                # The route and not the path, which may have a whole id in it.
                self._observe(AdminRefused(error.status.value, route.path if route else "other", request.peer))
            return refusal(error.status, str(error), *error.headers)

    def _handler(self, request: AdminRequest, route: Route | None, path: str) -> Handler:
        if route is None:
            paths = ", ".join(each.path for each in self._routes)
            raise AdminError(HTTPStatus.NOT_FOUND, f"there is no {path[:100]}; there are {paths}")
        handler = route.handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allow = ", ".join([*route.handlers, *(["HEAD"] if "GET" in route.handlers else [])])
            detail = f"{request.method[:20]} is not for {route.path}: use {allow}"
            raise AdminError(HTTPStatus.METHOD_NOT_ALLOWED, detail, ("Allow", allow))
        return handler

    def _route(self, path: str) -> tuple[Route | None, str]:
        """Return the route of `path`, None if there is none, and its argument."""
        start, _, argument = path.rpartition("/")
        for route in self._routes:
            if route.path == path and not route.path.endswith("/"):
                return route, ""
            if route.path == f"{start}/" and start and argument:
                return route, unquote(argument)
        return None, ""

    def _check(self, request: AdminRequest, route: Route | None) -> None:
        """Refuse a request without a token if it needs one, and a request that a web page may have caused."""
        if route is not None and route.public:
            return
        if self._token is not None:
            kind, _, given = request.headers.get("authorization", "").partition(" ")
            given = given.strip()
            if kind.lower() != "bearer" or not hmac.compare_digest(given.encode(), self._token.encode()):
                challenge = 'Bearer realm="reconnect-proxy"' + (', error="invalid_token"' if given else "")
                detail = "this needs the admin token: send Authorization: Bearer TOKEN"
                raise AdminError(HTTPStatus.UNAUTHORIZED, detail, ("WWW-Authenticate", challenge))
        elif self._server.loopback and not is_local_name(request.headers.get("host", "")):
            detail = "without a token this is answered to localhost or an address only, not to other names"
            raise AdminError(HTTPStatus.MISDIRECTED_REQUEST, detail)
        if request.method not in ("GET", "HEAD") and "origin" in request.headers:
            raise AdminError(HTTPStatus.FORBIDDEN, "a web page may not do this: send it without Origin")

    # What it answers.

    async def _health(self, request: AdminRequest, argument: str) -> AdminResponse:
        return as_json({"status": "ok"})

    async def _readiness(self, request: AdminRequest, argument: str) -> AdminResponse:
        reason = await self._sessions.ready()
        if reason is None:
            return as_json({"status": "ready"})
        return as_json({"status": "not ready", "reason": reason}, HTTPStatus.SERVICE_UNAVAILABLE)

    async def _show_metrics(self, request: AdminRequest, argument: str) -> AdminResponse:
        try:
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
        except (ValueError, TypeError):
            # The version is not a number, and prometheus_client does not check that before comparing it.
            encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        body = await self._metrics.scrape(encode)
        headers: tuple[tuple[str, str], ...] = (("Vary", "Accept, Accept-Encoding"),)
        if gzip_accepted(request.headers.get("accept-encoding", "")):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers += (("Content-Encoding", "gzip"),)
        return AdminResponse(HTTPStatus.OK, body, content_type, headers)

    async def _list_sessions(self, request: AdminRequest, argument: str) -> AdminResponse:
        query = read_query(request)
        limit = _whole(query, "limit", PAGE, LARGEST_PAGE)
        offset = _whole(query, "offset", 0, 10**9)
        state = query.get("state")
        if state is not None and state not in STATES:
            raise AdminError(HTTPStatus.BAD_REQUEST, f"state is {state[:40]!r}; it can be {', '.join(STATES)}")
        total, sessions = await self._sessions.page(state, offset, limit)
        frame = {"total": total, "offset": offset, "limit": limit}
        body = json.dumps(frame)[:-1] + ', "sessions": [' + ", ".join(sessions) + "]}\n"
        return AdminResponse(HTTPStatus.OK, body.encode())

    async def _end_session(self, request: AdminRequest, name: str) -> AdminResponse:
        found, id_short = await self._sessions.end(name, request.peer)
        shown = name if name == short_id(name) or len(name) < len(short_id(name)) else short_id(name)
        if not found:
            raise AdminError(HTTPStatus.NOT_FOUND, f"there is no session {shown}")
        if found > 1:
            raise AdminError(HTTPStatus.CONFLICT, f"{found} sessions are shown as {shown}: name one by its whole id")
        return as_json({"ended": id_short, "code": END_CODE, "reason": END_REASON})


def refusal(status: HTTPStatus, detail: str, *headers: tuple[str, str]) -> AdminResponse:
    """Return an error as JSON: the `error` in words, and a `detail` that says what would be right."""
    return as_json({"error": status.phrase.lower(), "detail": detail}, status, *headers)


def as_json(value: object, status: HTTPStatus = HTTPStatus.OK, *headers: tuple[str, str]) -> AdminResponse:
    return AdminResponse(status, json.dumps(value).encode() + b"\n", headers=headers)


def is_local_name(host: str) -> bool:
    """Tell whether the name in a Host header is an address or localhost, which no name server can resolve otherwise."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost" or name.lower().endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def read_query(request: AdminRequest) -> dict[str, str]:
    """Return the parameters of a request's query. If one is given twice, the last counts."""
    try:
        given = parse_qs(request.target.partition("?")[2], keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise AdminError(HTTPStatus.BAD_REQUEST, "the query has more than 20 parameters") from None
    return {name: values[-1] for name, values in given.items()}


def _whole(query: dict[str, str], name: str, default: int, largest: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= largest):
        raise AdminError(HTTPStatus.BAD_REQUEST, f"{name} is {text[:40]!r}; it is a whole number up to {largest}")
    return int(text)
