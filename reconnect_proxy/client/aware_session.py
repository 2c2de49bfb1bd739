"""The bookkeeping of an aware client: one session, over one link after the other (PROTOCOL.md sections 3, 4 and 6).

    layer ── push ──► outbox ──► Link ──► Leg ~~~ proxy     c2u: kept until a Pong or a 101 confirms it
    layer ◄── on_message ◄── take ◄── layer  ~~~ proxy      u2c: counted when the layer has taken it

It does no I/O, so every client is a thin layer over it: `client.session` under asyncio, and in the harness the users of
load runs under gevent (`load.aware`) and the clients of simulations (`simulate.aware_client`). The queue, the Pings,
the judgement of a silent peer and the retry budget are those of the proxy: `core.outbox`, `core.link`, `core.backoff`.

| when | a layer calls |
| --- | --- |
| it makes a handshake | `request_headers` |
| the answer is 101 | `answered`, `attach`; then `Link.pump`, when the socket can call the link |
| there is another answer, or none | `refused`, `unanswered` |
| there is a message to send | `push` |
| a link has brought a message | `take` |
| a link has ended, and is drained | `link_ended`, `goes_on_after` |
| it is to dial again | `next_wait` |
| the session is over | `end` |

**Drain before count.** A Pong promises that every message before the Ping is counted, and a library may answer a Ping
while messages before it lie in its buffer. So a layer takes what a link has brought to the last message, even if the
link was given up meanwhile, and only then asks for `request_headers`, which state the count.

The harness has one independent implementation, `peers.aware` with `peers.unconfirmed`, written from the text of
PROTOCOL.md. Each tests the other: `tests/reconnect_proxy/client/test_aware_session.py`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from websockets.exceptions import ConnectionClosedError

from ..core.backoff import LIVED_LONG, Carried, Draw, RetryBudget
from ..core.interfaces import Clock, Leg, Timer
from ..core.link import Link
from ..core.message import Message
from ..core.outbox import Outbox, OutOfRange
from ..core.policy import Policy
from ..core.wire import CONNECTION_ID, RECEIVED, RECONNECT_ID, Claim, Refusal, parse_count

logger = logging.getLogger(__name__)

#: Closes after which the session goes on over a new link. 1005 and 1006: without a code, RFC 6455 section 7.4.1.
RESUMED = frozenset({1001, 1005, 1006, 1011, 1012, 1013})

#: The close code of a link that another one has replaced, PROTOCOL.md section 6.
TAKEN_OVER = 4000

#: Refusals (4xx) after which a later handshake may be answered otherwise.
PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


def is_final(status: int) -> bool:
    """Tell whether a handshake that was answered with this HTTP status is not to be repeated."""
    return 400 <= status < 500 and status not in PASSING


class SessionLost(ConnectionClosedError):
    """The session is over and cannot be resumed.

    The proxy does not know it (410), the counts of the two ends disagree (409), or the retry budget is spent.

    Attributes:
        detail: what happened, as a sentence.
        status: the HTTP status of the refusal, or None where no refusal ended the session.
        unconfirmed: messages passed to `send`, in order, that were not confirmed: they may have arrived, or not.
    """

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(None, None, None)
        self.detail = detail
        self.status = status
        self.unconfirmed: tuple[str | bytes, ...] = ()

    def __str__(self) -> str:
        """Say what happened and how many messages are unconfirmed."""
        return f"{self.detail} ({len(self.unconfirmed)} messages unconfirmed)"


class SessionListener(Protocol):
    """The layer over a session, as the session calls it. No call enters the session again before it returns."""

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Take a message of the peer. It is counted."""

    def on_relieved(self) -> None:
        """Go on: messages were confirmed, or the link takes more again."""

    def on_link_lost(self, code: int, reason: str) -> None:
        """Take the end of the link as the link itself sees it, such as a silence that was too long (1006)."""


class AwareSession:
    """One session of an aware client.

    Attributes:
        session_id: the id under which the peer keeps the session, a secret; None if the peer names none. Before the
            first answer it is the id that the client has chosen, if it has.
        resumable: whether the peer speaks the protocol and resumes this session; None before the first answer.
        received: how many messages of the peer were taken.
        outbox: what the peer has not confirmed.
        link: the link of the moment, or the last one; None before the first.
    """

    def __init__(
        self,
        listener: SessionListener,
        clock: Clock,
        policy: Policy,
        session_id: str | None = None,
        draw: Draw = random.uniform,
    ) -> None:
        """Make a session that has no link yet. `draw` draws a number between two, uniformly: the waits."""
        self.session_id = session_id
        self.resumable: bool | None = None
        self.received = 0
        self.outbox = Outbox(policy.max_queue)
        self.link: Link | None = None
        self._listener = listener
        self._clock = clock
        self._policy = policy
        self._draw = draw
        # What was used of the retry budget. None: nothing, since the latest link has made progress, or is the first.
        self._budget: RetryBudget | None = None
        self._looking_back: Timer | None = None
        # Handshakes that were given up and may reach the proxy yet, where they take the session over from a good link.
        self._unanswered = 0

    # Handshakes.

    @property
    def claim(self) -> Claim:
        """What the next handshake says about the session."""
        if self.resumable:
            return Claim(reconnect_id=self.session_id, received=self.received)
        return Claim(connection_id=self.session_id, received=0)

    def request_headers(self) -> dict[str, str]:
        """Return the headers of the next handshake."""
        claim = self.claim
        ids = {CONNECTION_ID: claim.connection_id, RECONNECT_ID: claim.reconnect_id}
        return {RECEIVED: str(claim.received), **{name: text for name, text in ids.items() if text is not None}}

    def answered(self, header: Callable[[str], str | None]) -> int | None:
        """Read a 101; `header` returns the value of one of its headers.

        Returns how many messages the peer has received, for `attach`; None if it does not resume this session.

        Raises:
            SessionLost: the answer does not go with this session.
        """
        named, stated = header(CONNECTION_ID), header(RECEIVED)
        if self.resumable is None:
            self.resumable = named is not None and stated is not None
            self.session_id = named
        if not self.resumable:
            return None
        if named not in (None, self.session_id):
            raise SessionLost("the proxy resumed another session than the one that was asked for")
        try:
            return parse_count(RECEIVED, stated or "")
        except Refusal as malformed:
            raise SessionLost(f"the proxy's answer does not say what it received: {malformed}") from malformed

    def attach(self, leg: Leg, received: int | None) -> Link:
        """Make `leg` the link to a peer that has `received` so many messages. `Link.pump` sends it all others.

        Raises:
            SessionLost: that count is impossible.
        """
        link = Link(leg, self.outbox, self, self._deliver, self._clock, self._policy)
        try:
            link.resume(received)
        except OutOfRange as mismatch:
            link.die()
            raise SessionLost(
                f"the proxy's count of what it received disagrees with this client: {mismatch}"
            ) from mismatch
        self.link = link
        self._look_back()
        return link

    def refused(self, status: int, body: str = "") -> None:
        """Take an answer other than 101.

        Raises:
            SessionLost: the handshake is not to be repeated.
        """
        if is_final(status):
            raise SessionLost(f"the proxy refused with HTTP {status}: {body}".rstrip(": "), status)

    def unanswered(self) -> None:
        """Take a dial that was given up after its handshake may have left."""
        self._unanswered += 1

    # Messages.

    def push(self, message: Message) -> None:
        """Send a message, or keep it for the next link."""
        self.outbox.push(message)
        if self.link is not None:
            self.link.pump()

    def take(self, opcode: int, payload: bytes) -> None:
        """Take a message that a link has brought, even if that link is dead: a Pong may have promised to count it."""
        if self.link is not None:
            self.link.on_heard()
        self._deliver(opcode, payload)

    def _deliver(self, opcode: int, payload: bytes, now: float | None = None) -> None:
        self.received += 1
        self._listener.on_message(opcode, payload)

    # The end of a link, and the way to the next one.

    def link_ended(self) -> None:
        """Take the end of the link when everything that it has brought was taken. What it left unconfirmed is kept."""
        self._end_link()
        self._settle_budget()
        if self._budget is None:
            self._budget = RetryBudget(self._policy.retry_for, self._clock, self._draw, self._carried)

    def goes_on_after(self, code: int) -> bool:
        """Tell whether the session goes on after a link that the peer closed with this code (1006: without a close).

        A takeover may be the work of a handshake of this client that was given up; each explains one.
        """
        if not self.resumable:
            return False
        if code == TAKEN_OVER and self._unanswered:
            self._unanswered -= 1
            return True
        return code in RESUMED

    @property
    def deadline(self) -> float:
        """The time at which the retry budget is over."""
        assert self._budget is not None, "no link was lost"
        return self._budget.ends_at

    def next_wait(self, cause: object) -> float:
        """Return how long to wait before the next dial, in seconds.

        Raises:
            SessionLost: the retry budget is over; `cause` is why there is no link.
        """
        assert self._budget is not None, "no link was lost"
        left = self._budget.ends_at - self._clock.time()
        if left <= 0:
            raise SessionLost(f"there was no link for {self._policy.retry_for:g} s: {cause}")
        return min(self._budget.next_wait().delay, left)

    @property
    def _carried(self) -> Carried:
        return Carried(self.outbox.confirmed, self.received)

    def _settle_budget(self) -> None:
        """Give the whole budget back if the latest link has made progress."""
        if self._budget is not None and self.link is not None:
            lived = self._clock.time() - self.link.opened_at
            if self._budget.is_over_with(self._carried, len(self.outbox), lived, aware=True):
                self._budget = None

    def _look_back(self) -> None:
        """Look every LIVED_LONG whether the link has made progress: one that owes something at its end makes none."""
        self._settle_budget()
        if self._budget is not None:
            self._looking_back = self._clock.call_later(LIVED_LONG, self._look_back)

    def _end_link(self) -> None:
        if self.link is not None:
            self.link.die()
        if self._looking_back is not None:
            self._looking_back.cancel()

    def end(self) -> list[Message]:
        """End the session, and return the messages that were not confirmed, in order."""
        self._end_link()
        return [self.outbox.mark_sent() for _ in range(self.outbox.pending)]

    # What the link calls: `core.interfaces.LinkOwner`.

    def link_relieved(self, link: Link) -> None:
        self._listener.on_relieved()

    def link_lost(self, link: Link, code: int, reason: str) -> None:
        self._listener.on_link_lost(code, reason)

    def link_too_big(self, link: Link, reason: str) -> None:
        # Layers have limits of their own, and drop the socket themselves.
        link.leg.abort()

    def link_mute(self, link: Link) -> None:
        logger.warning("the server answers no Ping: what is written to it is not kept from now on")

    def link_answers(self, link: Link) -> None:
        logger.info("the server has answered a Ping: what is written to it is kept until it is confirmed")

    def link_uncertain(self, link: Link, count: int) -> None:
        logger.warning("%d messages were written to a server that answers no Ping, and may have arrived or not", count)

    def link_stuck(self, link: Link, reason: str) -> None:
        # Only compressed messages can be stuck, and layers compress by themselves if at all.
        link.leg.abort()

    def passes_compressed(self, link: Link) -> bool:
        return False
