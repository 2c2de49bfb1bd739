"""The conversation of an ordinary user: one link after the other, and one greenlet that follows them.

    send() ──► link ~~~ server           a link is lost: connect again under the same id, and repeat nothing
    listener ◄── follow ◄── link         the session is lost, or cannot be reached: the conversation is over

`load.aware` has what an aware user does differently.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

import gevent
from gevent.event import Event
from websocket import ABNF, WebSocket, WebSocketException

from reconnect_harness.load.link import LinkEnd, LinkFailed, LinkMaker, half_close, hang_up, link_end_of

#: How long a handshake may take, in seconds.
OPEN_SECONDS = 15.0

#: How long the other end may take to answer a close frame, in seconds.
CLOSE_SECONDS = 3.0

#: The shortest and the longest wait before the next attempt to reconnect, in seconds.
RETRY_SECONDS = (0.05, 3.0)

#: Close codes after which a client reconnects: those of RFC 6455 section 7.4.1 that mean a lost link or a restart.
RETRYABLE = frozenset({1001, 1005, 1006, 1011, 1012, 1013})

#: Statuses of a refused handshake after which a client tries again; any other below 500 is final.
RETRYABLE_STATUSES = frozenset({408, 425, 429})

#: How long the other end of a dropped link may take to close it too, in seconds; and how often to check whether the
#: reader of a link has seen its end.
_NOTICED_SECONDS = 1.0
_NOTICE_SECONDS = 0.01

#: What reads and writes raise on a lost link.
LOST = (OSError, WebSocketException, UnicodeDecodeError)


class ConversationTarget(NamedTuple):
    """Where a conversation connects: a path behind the URL of the link maker, headers and subprotocols."""

    links: LinkMaker
    path: str = "/"
    headers: Mapping[str, str] = {}
    subprotocols: Sequence[str] = ()


class ConversationListener(Protocol):
    """Hears what happens in a conversation. It is called by the greenlet of the conversation, and may send."""

    def heard(self, message: str | bytes) -> None:
        """Take a message."""

    def lost(self, ending: LinkEnd) -> None:
        """Handle the loss of the link."""

    def returned(self, seconds: float) -> None:
        """Handle a new link, so many seconds after the loss."""

    def over(self, reason: str, seconds: float | None) -> None:
        """Handle an end that the user had not asked for, after `seconds` of trying to reconnect if there were any."""


class ConversationOver(Exception):
    """The conversation is over: nothing can be sent in it. The message says why."""


class Conversation:
    """A conversation over one link after the other. Make it with `open`.

    Args:
        endpoint: where to connect.
        listener: hears what happens.
        retry_for: how long a lost link is dialled again, in seconds, before the conversation is over.

    Attributes:
        session: its id, which is a secret: with it a client can take the session over.

    """

    def __init__(self, endpoint: ConversationTarget, listener: ConversationListener, retry_for: float = 60.0) -> None:
        self.session = secrets.token_urlsafe(16)
        self._endpoint = endpoint
        self._listener = listener
        self._retry_for = retry_for
        self._link: WebSocket | None = None
        self._up = Event()
        self._closing = False
        self._over = ""
        self._follower: gevent.Greenlet[..., None] | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a link."""
        return self._link is not None

    @property
    def is_over(self) -> bool:
        """Whether the conversation is over, or about to be closed."""
        return bool(self._over) or self._closing

    def open(self) -> None:
        """Make the first link, or raise LinkFailed; it may be tried again."""
        link = self._dial(self._first())
        self._attach(link)
        self._follower = gevent.spawn(self._follow, link)

    def ready(self) -> None:
        """Wait until a message can be sent: for an ordinary conversation, until there is a link.

        Raises:
            ConversationOver: the conversation is over.

        """
        while self._link is None:
            self._check()
            self._up.wait()
        self._check()

    def send(self, message: str | bytes) -> None:
        """Send a message, once there is a link. A message that went into a lost link is not sent again.

        Raises:
            ConversationOver: the conversation is over.

        """
        while True:
            self.ready()
            link = self._link
            assert link is not None
            try:
                self._write(link, message)
            except LOST:
                # Not all of the frame was written, so the peer cannot have the message: it goes over the next link.
                while self._link is link:
                    gevent.sleep(_NOTICE_SECONDS)
            else:
                return

    def drop(self) -> None:
        """Drop the link without a close frame, as a dying program does. The conversation goes on over the next link."""
        link = self._link
        if link is not None:
            self._link = None
            self._up.clear()
            half_close(link)
            # In case the other end does not notice, or has died.
            gevent.spawn_later(_NOTICED_SECONDS, hang_up, link)

    def close(self) -> None:
        """Close the conversation with 1000, and wait `CLOSE_SECONDS` for the answer."""
        self._closing = True
        self._up.set()
        link = self._link
        if self._follower is None:
            return
        if link is not None:
            with suppress(*LOST):
                link.send_close(1000)
            self._follower.join(CLOSE_SECONDS)
        self._follower.kill()
        self._let_go()

    # What an aware conversation does differently.

    def _first(self) -> dict[str, str]:
        """Return the headers of the first handshake."""
        return {"X-Connection-Id": self.session}

    def _next(self) -> dict[str, str]:
        """Return the headers of later handshakes."""
        return self._first()

    def _begin(self, link: WebSocket) -> None:
        """Check the handshake of a new link; raise ConversationOver if the answer is not acceptable."""

    def _take(self, opcode: int, data: bytes, link: WebSocket) -> None:
        """Handle a whole message, a Ping that was answered, or a Pong."""
        if opcode == ABNF.OPCODE_TEXT:
            self._listener.heard(data.decode())
        elif opcode == ABNF.OPCODE_BINARY:
            self._listener.heard(data)

    def _goes_on_after(self, ending: LinkEnd) -> bool:
        """Return whether the conversation goes on after a link that ended like this."""
        return ending.code in RETRYABLE

    # The life of a conversation.

    def _dial(self, headers: Mapping[str, str]) -> WebSocket:
        end = self._endpoint
        return end.links.dial(end.path, {**end.headers, **headers}, end.subprotocols, OPEN_SECONDS)

    def _attach(self, link: WebSocket) -> None:
        try:
            self._begin(link)
        except BaseException:
            link.shutdown()
            raise
        self._link = link
        self._up.set()

    def _write(self, link: WebSocket, message: str | bytes) -> None:
        if isinstance(message, str):
            link.send_text(message)
        else:
            link.send_binary(message)

    def _follow(self, link: WebSocket) -> None:
        while True:
            ending = self._read(link)
            link.shutdown()
            self._let_go()
            if self._closing:
                return
            lost = time.monotonic()
            self._listener.lost(ending)
            if not self._goes_on_after(ending):
                self._finish(f"closed with {ending}", None)
                return
            try:
                found = self._reconnect(lost, ending)
            except ConversationOver as over:
                self._finish(str(over), time.monotonic() - lost)
                return
            if found is None:
                return
            link = found
            self._listener.returned(time.monotonic() - lost)

    def _read(self, link: WebSocket) -> LinkEnd:
        """Handle what arrives on a link until it ends; return how it ended."""
        try:
            while True:
                opcode, frame = link.recv_data_frame(control_frame=True)
                if opcode == ABNF.OPCODE_CLOSE:
                    return link_end_of(frame)
                self._take(opcode, frame.data, link)
        except LOST as lost:
            return LinkEnd(1006, "" if isinstance(lost, OSError) else str(lost))

    def _reconnect(self, lost: float, ending: LinkEnd) -> WebSocket | None:
        """Make the next link, or raise ConversationOver; return None if the user leaves meanwhile."""
        reason = f"link lost: {ending}"
        attempts = 0
        shortest, longest = RETRY_SECONDS
        while not self._closing:
            away = time.monotonic() - lost
            if away > self._retry_for:
                raise ConversationOver(f"not back in {self._retry_for:g} s: {reason}")
            # As the proxy's own client, wait no longer than the link has been lost: a short outage is then soon over.
            gevent.sleep(random.uniform(0, min(longest, shortest * 2.0 ** min(attempts, 10), max(shortest, away))))
            attempts += 1
            if self._closing:
                return None
            try:
                link = self._dial(self._next())
                self._attach(link)
            except LinkFailed as failed:
                if failed.status is not None and failed.status < 500 and failed.status not in RETRYABLE_STATUSES:
                    raise ConversationOver(str(failed)) from failed
                reason = str(failed)
            else:
                return link
        return None

    def _let_go(self) -> None:
        if self._link is not None:
            self._link.shutdown()
        self._link = None
        self._up.clear()

    def _finish(self, reason: str, seconds: float | None) -> None:
        self._over = reason
        self._up.set()
        self._listener.over(reason, seconds)

    def _check(self) -> None:
        if self.is_over:
            raise ConversationOver(self._over or "the user has left")
