"""The client leg of a session: which clients are attached, which one takes over, and how long an absent one is awaited.

The counterpart of `Upstream`. That one dials; this side can only wait. So a client that is gone has its grace, and when
that is over the session (`Context`) hears that its clients will not come back.

    ABSENT --attach--> ATTACHED --detach, the last one--> ABSENT --the grace is over--> `ClientsOwner.clients_gone`
                        |    ^
                        +----+ a newer link of the same client takes over

**Several clients** (the shared session of `receiver` mode): each is a receiver of `u2c` with an outbox of its own (see
`stream`). One that holds up the others is closed (`SlowClientCheck`). In every mode, one that sends too fast is not
read for a while (`Throttle`).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from ..events import LegName, Limit, LimitReached, Observe, SlowClientClosed, TakenOver
from .ending import Ending
from .interfaces import ClientsOwner, Clock, Leg, Timer
from .link import DeliveryUncertain, Link
from .policy import GraceOn, Policy
from .side import SessionSide
from .slow_client import SlowClientCheck
from .stream import Stream
from .throttle import ClientRates
from .wire import Claim

# One for all sessions: most have no other one before their end.
_NO_CLIENT = Ending(1001, "")


class Clients(SessionSide):
    """The client leg of one session: `links`, or the wait for one."""

    leg = LegName.CLIENT

    __slots__ = (
        "_ending",
        "_grace",
        "_overtaken",
        "_slow_check",
        "attached_before",
        "away_since",
        "closed_by_client",
        "rates",
    )

    _session: ClientsOwner

    def __init__(
        self, session: ClientsOwner, feeds: Stream, owed: Stream, clock: Clock, policy: Policy, observe: Observe
    ) -> None:
        super().__init__(session, feeds, owed, clock, policy, observe)
        # A client has been there before.
        self.attached_before = False
        # When the last one left, or was taken over; before the first, when the session was made.
        self.away_since = clock.time()
        # Whether the client itself ended the last link. And what the upstream is closed with when the grace is over.
        self.closed_by_client = False
        self._ending = _NO_CLIENT
        self._grace: Timer | None = None
        # If there is a message rate: what keeps each client to it.
        self.rates: ClientRates | None = None
        if policy.max_rate is not None:
            self.rates = ClientRates(policy.max_rate, clock, feeds.intake, self._on_rate)
        # The socket that was taken over last, if it has not closed yet.
        self._overtaken: weakref.ref[Leg] | None = None
        # While several are compared, one of which is past its high-water mark.
        self._slow_check: SlowClientCheck | None = None

    @property
    def links(self) -> Sequence[Link]:
        """The attached clients, in the order in which they attached. At most one, except in a shared session."""
        return self.owed.receivers

    # Coming.

    def attach(self, leg: Leg, claim: Claim) -> Link:
        """Make `leg` the socket of a client, and settle the counts. Returns its link.

        The link is dead if messages may have arrived or not, and the policy is to end the session then.
        """
        if not self._policy.shared:
            self.make_way()
        again, away = self.attached_before, self._clock.time() - self.away_since
        link = self._make_link(leg)
        link.wants_control = claim.wants_control
        self.attached_before = True
        self.closed_by_client = False
        self.cancel_grace()
        self.owed.attach(link)
        try:
            resumption = link.resume(None if self._policy.shared else claim.received)
        except DeliveryUncertain as error:
            self._session.client_failed(1011, str(error))
        else:
            self._report_resumption(link, resumption, away, again)
        return link

    def _make_link(self, leg: Leg) -> Link:
        outbox, clock, policy = self.owed.next_outbox(), self._clock, self._policy
        if self.rates is None:
            return Link(leg, outbox, self, self.feeds.intake, clock, policy, client=True)
        throttle = self.rates.next_throttle()
        link = Link(leg, outbox, self, throttle.deliver, clock, policy, client=True)
        self.rates.attach(link, throttle)
        return link

    def make_way(self) -> None:
        """Close the link that is there, if there is one, for a newer one of the same client."""
        while self.links:
            self._observe(TakenOver(self.session_id))
            link = self.detach(self.links[0])
            link.close(4000, "taken over")
            # One socket of a session may take its time to close. A thousand resumes must not leave a thousand of them.
            before = self._overtaken() if self._overtaken is not None else None
            if before is not None:
                before.abort()
            self._overtaken = weakref.ref(link.leg)
            self.away_since = self._clock.time()

    def _on_rate(self, too_fast: bool) -> None:
        if too_fast:
            detail = f"more than {self._policy.max_rate} messages a second: the client is read more slowly"
            self._observe(LimitReached(self.session_id, Limit.RATE, detail))
        self._session.regulate()

    # Going.

    def detach(self, link: Link) -> Link:
        """Take `link` off and return it."""
        self.owed.detach(link)
        if self.rates is not None:
            self.rates.detach(link, comes_back=not self._policy.shared)
        return link

    def close(self, code: int, reason: str) -> None:
        """Close all links."""
        while self.links:
            self.detach(self.links[0]).close(code, reason)

    def close_delivered(self, code: int, reason: str) -> None:
        """Close each link whose client has everything it is owed."""
        for client in [client for client in self.links if not client.outbox]:
            self.detach(client).close(code, reason)

    def on_link_lost(self, link: Link, code: int, reason: str) -> None:
        """Go on with the other clients, or await the only one."""
        self.detach(link)
        if not self.links:
            self.await_return(code, reason, link.aware)

    def on_too_big(self, link: Link, code: int, reason: str) -> None:
        """End the session, unless it is shared: that belongs to no single client, so none can end it."""
        if self._policy.shared:
            self.on_link_lost(link, code, reason)
        else:
            self.detach(link)
            self._session.client_failed(code, reason)

    def await_return(self, code: int, reason: str, aware: bool = False) -> None:
        """Wait for a client to return, or give up, since none is there. The last link ended with this code.

        Args:
            code: the close code; 1006 if the link ended without a close frame.
            reason: the close reason.
            aware: the client stated its count.
        """
        # 1006 and 1005 say how the client's link ended, but only 1005 can be passed on to the upstream.
        self.closed_by_client = code != 1006
        self._ending = Ending(code, reason) if self.closed_by_client else Ending(1001, "client gone", by_proxy=True)
        self.away_since = self._clock.time()
        clean = self._policy.grace_on is GraceOn.ABNORMAL and says_goodbye(code, aware)
        # An aware client would be refused when it returns. Others would not notice that they get a new session.
        unused = not (aware or self._session.worth_keeping)
        # A shared session belongs to no single client, so none can end it.
        if self._policy.grace == 0 or ((clean or unused) and not self._policy.shared):
            self._on_grace_over()
        elif self._policy.grace is not None:
            self.cancel_grace()
            self._grace = self._clock.call_later(self._policy.grace, self._on_grace_over)

    @property
    def awaited(self) -> bool:
        """Whether the grace of an absent client is running."""
        return self._grace is not None

    def cancel_grace(self) -> None:
        """Stop the grace: a client is there, or waits for the first dial, or the session is over."""
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _on_grace_over(self) -> None:
        self._grace = None
        self._session.clients_gone(self._ending)

    # Several clients.

    def compare(self) -> None:
        """Begin to find out which client is slow, unless that has begun: one is past its high-water mark."""
        if self._slow_check is None:
            self._slow_check = SlowClientCheck(self.links, self._clock, self._close_slow_ones)

    def _close_slow_ones(self) -> None:
        check, self._slow_check = self._slow_check, None
        if check is None:
            return
        for link in check.slow(self.links):
            waiting = len(link.outbox)
            self.detach(link).close(1013, "too slow")
            self._observe(SlowClientClosed(self.session_id, waiting))
        self._session.regulate()

    # The end.

    def stop(self) -> None:
        """Stop every timer. No client is there, and none will come."""
        self.cancel_grace()
        if self._slow_check is not None:
            self._slow_check.stop()
            self._slow_check = None
        self.rates = None


def says_goodbye(code: int, aware: bool) -> bool:
    """Tell whether a link that ended with this close code says that its client will not return.

    An ordinary client says so with 1000, or with a close frame without a code (1005); a page that is left or reloaded
    sends 1001. An aware client that means to return drops its link: any close frame of it is a goodbye. So is that of a
    sender whose client has left, which passes the client's own code on.
    """
    return code != 1006 if aware else code in (1000, 1005)
