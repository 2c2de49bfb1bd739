"""The conversation of an aware user: `AwareSession`, the bookkeeping of `reconnect_proxy.connect`, under gevent.

The greenlet that answers a Ping has counted every message before it, and the next handshake is made by that same
greenlet, so a stated count is always complete.
"""

from __future__ import annotations

from functools import cache

from gevent.event import Event
from websocket import ABNF

from reconnect_harness.load.conversation import (
    Conversation,
    ConversationListener,
    ConversationOver,
    ConversationTarget,
)
from reconnect_harness.load.leg import CLOCK, ConversationLeg
from reconnect_harness.load.link import Link, LinkEnd, LinkFailed
from reconnect_proxy.client.aware_session import AwareSession, SessionLost
from reconnect_proxy.core.policy import Policy

#: With so many bytes of unconfirmed messages `send` waits, until there is half as much.
FULL = 2 * 1024 * 1024


@cache
def _policy(retry_for: float) -> Policy:
    return Policy(retry_for=retry_for, max_queue=FULL)


class AwareConversation(Conversation):
    """A conversation that resumes its session with counts: no message is lost, and none arrives twice."""

    def __init__(self, endpoint: ConversationTarget, listener: ConversationListener, retry_for: float = 60.0) -> None:
        super().__init__(endpoint, listener, retry_for)
        self._session = AwareSession(self, CLOCK, _policy(retry_for), self.session)
        self._relieved = Event()

    @property
    def resumable(self) -> bool | None:
        """Whether the server speaks the protocol; None before the first link."""
        return self._session.resumable

    def ready(self) -> None:
        """Wait while too much is unconfirmed. No link is needed.

        Raises:
            ConversationOver: the conversation is over.

        """
        if not self.resumable:
            super().ready()
        self._check()
        while self._session.outbox.full:
            self._relieved.clear()
            self._relieved.wait(1.0)
            self._check()

    def send(self, message: str | bytes) -> None:
        """Send a message, or keep it for the next link.

        Raises:
            ConversationOver: the conversation is over.

        """
        if not self.resumable:
            super().send(message)
            return
        self.ready()
        if isinstance(message, str):
            self._session.push((ABNF.OPCODE_TEXT, message.encode()))
        else:
            self._session.push((ABNF.OPCODE_BINARY, message))

    # What an aware conversation does differently.

    def _first(self) -> dict[str, str]:
        return self._session.request_headers()

    def _next(self) -> dict[str, str]:
        return self._session.request_headers() if self.resumable else super()._first()

    def _begin(self, link: Link) -> None:
        headers = link.getheaders() or {}
        try:
            received = self._session.answered(lambda name: headers.get(name.lower()))
            if self.resumable:
                self._session.attach(ConversationLeg(link), received)
                self.session = self._session.session_id or self.session
        except SessionLost as over:
            raise ConversationOver(over.detail) from over

    def _attach(self, link: Link) -> None:
        super()._attach(link)
        if self._session.link is not None:
            self._session.link.pump()

    def _let_go(self) -> None:
        super()._let_go()
        if self._session.link is not None:
            self._session.link_ended()

    def _take(self, opcode: int, data: bytes, link: Link) -> None:
        if self._session.link is None:
            super()._take(opcode, data, link)
        elif opcode == ABNF.OPCODE_PONG:
            self._session.link.on_pong(data)
        elif opcode == ABNF.OPCODE_PING:
            self._session.link.on_heard()
        else:
            self._session.take(opcode, data)

    def _goes_on_after(self, ending: LinkEnd) -> bool:
        return self._session.goes_on_after(ending.code) if self.resumable else super()._goes_on_after(ending)

    def _next_wait(self, cause: str) -> float:
        if not self.resumable:
            return super()._next_wait(cause)
        try:
            return self._session.next_wait(cause)
        except SessionLost as over:
            raise ConversationOver(over.detail) from over

    def _failed(self, failed: LinkFailed) -> None:
        super()._failed(failed)
        if failed.status is None and not isinstance(failed.__cause__, ConnectionRefusedError):
            self._session.unanswered()

    # What the session calls: `reconnect_proxy.client.aware_session.SessionListener`.

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Pass a message on."""
        self._hear(opcode, payload)

    def on_relieved(self) -> None:
        """Let `ready` look again."""
        self._relieved.set()

    def on_link_lost(self, code: int, reason: str) -> None:
        """Leave the end of the link to the greenlet that reads from it: the leg has dropped the socket."""
