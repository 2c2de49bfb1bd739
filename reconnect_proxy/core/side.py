"""What the two sides of a session have in common: each owns the links of its leg, and reports what becomes of them.

`Clients` and `Upstream` are the sides. A link tells its side what happened (`LinkOwner`); the side writes the event,
does what is particular to it, and the session (`Context`) hears the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ..events import (
    LegLost,
    LegMute,
    LegName,
    Limit,
    LimitReached,
    MessagesUncertain,
    MuteEnded,
    Observe,
    Resumed,
    UncertainDropped,
)
from .interfaces import Clock, SideOwner
from .link import Link, Resumption
from .policy import Policy
from .stream import Stream


class SessionSide(ABC):
    """One side of a session: the owner of its links."""

    __slots__ = ("_clock", "_observe", "_policy", "_session", "feeds", "owed")

    #: The leg of this side.
    leg: ClassVar[LegName]

    def __init__(
        self, session: SideOwner, feeds: Stream, owed: Stream, clock: Clock, policy: Policy, observe: Observe
    ) -> None:
        # The stream of what the peer sends, and that of what it receives.
        self.feeds = feeds
        self.owed = owed
        self._session = session
        self._clock = clock
        self._policy = policy
        self._observe = observe

    @property
    def session_id(self) -> str:
        """The id for events: "" while the session has none."""
        return self._session.session_id or ""

    # What links report.

    def link_relieved(self, link: Link) -> None:
        """Go on: messages were confirmed, or the socket takes more again."""
        self._session.relieved()

    def link_lost(self, link: Link, code: int, reason: str) -> None:
        """Take the loss of a socket. The link is dead; what was sent on it and not confirmed is pending again."""
        session = self._session
        self._observe(LegLost(self.session_id, self.leg, code, reason, len(link.outbox)))
        self.on_link_lost(link, code, reason)
        session.regulate()

    def link_mute(self, link: Link) -> None:
        """Report a peer that answers no Ping, and go on: what was written to it is no longer held."""
        self._observe(LegMute(self.session_id, self.leg))
        self._session.relieved()

    def link_answers(self, link: Link) -> None:
        """Report that a mute peer has answered a Ping."""
        self._observe(MuteEnded(self.session_id, self.leg, link.outbox.unproven))

    def link_uncertain(self, link: Link, count: int) -> None:
        """Count messages that a mute peer may have received or not: its link is over."""
        self.owed.written_off += count
        self._observe(MessagesUncertain(self.session_id, self.leg, count))

    def link_too_big(self, link: Link, reason: str) -> None:
        """Give up a peer that sent a message above the limit. Its socket is being closed with 1009 already."""
        session = self._session
        self._observe(LimitReached(self.session_id, Limit.MESSAGE, reason))
        self._observe(LegLost(self.session_id, self.leg, 1009, reason, len(link.outbox)))
        self.on_too_big(link, 1009, reason)
        session.regulate()

    def link_stuck(self, link: Link, reason: str) -> None:
        """End the session: a message that the peer is owed turned out to be corrupt when it was to be inflated."""
        self._session.close(1007, reason)

    def passes_compressed(self, link: Link) -> bool:
        """Tell whether compressed messages of the peer may stay compressed.

        Yes if every receiver that is there reads them. For one that comes later they are inflated; it is then too late
        to blame their sender for a corrupt one.
        """
        return self.feeds.passes_compressed()

    @abstractmethod
    def on_link_lost(self, link: Link, code: int, reason: str) -> None:
        """Do without the link, which is lost: get another one, or wait for one."""

    @abstractmethod
    def on_too_big(self, link: Link, code: int, reason: str) -> None:
        """Do without the peer: another link would bring the same message again."""

    # For the sides.

    def _report_resumption(self, link: Link, resumption: Resumption, away: float, again: bool) -> None:
        """Write the events of a new link. `away` is for how long there was none; `again`: the leg had one before."""
        if resumption.dropped:
            self.owed.written_off += resumption.dropped
            self._observe(UncertainDropped(self.session_id, self.leg, resumption.dropped))
        self.owed.resent += resumption.resent
        if again:
            self._observe(Resumed(self.session_id, self.leg, resumption.resent, resumption.waiting, away, link.aware))

    def forget_session(self) -> None:
        """Drop the reference to the session, which is over and refers to this: together they would need a collector."""
        del self._session
