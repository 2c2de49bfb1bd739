"""Calls the hooks of the embedding program, and limits the effect of their errors to what they were called for.

`api` is what that program sees; here its answers take effect. No exception of a hook leaves this file. Each one is
reported as `HookFailed`, and one of each hook in `LOG_EVERY` seconds is logged with its traceback: a filter that fails
at every message of every session does not fill the disk.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from http import HTTPStatus

from multidict import CIMultiDict, CIMultiDictProxy

from ..core.context import Context
from ..core.interfaces import Filter, OnRedial
from ..core.message import Direction, Opcode
from ..core.message import Message as CoreMessage
from ..core.wire import Refusal
from ..events import Event, HookFailed, Observe, Resumed, short_id
from ..net.forwarding import end_to_end, is_field
from ..net.handshake import SessionRequest
from .api import ClientRequest, Hooks, Message, Refuse, Session, encode, overridden

#: Seconds between two tracebacks of one hook in the log.
LOG_EVERY = 1.0

_LOG = logging.getLogger("reconnect_proxy")


class HookCalls:
    """The hooks of one proxy. Without hooks it makes no views of sessions, and nothing is called."""

    def __init__(self, hooks: Hooks | None, observe: Observe, max_message: int) -> None:
        """Prepare to call `hooks`.

        Args:
            hooks: those of the embedding program, if it has any.
            observe: is told of each failure.
            max_message: the largest message and the largest replacement, in bytes.
        """
        self._hooks = hooks or Hooks()
        self._overridden = overridden(self._hooks)
        self._observe = observe
        self._max_message = max_message
        # Each session as hooks see it.
        self._sessions: dict[Context, Session] = {}
        # For each hook, when its traceback was last logged, and the number of failures since then.
        self._logged: dict[str, tuple[float, int]] = {}

    @property
    def present(self) -> bool:
        """Whether there is any hook to call."""
        return bool(self._overridden)

    # Clients.

    def opening(self, session: Session) -> None:
        """Ask whether a session may be opened. Raises Refusal."""
        self._admit("on_session", session)
        try:
            _check_upstream_headers(session)
        except Exception as error:  # noqa: BLE001 - what is set need not even be headers
            self._fail("on_session", session, error)

    def opened(self, session: Session, context: Context) -> None:
        session.begin(context)
        self._sessions[context] = session

    def joining(self, context: Context, request: SessionRequest) -> None:
        """Ask whether a client may attach to a session that exists. Raises Refusal if not."""
        session = self._sessions.get(context)
        if session is not None and "on_join" in self._overridden:
            self._admit("on_join", session, as_seen(request))

    def _admit(self, hook: str, session: Session, *arguments: object) -> None:
        try:
            self._call(hook, session, *arguments)
        except Refuse as refuse:
            raise Refusal(refuse.status, "refused", refuse.detail, headers=tuple(refuse.headers.items())) from None
        except Exception as error:  # noqa: BLE001 - an error of a hook harms this client only
            self._fail(hook, session, error)

    def _fail(self, hook: str, session: Session, error: Exception) -> None:
        self._failed(hook, session, error)
        # The client is not told the error, which may have secrets in it.
        detail = "the proxy could not decide whether to let you in"
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "hook-failed", detail) from None

    # Messages.

    @property
    def filtering(self) -> bool:
        """Whether messages are shown to `on_message`."""
        return "on_message" in self._overridden

    def filter_of(self, session: Session) -> Filter | None:
        """Return the filter of a session's messages, or None without an `on_message` hook."""
        return partial(self._filter, session) if self.filtering else None

    def _filter(self, session: Session, direction: Direction, message: CoreMessage) -> CoreMessage | None:
        if session.closing:
            return None
        opcode, payload = message
        shown = Message(direction, payload, opcode == Opcode.TEXT)
        try:
            returned = self._hooks.on_message(session, shown)
            if returned is shown:
                return message
            return None if returned is None else self._encode(returned)
        except Exception as error:  # noqa: BLE001 - an error of a hook harms this message only
            self._failed("on_message", session, error)
            return None

    def introduction_of(self, session: Session) -> OnRedial | None:
        """Return what makes the first messages for an upstream of a session, or None without an `on_redial` hook."""
        return partial(self._introduction, session) if "on_redial" in self._overridden else None

    def _introduction(self, session: Session) -> list[CoreMessage] | None:
        try:
            returned = self._hooks.on_redial(session)
            if isinstance(returned, (str, bytes)):
                raise TypeError(f"on_redial returned {type(returned).__name__}: give a list of messages")  # noqa: TRY301
            return [self._encode(message) for message in returned]
        except Exception as error:  # noqa: BLE001 - an error of a hook harms this session only
            self._failed("on_redial", session, error)
            return None

    def _encode(self, returned: object) -> CoreMessage:
        opcode, payload = encode(returned)
        if len(payload) > self._max_message:
            raise ValueError(f"{len(payload)} bytes, and a message may have {self._max_message}")
        return opcode, payload

    # The rest of a session's life.

    def observer_of(self, session: Session) -> Observe:
        """Return what is told of the events of a session."""
        if "on_reconnect" not in self._overridden:
            return self._observe

        def observe(event: Event) -> None:
            self._observe(event)
            if isinstance(event, Resumed):
                self._notify("on_reconnect", session, event.leg, event.away, event.resent)

        return observe

    def closed(self, context: Context) -> None:
        session = self._sessions.pop(context, None)
        if session is None:
            return
        session.end()
        if "on_close" in self._overridden:
            code, reason, _ = context.ending
            # A program that asks for one number must not take what is uncertain for delivered.
            session.uncertain_c2u, session.uncertain_u2c = context.c2u.uncertain, context.u2c.uncertain
            undelivered = [stream.undelivered + stream.uncertain for stream in (context.c2u, context.u2c)]
            self._notify("on_close", session, code, reason, *undelivered)

    def _notify(self, hook: str, session: Session, *arguments: object) -> None:
        try:
            self._call(hook, session, *arguments)
        except Exception as error:  # noqa: BLE001 - an error of a hook harms nothing else
            self._failed(hook, session, error)

    # Calls and failures.

    def _call(self, hook: str, session: Session, *arguments: object) -> None:
        returned = getattr(self._hooks, hook)(session, *arguments)
        if returned is not None:
            # A hook that returns False to refuse a client must not let it in.
            raise TypeError(f"{hook} returned {type(returned).__name__}, and must return nothing")

    def _failed(self, hook: str, session: Session, error: Exception) -> None:
        self._observe(HookFailed(session.id, hook, f"{type(error).__name__}: {error}"))
        now = time.monotonic()
        logged_at, not_logged = self._logged.get(hook, (-LOG_EVERY, 0))
        if now < logged_at + LOG_EVERY:
            self._logged[hook] = logged_at, not_logged + 1
            return
        self._logged[hook] = now, 0
        fields = {"session": short_id(session.id), "hook": hook, "not_logged": not_logged}
        _LOG.error("hook failed", exc_info=error, extra={"fields": fields})


def _check_upstream_headers(session: Session) -> None:
    for name, value in session.upstream_headers.items():
        if not is_field(name, value) or not end_to_end(CIMultiDict({name: value})):
            raise ValueError(
                f"{name!r} is not a header that can be set for the upstream, or {value!r} is not a value for it"
            )


def as_seen(request: SessionRequest) -> ClientRequest:
    """Return a client's request as hooks see it."""
    return ClientRequest(request.peer, request.target, CIMultiDictProxy(request.head.headers))
