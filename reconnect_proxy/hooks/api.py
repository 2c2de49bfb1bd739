"""Hooks: how a program that embeds the proxy takes part in the life of its sessions.

    class Guard(Hooks):
        def on_session(self, session):
            if "authorization" not in session.request.headers:
                raise Refuse(401, "say who you are", {"WWW-Authenticate": "Bearer"})

    async with Proxy(upstream="ws://127.0.0.1:8080", hooks=Guard()) as proxy: ...

A program overrides the methods that it needs. Methods that it does not override cost nothing, above all `on_message`.

**Hooks are plain functions, called on the event loop.** Messages pass from the read of one socket to the write of the
other without a task or a queue that could wait, which keeps their order. So a hook must return at once. Longer work
belongs in a task of the program's own, which then calls `Session.close` or `Session.send_to_client`.

**A hook that fails harms only what it was called for**, see each hook. Its error is logged and counted
(`reconnect_proxy_hook_errors_total`). An invalid return value is an error too.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from multidict import CIMultiDict

from ..close_codes import REASON_LIMIT, check_close_code
from ..core.message import Direction, Opcode
from ..events import LegName, short_id
from ..net.forwarding import is_field

__all__ = ["ClientRequest", "Direction", "Hooks", "LegName", "Message", "Refuse", "Session", "load_hooks"]

#: Headers that the proxy itself writes in the answer to a refused client.
_OF_THE_ANSWER = frozenset({"connection", "content-length", "content-type", "transfer-encoding"})

_LOG = logging.getLogger("reconnect_proxy")


class Refuse(Exception):
    """Raised by `on_session` or `on_join`: the client is answered with an HTTP error instead of a WebSocket."""

    def __init__(self, status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Refuse a client.

        Args:
            status: the HTTP status, 400 to 599, such as 401 or 403.
            detail: a text for the client, in the JSON body of the answer.
            headers: further headers of the answer, such as the `WWW-Authenticate` of a 401.

        Raises:
            TypeError: the detail is not a `str`.
            ValueError: the status is not an HTTP error, or a header cannot be set: it has a line end, or it is one of
                the headers that frame the answer.
        """
        super().__init__(detail)
        if status not in [each.value for each in HTTPStatus] or not 400 <= status <= 599:
            raise ValueError(f"{status!r} does not refuse a client: give the status of an HTTP error, 400 to 599")
        if not isinstance(detail, str):
            raise TypeError(f"the detail is a {type(detail).__name__}; give a str, which the client reads")
        for name, value in (headers or {}).items():
            if not is_field(name, value) or name.lower() in _OF_THE_ANSWER:
                raise ValueError(f"{name!r} is not a header that can be set, or {value!r} is not a value for it")
        self.status = HTTPStatus(status)
        self.detail = detail
        self.headers = dict(headers or {})


class ClientRequest(NamedTuple):
    """A client's handshake. It is read-only."""

    #: The client's IP address. Behind another proxy it is the address of that proxy: see `headers["X-Forwarded-For"]`.
    client: str
    #: Path and query, without the query parameters of the reconnect protocol.
    path: str
    #: By name in any case. `headers.getall(name)` returns all values of a header that came several times (`multidict`).
    headers: Mapping[str, str]


class Message(NamedTuple):
    """A whole data message, as it came."""

    direction: Direction
    #: The payload. That of a text message is UTF-8.
    data: bytes
    is_text: bool

    @property
    def text(self) -> str:
        """The payload of a text message. Raises ValueError if it is binary."""
        if not self.is_text:
            raise ValueError("this message is binary: read its data, or ask is_text first")
        return self.data.decode()


class RunningSession(Protocol):
    """What the methods of a `Session` are passed on to: a `core.context.Context`."""

    @property
    def session_id(self) -> str | None:
        """The id of the session; None until its upstream has sent it."""

    def close(self, code: int, reason: str, error: str, by_proxy: bool) -> None:
        """End the session. Clients that wait for its first dial are refused with the short name `error`.

        `by_proxy`: the reason is the proxy's own, and not that of the program.
        """

    def add(self, towards: LegName, message: tuple[int, bytes]) -> bool:
        """Send a message of the program to a leg. Returns False if it is too late."""


class Session:
    """A session as hooks see it. The same object is passed to each hook of one session.

    `request` is the client's request that opened it, `attributes` a dictionary for the program. Call its methods in the
    thread of the event loop; from another thread use `loop.call_soon_threadsafe(session.close)`.
    """

    __slots__ = (
        "_asked_to_close",
        "_context",
        "_id",
        "_over",
        "attributes",
        "request",
        "uncertain_c2u",
        "uncertain_u2c",
        "upstream_headers",
    )

    def __init__(self, session_id: str | None, request: ClientRequest) -> None:
        """Make the view of a session, which `begin` will name. The proxy calls this."""
        self.request = request
        self.attributes: dict[str, Any] = {}
        #: Headers for the upstream's handshake, each in place of the client's header of that name. They are read when
        #: `on_session` has returned.
        self.upstream_headers: CIMultiDict[str] = CIMultiDict()
        #: When `on_close` is called: of the messages that it counts, those that were sent. The peer may have them.
        self.uncertain_c2u = self.uncertain_u2c = 0
        self._id = session_id
        self._context: RunningSession | None = None
        self._asked_to_close = False
        self._over = False

    def __repr__(self) -> str:
        """Return the beginning of the session's id, because an id is a secret."""
        return f"<Session {short_id(self.id)} of {self.request.client}>"

    @property
    def id(self) -> str:
        """The whole id of the session, a secret. Empty until the upstream has sent it with `gate = first-message`."""
        return (self._context.session_id if self._context is not None else self._id) or ""

    @property
    def closing(self) -> bool:
        """Whether `close` was called or the session is over. Further messages are dropped."""
        return self._asked_to_close or self._over

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the session as soon as the hook has returned, with a close code and reason for both legs.

        Messages that are owed to a peer and not written to its socket yet are not delivered; `on_close` says how many
        were not confirmed.

        Args:
            code: a code that may be sent (RFC 6455 section 7.4): 1000, 1008 (policy), 3000 to 4999 (your own) …
            reason: at most 123 bytes.

        Raises:
            ValueError: the code or the reason cannot be sent.
            RuntimeError: called by `on_session`, when there is no session yet.
        """
        check_close_code(code)
        if len(reason.encode()) > REASON_LIMIT:
            raise ValueError(f"the reason has {len(reason.encode())} bytes, but a close frame takes {REASON_LIMIT}")
        if self._context is None:
            raise RuntimeError("there is no session yet: raise Refuse to refuse its client")
        if not self.closing:
            self._asked_to_close = True
            # Clients that still wait for the first dial are refused, as by `Refuse`.
            asyncio.get_running_loop().call_soon(self._context.close, code, reason, "refused", False)

    def send_to_client(self, data: str | bytes) -> None:
        """Send a message of your own to the client, text for `str`, binary for `bytes`: see `send_to_upstream`."""
        self._send(LegName.CLIENT, data)

    def send_to_upstream(self, data: str | bytes) -> None:
        """Send a message of your own to the upstream, text for `str`, binary for `bytes`.

        It joins the stream when the hook has returned, behind the messages that are there, and is kept, resent and
        counted like all others. There is no backpressure: a program that sends without a limit fills the memory.
        `on_message` does not see it.

        Raises:
            TypeError: `data` is neither `str` nor `bytes`.
            RuntimeError: the session is over.
        """
        self._send(LegName.UPSTREAM, data)

    def begin(self, context: RunningSession) -> None:
        """Take the session that this is the view of. The proxy calls this."""
        self._context = context

    def end(self) -> None:
        """Mark the session as over. The proxy calls this."""
        self._over = True

    def _send(self, leg: LegName, data: str | bytes) -> None:
        message = encode(data)
        if self._over:
            raise RuntimeError("the session is over: nothing can be sent to it any more")
        asyncio.get_running_loop().call_soon(self._add, leg, message)

    def _add(self, leg: LegName, message: tuple[int, bytes]) -> None:
        if self._context is None or not self._context.add(leg, message):
            # The session has ended since the call, and the caller cannot be told.
            _LOG.warning(
                "a hook's own message came too late", extra={"fields": {"session": short_id(self.id), "leg": leg}}
            )


class Hooks:
    """Base class of hooks: override what you need. No hook may be a coroutine, because nothing waits for it."""

    def on_session(self, session: Session) -> None:
        """Called before a client's request opens a session. Its upstream is not dialled yet.

        Raise `Refuse` to refuse the client, or fill in `session.attributes` or `session.upstream_headers`. If this hook
        fails, the client is refused with a 500. A request for an existing session goes to `on_join`.
        """

    def on_join(self, session: Session, request: ClientRequest) -> None:
        """Called before a client's request resumes a session, or in receiver mode shares one.

        Raise `Refuse` to refuse the client; the session goes on. If this hook fails, the client is refused with a 500.
        """

    def on_message(self, session: Session, message: Message) -> Message | str | bytes | None:
        """Return what replaces a message that was received: `message` itself, a `str` (text), a `bytes` (binary) of at
        most `max_message` bytes, or None to drop it.

        Each message is seen once, in the order of its stream, even if it is sent again later. If this hook fails, the
        message is dropped: a filter that does not work must not let through what it should stop.
        """
        return message

    def on_redial(self, session: Session) -> Iterable[str | bytes]:
        """Return what an ordinary upstream is sent first when the session is connected to it again: a new login, say.

        Text for `str`, binary for `bytes`, each of at most `max_message` bytes. They are not counted, and not shown to
        `on_message`; the upstream's answers are. With `gate = replay:N` the preamble follows. An upstream that resumes
        the session itself is sent nothing. If this hook fails, the session ends with 1011.
        """
        return ()

    def on_reconnect(self, session: Session, leg: LegName, away: float, resent: int) -> None:
        """Called when a leg ("client", "upstream") has a link again, after `away` seconds.

        `resent` messages are sent to it again. If this hook fails, nothing else happens.
        """

    def on_close(self, session: Session, code: int, reason: str, undelivered_c2u: int, undelivered_u2c: int) -> None:
        """Called once when a session is over, for every kind of end. It is the last hook of the session.

        The last two arguments count the messages that were accepted and not confirmed by the peer at the other end. How
        many of them it may have all the same, since they were sent, is in `session.uncertain_c2u` and `uncertain_u2c`.
        If this hook fails, nothing else happens.
        """


#: The hooks, by name.
NAMES = tuple(name for name in vars(Hooks) if name.startswith("on_"))


def overridden(hooks: Hooks) -> frozenset[str]:
    """Return the names of the hooks that a program has overridden."""
    return frozenset(name for name in NAMES if getattr(getattr(hooks, name), "__func__", None) is not vars(Hooks)[name])


def check_hooks(hooks: object) -> Hooks:
    """Return `hooks` if they can be used; a class is instantiated.

    Raises:
        ValueError: it is not a `Hooks`, or has a hook that does not exist or is a coroutine.
    """
    if isinstance(hooks, type) and issubclass(hooks, Hooks):
        try:
            hooks = hooks()
        except Exception as error:
            raise ValueError(f"{hooks!r} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(hooks, Hooks):
        raise ValueError(f"{hooks!r} is not a Hooks: give a subclass of reconnect_proxy.Hooks, or an instance of one")  # noqa: TRY004 - for pydantic
    for name in dir(hooks):
        if name.startswith("on_") and name not in NAMES:
            raise ValueError(
                f"{type(hooks).__name__} has {name}, but there is no such hook: there are {', '.join(NAMES)}"
            )
    for name in overridden(hooks):
        method = getattr(hooks, name)
        if (
            inspect.iscoroutinefunction(method)
            or inspect.isgeneratorfunction(method)
            or inspect.isasyncgenfunction(method)
        ):
            raise ValueError(
                f"{name} is a coroutine or a generator, but nothing waits for a hook: make it a plain function"
            )
    return hooks


def load_hooks(reference: str) -> Hooks:
    """Import hooks: "package.module:object", the object being a `Hooks` or a subclass of it.

    Raises:
        ValueError: it cannot be imported or used as hooks. The message is one sentence.
    """
    module_name, _, name = reference.partition(":")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", reference):
        raise ValueError(f"{reference!r} does not name hooks: write MODULE:OBJECT, for instance my_hooks:Guard")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ValueError(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ValueError(f"{module_name} has no {name}: write MODULE:OBJECT, for instance {module_name}:Guard")
    return check_hooks(getattr(module, name))


def encode(data: object) -> tuple[int, bytes]:
    """Return the message that `data` stands for: text for `str`, binary for `bytes`.

    Raises:
        TypeError: it is neither `str` nor `bytes`.
        ValueError: the text cannot be UTF-8 (a lone surrogate).
    """
    if isinstance(data, str):
        return Opcode.TEXT, data.encode()
    if isinstance(data, bytes):
        return Opcode.BINARY, data
    raise TypeError(f"{type(data).__name__} is not a message: give a str for text or bytes for binary")
