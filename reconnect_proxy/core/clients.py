"""The client's side of a session: who is attached, who makes way for whom, and how long one that is gone is awaited.

The counterpart of `Upstream`. That one dials again by itself; here one can but wait, so a client that is gone has its
grace, and when that is over the session (`Context`) hears that its clients are gone for good.

    ABSENT --attach--> ATTACHED --detach, the last one--> ABSENT --the grace is over--> `Session.clients_gone`
                        |    ^
                        +----+ a newer link of the same client takes over

**Several clients** (the shared session of `receiver` mode): each has an outbox of its own, the messages in them are the
same objects. While none is there, `u2c` waits for the first to come; the last one to leave leaves its outbox behind.
One that holds up the others is closed (`SlowClientCheck`); one that is too fast is not read for a while (`Throttle`).
"""

from __future__ import annotations

import weakref
from typing import Protocol

from ..events import Limit, LimitReached, Observe, SlowClientClosed, TakenOver
from .backpressure import SlowClientCheck
from .clock import Clock, Timer
from .link import Leg, Link, LinkOwner
from .outbox import Outbox
from .policy import GraceOn, Policy
from .throttle import Throttle


class ClientsOwner(LinkOwner, Protocol):
    """What `Clients` ask of their session."""

    session_id: str | None
    #: What is owed to the client; with several, to the longest attached one. Set here.
    u2c: Outbox

    def client_message(self, link: Link, opcode: int, payload: bytes) -> None:
        """A client sent a data message."""

    def clients_gone(self, code: int, reason: str) -> None:
        """There will be no client any more; the upstream is to be closed with this code once it has what is queued."""

    def regulate(self) -> None:
        """It is another question than before who is to be read."""


class Clients:
    """The client leg of one session: `links`, or the wait for one."""

    #: For mypyc: what `let_go` deletes.
    __deletable__ = ["_session"]  # noqa: RUF012 - mypyc wants a list

    __slots__ = (
        "_check",
        "_clock",
        "_goodbye",
        "_grace",
        "_observe",
        "_overtaken",
        "_policy",
        "_session",
        "attached_before",
        "away_since",
        "links",
        "said_goodbye",
        "throttles",
    )

    def __init__(self, session: ClientsOwner, clock: Clock, policy: Policy, observe: Observe) -> None:
        # At most one, but in a shared session.
        self.links: list[Link] = []
        # A client has been there before.
        self.attached_before = False
        # When the last one left, or made way; before the first, when the session was made.
        self.away_since = clock.time()
        # Where there is a message rate: what keeps each client to it; None for one that has left, whose count stays.
        self.throttles: dict[Link | None, Throttle] | None = None if policy.max_rate is None else {}
        # How the last link ended, passed on to the upstream when the grace is over; whether the client said so itself.
        self._goodbye = (1001, "")
        self.said_goodbye = False
        self._session = session
        self._clock = clock
        self._policy = policy
        self._observe = observe
        self._grace: Timer | None = None
        # The socket that was taken over last, if it has not closed yet.
        self._overtaken: weakref.ref[Leg] | None = None
        # While several are compared, one of which is past its high-water mark.
        self._check: SlowClientCheck | None = None

    # Coming.

    def attach(self, leg: Leg, outbox: Outbox, wants_control: bool) -> Link:
        """Make `leg` a client's socket, or the client's, for whom `make_way` was called. Returns its link."""
        session = self._session
        throttle = self._throttle()
        deliver = session.client_message if throttle is None else throttle.deliver
        link = Link(leg, outbox, session, deliver, self._clock, self._policy)
        if throttle is not None and self.throttles is not None:
            self.throttles[link] = throttle
        link.wants_control = wants_control
        self.attached_before = True
        self.said_goodbye = False
        self.cancel_grace()
        self.links.append(link)
        return link

    def make_way(self) -> None:
        """Close the link that is there for a newer one of the same client."""
        while self.links:
            self._observe(TakenOver(self._session.session_id or ""))
            link = self.detach(self.links[0])
            link.close(4000, "taken over")
            # One socket of a session may take its time to close. A thousand resumes leave no thousand of them.
            before = self._overtaken() if self._overtaken is not None else None
            if before is not None:
                before.abort()
            self._overtaken = weakref.ref(link.leg)
            self.away_since = self._clock.time()

    def _throttle(self) -> Throttle | None:
        """Return what keeps a new link to the message rate, if there is one; a client cannot shed it by coming back."""
        if self._policy.max_rate is None or self.throttles is None:
            return None
        left = self.throttles.pop(None, None)
        return left or Throttle(self._policy.max_rate, self._clock, self._session.client_message, self._on_throttle)

    def _on_throttle(self, holding: bool) -> None:
        if holding:
            detail = f"more than {self._policy.max_rate} messages a second: the client is read more slowly"
            self._observe(LimitReached(self._session.session_id or "", Limit.RATE, detail))
        self._session.regulate()

    # Going.

    def detach(self, link: Link) -> Link:
        """Take `link` off. Of a shared session's outboxes that of the longest attached client stays."""
        links = self.links
        links.remove(link)
        if links:
            self._session.u2c = links[0].outbox
            link.outbox.release()
        else:
            self._session.u2c = link.outbox
        if self.throttles is not None:
            throttle = self.throttles.pop(link)
            throttle.stop()
            if not self._policy.shared:
                self.throttles[None] = throttle
        return link

    def close(self, code: int, reason: str) -> None:
        """Close all links."""
        while self.links:
            self.detach(self.links[0]).close(code, reason)

    def on_link_lost(self, link: Link, code: int, reason: str) -> None:
        """Take the loss of a link: the others go on, or one is awaited."""
        self.detach(link)
        self._session.regulate()
        if not self.links:
            self.await_return(code, reason)

    def await_return(self, code: int, reason: str) -> None:
        """Wait for a client, now that none is there any more, or give up. The last link ended with this code."""
        # 1006 and 1005 say how the client's link ended, but only 1005 can be said to the upstream.
        self.said_goodbye = code != 1006
        self._goodbye = (code, reason) if self.said_goodbye else (1001, "client gone")
        self.away_since = self._clock.time()
        clean = code == 1000 and self._policy.grace_on is GraceOn.ABNORMAL
        # A shared session belongs to no single client, so none can end it.
        if self._policy.grace == 0 or (clean and not self._policy.shared):
            self._on_grace_over()
        elif self._policy.grace is not None:
            self.cancel_grace()
            self._grace = self._clock.call_later(self._policy.grace, self._on_grace_over)

    @property
    def awaited(self) -> bool:
        """Whether none is there, and one may still come back within its grace."""
        return self._grace is not None

    def cancel_grace(self) -> None:
        """Let no grace run out: a client is there, or waits for the opening, or the session is over."""
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _on_grace_over(self) -> None:
        self._grace = None
        self._session.clients_gone(*self._goodbye)

    # Several.

    @property
    def full(self) -> bool:
        """Whether one of them is owed so much that the upstream is not to be read."""
        return any(client.outbox.full for client in self.links)

    def compare(self) -> None:
        """Begin to find out who is slow, if that has not begun: one of several is past its high-water mark."""
        if self._check is None:
            self._check = SlowClientCheck(self.links, self._clock, self._close_the_slow)

    def _close_the_slow(self) -> None:
        check, self._check = self._check, None
        assert check is not None, "it has called"
        for link in check.slow(self.links):
            waiting = len(link.outbox)
            self.detach(link).close(1013, "too slow")
            self._observe(SlowClientClosed(self._session.session_id or "", waiting))
        self._session.regulate()

    # The end.

    def stop(self) -> None:
        """Stop what is timed. No client is there any more, and none will be."""
        self.cancel_grace()
        if self._check is not None:
            self._check.stop()
            self._check = None
        if self.throttles is not None:
            self.throttles.clear()

    def let_go(self) -> None:
        """Let go of the session, which is over and refers to this: so both are gone without a collector of circles."""
        del self._session
