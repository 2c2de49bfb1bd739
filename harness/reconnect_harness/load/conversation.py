"""The conversation of an ordinary user: one link after the other, and one greenlet that follows them.

    send() ──► link ~~~ server           a link is lost: come back under the same id, and repeat nothing
    listener ◄── follow ◄── link         the session is gone, or nothing lets us in: the conversation is over

What an aware user does differently is in `load.aware`.
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

from reconnect_harness.load.link import Dialler, Ending, LinkFailed, ending_of, half_close, hang_up

#: How long a handshake may take, in seconds.
OPEN_SECONDS = 15.0

#: How long the other end may take to answer a close frame, in seconds.
CLOSE_SECONDS = 3.0

#: The shortest and the longest wait before the next attempt to come back, in seconds.
RETRY_SECONDS = (0.05, 3.0)

#: Close codes after which a client comes back: RFC 6455 section 7.4.1, as far as they blame the link or a restart.
RETURNING = frozenset({1001, 1005, 1006, 1011, 1012, 1013})

#: Answers to a handshake that a later attempt may not get; any other below 500 is final.
PASSING = frozenset({408, 425, 429})

#: How long it may take until the other end of a link that was dropped has closed it too, in seconds; and how often it
#: is looked whether the reader of a link has seen its end.
_NOTICED_SECONDS = 1.0
_NOTICE_SECONDS = 0.01

#: What reading from a lost link, or writing to it, raises.
LOST = (OSError, WebSocketException, UnicodeDecodeError)


class Place(NamedTuple):
    """Where a conversation goes: a path behind the dialler's URL, headers and subprotocols."""

    dialler: Dialler
    path: str = "/"
    headers: Mapping[str, str] = {}
    subprotocols: Sequence[str] = ()


class Listener(Protocol):
    """Who is told what becomes of a conversation. The calls come from its greenlet, and may send."""

    def heard(self, message: str | bytes) -> None:
        """Take a message."""

    def lost(self, ending: Ending) -> None:
        """Take note that the link is lost."""

    def returned(self, seconds: float) -> None:
        """Take note that there is a new link, so long after the loss."""

    def over(self, reason: str, seconds: float | None) -> None:
        """Take note that the conversation is over without the user's doing; `seconds` were spent on coming back."""


class Over(Exception):
    """The conversation is over: nothing can be sent in it."""


class Conversation:
    """A conversation over one link after the other. Make it with `open`.

    Args:
        place: where to go.
        listener: who is told.
        retry_for: how long a lost link is dialled again, in seconds, before the conversation is over.

    Attributes:
        session: its id: a secret of whoever has it.

    """

    def __init__(self, place: Place, listener: Listener, retry_for: float = 60.0) -> None:
        self.session = secrets.token_urlsafe(16)
        self._place = place
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
        """Wait until a message can be sent: here, until there is a link.

        Raises:
            Over: the conversation is over.

        """
        while self._link is None:
            self._check()
            self._up.wait()
        self._check()

    def send(self, message: str | bytes) -> None:
        """Send a message, once there is a link. One that a lost link took is not sent again.

        Raises:
            Over: the conversation is over.

        """
        while True:
            self.ready()
            link = self._link
            assert link is not None
            try:
                self._write(link, message)
            except LOST:
                # Not the whole of it was taken, so nobody has got it: it goes over the next link.
                while self._link is link:
                    gevent.sleep(_NOTICE_SECONDS)
            else:
                return

    def drop(self) -> None:
        """Lose the link, as when a program dies: without a close frame; the conversation goes on over the next one."""
        link = self._link
        if link is not None:
            self._link = None
            self._up.clear()
            half_close(link)
            # Where the other end does not notice, or is not there any more.
            gevent.spawn_later(_NOTICED_SECONDS, hang_up, link)

    def close(self) -> None:
        """Close the conversation with 1000, and wait for the answer for a while."""
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

    # What an aware conversation does otherwise.

    def _first(self) -> dict[str, str]:
        """Return the headers of the first handshake."""
        return {"X-Connection-Id": self.session}

    def _next(self) -> dict[str, str]:
        """Return the headers of a handshake that comes back."""
        return self._first()

    def _begin(self, link: WebSocket) -> None:
        """Begin to use a link whose handshake is done; raise Over if it is not what was asked for."""

    def _take(self, opcode: int, data: bytes, link: WebSocket) -> None:
        """Take a frame's worth: a whole message, a Ping that was answered, or a Pong."""
        if opcode == ABNF.OPCODE_TEXT:
            self._listener.heard(data.decode())
        elif opcode == ABNF.OPCODE_BINARY:
            self._listener.heard(data)

    def _comes_back(self, ending: Ending) -> bool:
        """Tell whether a link that ended like this is to be replaced."""
        return ending.code in RETURNING

    # The life of a conversation.

    def _dial(self, headers: Mapping[str, str]) -> WebSocket:
        place = self._place
        return place.dialler.dial(place.path, {**place.headers, **headers}, place.subprotocols, OPEN_SECONDS)

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
            if not self._comes_back(ending):
                self._finish(f"closed with {ending}", None)
                return
            try:
                found = self._come_back(lost, ending)
            except Over as over:
                self._finish(str(over), time.monotonic() - lost)
                return
            if found is None:
                return
            link = found
            self._listener.returned(time.monotonic() - lost)

    def _read(self, link: WebSocket) -> Ending:
        """Take what a link brings until it ends; return how it did."""
        try:
            while True:
                opcode, frame = link.recv_data_frame(control_frame=True)
                if opcode == ABNF.OPCODE_CLOSE:
                    return ending_of(frame)
                self._take(opcode, frame.data, link)
        except LOST as lost:
            return Ending(1006, "" if isinstance(lost, OSError) else str(lost))

    def _come_back(self, lost: float, ending: Ending) -> WebSocket | None:
        """Make the next link, or raise Over; None where the user leaves meanwhile."""
        reason = f"link lost: {ending}"
        attempts = 0
        shortest, longest = RETRY_SECONDS
        while not self._closing:
            away = time.monotonic() - lost
            if away > self._retry_for:
                raise Over(f"not back in {self._retry_for:g} s: {reason}")
            # As the proxy's own client: not longer than it was away already, so as to see the end of a short outage.
            gevent.sleep(random.uniform(0, min(longest, shortest * 2.0 ** min(attempts, 10), max(shortest, away))))
            attempts += 1
            if self._closing:
                return None
            try:
                link = self._dial(self._next())
                self._attach(link)
            except LinkFailed as failed:
                if failed.status is not None and failed.status < 500 and failed.status not in PASSING:
                    raise Over(str(failed)) from failed
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
            raise Over(self._over or "the user has left")
