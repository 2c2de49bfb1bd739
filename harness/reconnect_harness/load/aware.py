"""The conversation of an aware user: PROTOCOL.md sections 3 and 4, client side, written from its text.

    session:  outbox  [ confirmed+1 … cursor | cursor+1 … ]      received: 1 … n
                        on this link, no Pong  not sent yet

It shares no code with the proxy, so that each tests the other. The greenlet that answers a Ping has counted every
message before it, so a stated count is always complete.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress

import gevent
from gevent.event import Event
from websocket import ABNF, WebSocket

from reconnect_harness.load.conversation import (
    LOST,
    RETRYABLE,
    Conversation,
    ConversationListener,
    ConversationOver,
    ConversationTarget,
)
from reconnect_harness.load.link import LinkEnd, hang_up

PING_AFTER_MESSAGES = 64
PING_AFTER_BYTES = 256 * 1024
PING_AFTER_SECONDS = 0.1
PINGS_IN_FLIGHT = 4

#: How long a link may be silent before it is pinged, and how long it may then take to answer, in seconds.
SILENCE_SECONDS = 20.0

#: With so many unconfirmed messages `send` waits.
FULL = 10_000


class AwareConversation(Conversation):
    """A conversation that resumes its session with counts: no message is lost, and none arrives twice.

    Attributes:
        resumable: whether the server speaks the protocol; None before the first link.

    """

    def __init__(self, endpoint: ConversationTarget, listener: ConversationListener, retry_for: float = 60.0) -> None:
        super().__init__(endpoint, listener, retry_for)
        self.resumable: bool | None = None
        self.heard_at = 0.0
        self._received = 0
        # Messages that are not confirmed. The first is number _confirmed + 1; those up to _cursor were sent.
        self._outbox: deque[str | bytes] = deque()
        self._confirmed = 0
        self._cursor = 0
        self._pumping = False
        self._pings: list[int] = []
        self._pinged = 0
        self._since_ping = (0, 0)
        self._relieved = Event()

    def ready(self) -> None:
        """Wait while too many messages are unconfirmed. No link is needed.

        Raises:
            ConversationOver: the conversation is over.

        """
        if not self.resumable:
            super().ready()
        self._check()
        while len(self._outbox) >= FULL:
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
        self._outbox.append(message)
        self._pump()

    def _first(self) -> dict[str, str]:
        return {"X-Connection-Id": self.session, "X-Reconnect-Received": "0"}

    def _next(self) -> dict[str, str]:
        if not self.resumable:
            return super()._first()
        return {"X-Reconnect-Id": self.session, "X-Reconnect-Received": str(self._received)}

    def _begin(self, link: WebSocket) -> None:
        headers = link.getheaders() or {}
        stated = headers.get("x-reconnect-received")
        if self.resumable is None:
            self.session = headers.get("x-connection-id", self.session)
            self.resumable = stated is not None and "x-connection-id" in headers
        if not self.resumable:
            return
        if stated is None or not stated.isdecimal():
            raise ConversationOver("the answer to a resume does not say how much was received")
        pushed = self._confirmed + len(self._outbox)
        if not self._confirmed <= int(stated) <= max(self._cursor, self._confirmed):
            raise ConversationOver(f"{stated} messages received? {self._confirmed} are confirmed, {pushed} were sent")
        self._confirm(int(stated))
        self._cursor = int(stated)
        self._pinged = self._cursor
        self._since_ping = (0, 0)
        self._pings.clear()
        self.heard_at = time.monotonic()

    def _attach(self, link: WebSocket) -> None:
        super()._attach(link)
        if self.resumable:
            TICKER.watch(self)
            self._pump()

    def _let_go(self) -> None:
        super()._let_go()
        TICKER.forget(self)

    def _goes_on_after(self, ending: LinkEnd) -> bool:
        return ending.code in RETRYABLE

    def _take(self, opcode: int, data: bytes, link: WebSocket) -> None:
        self.heard_at = time.monotonic()
        if opcode == ABNF.OPCODE_PONG:
            number = int.from_bytes(data, "big") if len(data) == 8 else -1
            if number in self._pings:
                self._pings = [ping for ping in self._pings if ping > number]
                self._confirm(number)
                if self._pinged < self._cursor:
                    TICKER.due(self)
            return
        if opcode != ABNF.OPCODE_PING:
            self._received += 1
        super()._take(opcode, data, link)

    def _pump(self) -> None:
        """Send the outbox in order. If another greenlet is doing so already, it sends this one's message too."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while (link := self._link) is not None and self._cursor < self._confirmed + len(self._outbox):
                try:
                    self._send_next(link)
                except LOST:
                    # The reader ends this link, and unconfirmed messages go over the next; there may be one already.
                    if self._link is link:
                        return
            if self._pinged < self._cursor:
                TICKER.due(self)
        finally:
            self._pumping = False

    def _send_next(self, link: WebSocket) -> None:
        message = self._outbox[self._cursor - self._confirmed]
        self._cursor += 1
        self._write(link, message)
        count, size = self._since_ping
        self._since_ping = count + 1, size + len(message)
        if count + 1 >= PING_AFTER_MESSAGES or size + len(message) >= PING_AFTER_BYTES:
            self.ping()

    def ping(self) -> None:
        """Ping, which asks the other end to confirm all that was sent, unless too many Pings are unanswered."""
        link, number = self._link, self._cursor
        if link is None or len(self._pings) >= PINGS_IN_FLIGHT or number in self._pings:
            return
        self._pings.append(number)
        self._pinged = number
        self._since_ping = (0, 0)
        link.ping(number.to_bytes(8, "big"))

    def look(self, now: float) -> None:
        """Ping a link that has been silent for long; drop one that does not answer."""
        link = self._link
        if link is None or link.lock.locked():
            return
        if now - self.heard_at > 2 * SILENCE_SECONDS:
            hang_up(link)
        elif now - self.heard_at > SILENCE_SECONDS and not self._pings:
            self.ping()

    def tick(self) -> None:
        """Ask for confirmation of the last messages, if no Ping is unanswered."""
        # While a message is being written, a Ping would block this greenlet, which serves all conversations.
        if not self._pings and self._pinged < self._cursor and self._link is not None and not self._link.lock.locked():
            self.ping()

    def _confirm(self, number: int) -> None:
        while self._confirmed < number:
            self._outbox.popleft()
            self._confirmed += 1
        self._cursor = max(self._cursor, number)
        self._relieved.set()


class Ticker:
    """The timers of all aware conversations of a process, in one greenlet."""

    def __init__(self) -> None:
        self._watched: set[AwareConversation] = set()
        self._due: dict[AwareConversation, float] = {}
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def watch(self, conversation: AwareConversation) -> None:
        """Add a conversation that has a link."""
        self._watched.add(conversation)
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._run)

    def forget(self, conversation: AwareConversation) -> None:
        """Remove a conversation."""
        self._watched.discard(conversation)
        self._due.pop(conversation, None)

    def due(self, conversation: AwareConversation) -> None:
        """Have a conversation ask for confirmation `PING_AFTER_SECONDS` from now."""
        self._due.pop(conversation, None)
        self._due[conversation] = time.monotonic() + PING_AFTER_SECONDS

    def _run(self) -> None:
        looked = time.monotonic()
        while self._watched:
            gevent.sleep(PING_AFTER_SECONDS / 2)
            now = time.monotonic()
            # In the order in which they were added, since all wait equally long.
            while self._due and (conversation := next(iter(self._due))) and self._due[conversation] <= now:
                del self._due[conversation]
                # If it fails, the link is lost, and its reader reports that.
                with suppress(*LOST):
                    conversation.tick()
            if now - looked > 1.0:
                looked = now
                for conversation in list(self._watched):
                    with suppress(*LOST):
                        conversation.look(now)


TICKER = Ticker()
