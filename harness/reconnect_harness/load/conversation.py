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
from websocket import ABNF

from reconnect_harness.load.leg import CLOCK
from reconnect_harness.load.link import LOST, Link, LinkEnd, LinkFailed, LinkMaker, half_close, hang_up, link_end_of
from reconnect_proxy.client.aware_session import RESUMED, is_final
from reconnect_proxy.core.backoff import RetryBudget

#: How long a handshake may take, in seconds.
OPEN_SECONDS = 15.0

#: How long the other end may take to answer a close frame, in seconds.
CLOSE_SECONDS = 3.0

#: How long the other end of a dropped link may take to close it too, in seconds; and how often to check whether the
#: reader of a link has seen its end.
_NOTICED_SECONDS = 1.0
_NOTICE_SECONDS = 0.01


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
        self._link: Link | None = None
        self._up = Event()
        self._closing = False
        # How long the link has been lost, and how often it was dialled since.
        self._budget: RetryBudget
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

    def _begin(self, link: Link) -> None:
        """Check the handshake of a new link; raise ConversationOver if the answer is not acceptable."""

    def _take(self, opcode: int, data: bytes, link: Link) -> None:
        """Handle a whole message, a Ping that was answered, or a Pong."""
        if opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY):
            self._hear(opcode, data)

    def _goes_on_after(self, ending: LinkEnd) -> bool:
        """Return whether the conversation goes on after a link that ended like this."""
        return ending.code in RESUMED

    def _next_wait(self, cause: str) -> float:
        """Return how long to wait before the next dial; raise ConversationOver if the link was lost for too long."""
        if self._budget.away > self._retry_for:
            raise ConversationOver(f"not back in {self._retry_for:g} s: {cause}")
        return self._budget.next_wait().delay

    def _failed(self, failed: LinkFailed) -> None:
        """Handle a failed dial; raise ConversationOver if it is final."""
        if failed.status is not None and is_final(failed.status):
            raise ConversationOver(str(failed)) from failed

    # The life of a conversation.

    def _dial(self, headers: Mapping[str, str]) -> Link:
        end = self._endpoint
        return end.links.dial(end.path, {**end.headers, **headers}, end.subprotocols, OPEN_SECONDS)

    def _attach(self, link: Link) -> None:
        try:
            self._begin(link)
        except BaseException:
            link.shutdown()
            raise
        self._link = link
        self._up.set()

    def _write(self, link: Link, message: str | bytes) -> None:
        if isinstance(message, str):
            link.send_text(message)
        else:
            link.send_binary(message)
        link.flush()

    def _follow(self, link: Link) -> None:
        while True:
            ending = self._read(link)
            link.shutdown()
            self._let_go()
            if self._closing:
                return
            lost = time.monotonic()
            self._budget = RetryBudget(self._retry_for, CLOCK, random.uniform)
            self._listener.lost(ending)
            if not self._goes_on_after(ending):
                self._finish(f"closed with {ending}", None)
                return
            try:
                found = self._reconnect(f"link lost: {ending}")
            except ConversationOver as over:
                self._finish(str(over), time.monotonic() - lost)
                return
            if found is None:
                return
            link = found
            self._listener.returned(time.monotonic() - lost)

    def _read(self, link: Link) -> LinkEnd:
        """Handle what arrives on a link until it ends; return how it ended."""
        try:
            while True:
                opcode, frame = link.recv_data_frame(control_frame=True)
                if opcode == ABNF.OPCODE_CLOSE:
                    return link_end_of(frame)
                self._take(opcode, frame.data, link)
        except LOST as lost:
            return LinkEnd(1006, "" if isinstance(lost, OSError) else str(lost))

    def _reconnect(self, cause: str) -> Link | None:
        """Make the next link, or raise ConversationOver; return None if the user leaves meanwhile."""
        while not self._closing:
            gevent.sleep(self._next_wait(cause))
            if self._closing:
                return None
            try:
                link = self._dial(self._next())
                self._attach(link)
            except LinkFailed as failed:
                self._failed(failed)
                cause = str(failed)
            else:
                return link
        return None

    def _hear(self, opcode: int, data: bytes) -> None:
        self._listener.heard(data.decode() if opcode == ABNF.OPCODE_TEXT else data)

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
