"""The session: one conversation between a client and an upstream, which outlives the sockets that carry it.

This is the whole product in one machine. It knows no socket, no task and no clock of its own: sockets call it, it calls
sockets (`Leg`), and a `Clock` calls it back. The table of PROTOCOL.md section 6 is its specification, row by row.

    client --Link.on_message--> c2u outbox --Link.pump--> upstream
    client <--Link.pump-- u2c outbox <--Link.on_message-- upstream

**Two streams, two outboxes.** What the client says is owed to the upstream (`c2u`), what the upstream says is owed to
the client (`u2c`), from the moment it is read until the peer has confirmed it. A link that is lost leaves its outbox
behind, and the next link goes on with it: first the counts are settled (`Link.resume`), then what is owed is sent in
order, and whatever comes in meanwhile queues up behind. A message has no other way out, so nothing can overtake.

**Two ends.** A session ends because its client is gone for good or because its upstream is. Either way one side is owed
the rest of a stream: it is delivered first, then that side is closed with the code of the side that left. `_end` takes
the code and the side that is still owed something; `_finish` is the one place where a session stops to exist.

    OPENING --first dial decided--> OPEN --_end--> ENDING --delivered, or no hope left--> ENDED
       |  rejected, or the client does not wait                                            ^
       +-----------------------------------------------------------------------------------+

**Backpressure.** A full outbox stops the reading of the leg that feeds it. Both at once would be a deadlock, since the
Pongs that empty one outbox arrive on the leg that the other one has stopped; `_regulate` says how that is avoided.

**Several clients** (the shared session of `receiver` mode): each has an outbox of its own, the messages in them are the
same objects. While none is there, `u2c` waits for the first to come; the last one to leave leaves its outbox behind.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from .budget import Budget
from .clock import Clock, Timer
from .events import (
    Event,
    LegLost,
    LegMute,
    LegName,
    Limit,
    LimitReached,
    Observe,
    Resumed,
    SessionEnded,
    SessionOpened,
    SlowClientClosed,
    TakenOver,
    UncertainDropped,
)
from .idle import IdleWatch
from .link import DeliveryUncertain, Leg, Link, Resumption
from .outbox import Message, Outbox, OutOfRange
from .policy import GraceOn, Policy
from .pool import Pool
from .throttle import Throttle
from .upstream import Answer, Dialler, Failure, Upstream
from .wire import Claim, Refusal, new_id

#: How far the `c2u` outbox may pass its high-water mark while the client is read for its Pongs alone, as a factor.
HARD_LIMIT = 2
#: How long, in seconds, the others wait for one of several clients that is past its high-water mark.
SLOW_AFTER = 1.0

_NOTHING: Mapping[Link, int] = MappingProxyType({})

# Asked for with each message, and to look a member of an enum up takes as long as to queue the message.
_CLIENT, _UPSTREAM = LegName.CLIENT, LegName.UPSTREAM


class State(Enum):
    """Where a session is in its life; see the picture above."""

    OPENING = auto()
    OPEN = auto()
    ENDING = auto()
    ENDED = auto()


class Traffic(NamedTuple):
    """What went in one direction: messages, and the bytes of their payloads."""

    messages: int
    bytes: int

    def plus(self, messages: int, size: int) -> Traffic:
        """Return this and some more messages of `size` bytes together."""
        return Traffic(self.messages + messages, self.bytes + size)


_NO_TRAFFIC = Traffic(0, 0)


@dataclass(slots=True)
class Opening:
    """How the first dial ended, for the clients that wait for it: accepted (`refusal` None) or not.

    `answer` is None where no upstream could be reached and the clients are accepted all the same.
    """

    answer: Answer | None = None
    failure: Failure | None = None
    refusal: Refusal | None = None


# What is known of an opening later on, when those have been told for whom the upstream's answer was.
_ACCEPTED = Opening()


class Context:
    """One session. `incoming` are the links of its client leg, `upstream` its outgoing leg."""

    __slots__ = (
        "_away_since",
        "_budget",
        "_client_closed",
        "_client_code",
        "_client_reason",
        "_clock",
        "_confirmed_at",
        "_confirmed_before",
        "_deadline",
        "_ending_code",
        "_ending_reason",
        "_grace",
        "_held_at_first",
        "_idle",
        "_last_confirmed",
        "_observe",
        "_on_ended",
        "_opening",
        "_overtaken",
        "_owed_to",
        "_policy",
        "_seen_client",
        "_slow",
        "_throttles",
        "_waiters",
        "added_c2u",
        "added_u2c",
        "c2u",
        "dropped_c2u",
        "dropped_u2c",
        "incoming",
        "late_c2u",
        "late_u2c",
        "opened_at",
        "resent_c2u",
        "resent_u2c",
        "session_id",
        "state",
        "u2c",
        "upstream",
    )

    def __init__(
        self,
        session_id: str | None,
        pool: Pool,
        dialler: Dialler,
        clock: Clock,
        policy: Policy,
        observe: Observe,
        on_ended: Callable[[Context], None],
        budget: Budget | None = None,
    ) -> None:
        """Make a session that is not dialled yet; see `open`.

        Args:
            session_id: the id the client chose or the proxy made; None if the upstream's first message is to bring it.
            pool: the upstreams, shared with the other sessions.
            dialler: opens the sockets to them.
            clock: an event loop, or a counter.
            policy: the mode and the settings.
            observe: hears each event of the session's life.
            on_ended: called once, when the session has ended.
            budget: what all sessions may hold together.
        """
        self.session_id = session_id
        self.state = State.OPENING
        self._policy = policy
        self._budget = budget or Budget()
        # Owed to the upstream.
        self.c2u = self._outbox()
        # Owed to the client; with several, that of the longest attached one.
        self.u2c = self._outbox()
        # The links of the client leg: at most one, but in a shared session.
        self.incoming: list[Link] = []
        self.upstream = Upstream(pool, self, dialler, clock, policy, observe)
        self.opened_at = clock.time()
        # What came when there was nobody left to deliver it to.
        self.late_c2u = self.late_u2c = _NO_TRAFFIC
        # Messages that were sent again on a new link.
        self.resent_c2u = 0
        self.resent_u2c = 0
        # Messages that were received and are no part of the stream, and those of which the opposite is true: what the
        # embedding program takes out (see `filtered`) and puts in (`add`).
        self.dropped_c2u = self.dropped_u2c = 0
        self.added_c2u = self.added_u2c = 0
        self._clock = clock
        self._observe = observe
        self._on_ended = on_ended
        # Told how the first dial ends; `_opening` is that outcome once it is known.
        self._waiters: Sequence[Callable[[Opening], None]] = ()
        self._opening: Opening | None = None
        self._seen_client = False
        # How the client's last link ended, passed on to the upstream when the grace is over; whether it said so itself.
        self._client_code = 1001
        self._client_reason = ""
        self._client_closed = False
        self._away_since = self.opened_at
        self._grace: Timer | None = None
        # While ENDING: the side that is still owed messages, what it is closed with, and when hope is given up.
        self._owed_to: LegName | None = None
        self._ending_code = 1000
        self._ending_reason = ""
        self._deadline: Timer | None = None
        # How much that side had confirmed when it was looked at last, and since when it has not confirmed more.
        self._last_confirmed = 0
        self._confirmed_at = 0.0
        # With several clients: judges those past their mark, by what each had confirmed when that began.
        self._slow: Timer | None = None
        self._confirmed_before: Mapping[Link, int] = _NOTHING
        # The socket that was taken over last, if it has not closed yet.
        self._overtaken: weakref.ref[Leg] | None = None
        # What `c2u` held when the client began to be read for its Pongs alone; None while that is not so.
        self._held_at_first: int | None = None
        # Where there is a message rate: what keeps each client to it; None for one that has left, whose count stays.
        self._throttles: dict[Link | None, Throttle] | None = None if policy.max_rate is None else {}
        # Where there is an idle timeout, from the first opening on.
        self._idle: IdleWatch | None = None

    @property
    def received_from_client(self) -> int:
        """How many `c2u` messages were received so far, with those that went no further: they had their Pong."""
        return self.c2u.pushed + self.late_c2u.messages + self.dropped_c2u - self.added_c2u

    @property
    def received_from_upstream(self) -> int:
        """How many `u2c` messages were received so far, with those that went no further: they had their Pong."""
        return self.u2c.pushed + self.late_u2c.messages + self.dropped_u2c - self.added_u2c

    @property
    def ending(self) -> tuple[int, str]:
        """The close code and reason with which the session ends, or ended."""
        return self._ending_code, self._ending_reason

    @property
    def c2u_traffic(self) -> Traffic:
        """All that was received from clients so far, as the embedding program's filter let it pass."""
        return self.late_c2u.plus(self.c2u.pushed, self.c2u.pushed_bytes)

    @property
    def u2c_traffic(self) -> Traffic:
        """The same from the upstream; with several clients a message still counts once."""
        return self.late_u2c.plus(self.u2c.pushed, self.u2c.pushed_bytes)

    @property
    def undelivered_c2u(self) -> int:
        """How many `c2u` messages were accepted and cannot be delivered any more."""
        return self.late_c2u.messages + (len(self.c2u) if self.state is State.ENDED else 0)

    @property
    def undelivered_u2c(self) -> int:
        """How many `u2c` messages were accepted and cannot be delivered any more."""
        return self.late_u2c.messages + (len(self.u2c) if self.state is State.ENDED else 0)

    @property
    def client_away_since(self) -> float | None:
        """When, by the session's clock, the last client left that has not come back; None while one is there."""
        return None if self.incoming else self._away_since

    @property
    def links(self) -> list[Link]:
        """The links of both legs."""
        return [*self.incoming] if self.upstream.link is None else [*self.incoming, self.upstream.link]

    @property
    def outboxes(self) -> list[Outbox]:
        """All that is owed: one outbox for the upstream, and one for each client, or for the one that is to come."""
        return [self.c2u, *([client.outbox for client in self.incoming] or [self.u2c])]

    @property
    def resumable(self) -> bool:
        """Whether a client may (still) attach: the session has not lost its client for good."""
        return self._policy.resumable and self.state is not State.ENDED and self._owed_to is not LegName.UPSTREAM

    @property
    def deflate(self) -> bool:
        """Whether compressed messages may be agreed on with the peers of this session."""
        return self._policy.deflate

    # Opening: the upstream is dialled first.

    def open(self) -> None:
        """Dial the upstream for the first time."""
        self.upstream.open()

    def when_opened(self, waiter: Callable[[Opening], None]) -> None:
        """Call `waiter` with the outcome of the first dial: at once if it is known."""
        if self._opening is None:
            self._cancel_grace()
            self._waiters = [*self._waiters, waiter]
        else:
            waiter(self._opening)

    def _decide(self, opening: Opening) -> None:
        self._opening = opening
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            waiter(opening)
        if opening.refusal is None and opening.failure is None:
            self._opening = _ACCEPTED

    def upstream_up(self, answer: Answer, resumption: Resumption, away: float) -> None:
        """Go on with an upstream that is connected and whose gate is open: at first, or again."""
        link = self.upstream.link
        assert link is not None, "an upstream that is up has a link"
        self._report_resumption(LegName.UPSTREAM, link, resumption, away, self.state is not State.OPENING)
        if self.state is State.OPENING:
            self._opened(Opening(answer), connected=True)
        self._regulate()
        link.pump()
        self._finish_if_delivered()

    def upstream_unreachable(self, failure: Failure) -> None:
        """Decide what the clients get that wait for an upstream which could not be had at first."""
        if failure.rejected:
            self._decide(Opening(failure=failure))
            self._finish(1014, failure.detail)
        elif not self._policy.accept_when_down:
            detail = f"no upstream could be reached: {failure.detail}"
            self._decide(
                Opening(refusal=Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "upstream-unavailable", detail, retry_after=1))
            )
            self._finish(1014, "upstream unavailable")
        else:
            self.upstream.retry()
            self._opened(Opening(), connected=False)

    def _opened(self, opening: Opening, connected: bool) -> None:
        if self.session_id is None:
            self.session_id = new_id()
        self.state = State.OPEN
        self._tell(SessionOpened(self.session_id, self.upstream.url, connected))
        if self._policy.idle_timeout is not None:
            self._idle = IdleWatch(self._policy.idle_timeout, self._clock, self._moved, self._on_idle)
        self._decide(opening)

    # The client's leg.

    def admit(self, claim: Claim) -> int | None:
        """Settle the counts for a client that is about to attach; the link it had, if any, is taken over.

        `attach` follows at once with its socket. Returns the count for the client's 101: how many `c2u` messages were
        received so far, or None for an unaware client.

        Raises:
            Refusal: 409, the client's count and this session's history disagree; nothing changes.
        """
        if claim.received is None or self._policy.shared:
            return None
        outbox = self.u2c
        if not outbox.confirmed <= claim.received <= outbox.furthest:
            error = OutOfRange(claim.received, outbox.confirmed, outbox.furthest)
            raise Refusal(HTTPStatus.CONFLICT, "histories-disagree", str(error))
        self._take_over()
        return self.received_from_client

    def agree_subprotocol(self, offers: Sequence[str]) -> str | None:
        """Return the subprotocol for a client's 101: the session's, if this client offers it.

        While no upstream has been reached it can only be the client's first offer, and is settled with that.
        """
        if self.upstream.subprotocol is None:
            self.upstream.subprotocol = offers[0] if offers else ""
        return self.upstream.subprotocol if self.upstream.subprotocol in offers else None

    def attach(self, leg: Leg, claim: Claim) -> Link:
        """Make `leg` the client's socket. Its handshake is complete."""
        if not self._policy.shared:
            self._take_over()
        outbox = self._another_outbox() if self.incoming else self.u2c
        throttle = self._throttle()
        deliver = self._from_client if throttle is None else throttle.deliver
        link = Link(leg, outbox, self, deliver, self._clock, self._policy)
        if throttle is not None and self._throttles is not None:
            self._throttles[link] = throttle
        link.wants_control = claim.wants_control
        away = self._clock.time() - self._away_since
        self._cancel_grace()
        self.incoming.append(link)
        try:
            resumption = link.resume(None if self._policy.shared else claim.received)
        except DeliveryUncertain as error:
            self._end(1011, str(error), owed_to=LegName.UPSTREAM)
            return link
        self._report_resumption(LegName.CLIENT, link, resumption, away, self._seen_client)
        self._seen_client = True
        if link.wants_control and self.upstream.replay_info is not None:
            leg.send(*self.upstream.replay_info)
        # Before it is decided which leg is read: that depends on what is still to be sent.
        link.pump()
        self.link_relieved(link)
        return link

    def _another_outbox(self) -> Outbox:
        """Return the outbox of one more client of a shared session: its stream begins now."""
        return self._outbox(self.u2c.pushed, self.u2c.pushed_bytes)

    def _outbox(self, start: int = 0, start_bytes: int = 0) -> Outbox:
        return Outbox(self._policy.max_queue, start, start_bytes, self._budget, self)

    def client_left(self, waiter: Callable[[Opening], None]) -> None:
        """Take note that a client which waited for the first dial (`when_opened`) went away before it could attach."""
        if waiter in self._waiters:
            self._waiters = [other for other in self._waiters if other != waiter]
        if not self.incoming and not self._waiters and self.state is not State.ENDED:
            self._client_absent(1006, "")

    def _take_over(self) -> None:
        """Make way for a newer link of the same client."""
        while self.incoming:
            self._tell(TakenOver(self.session_id or ""))
            link = self._detach(self.incoming[0])
            link.close(4000, "taken over")
            # One socket of a session may take its time to close. A thousand resumes leave no thousand of them.
            before = self._overtaken() if self._overtaken is not None else None
            if before is not None:
                before.abort()
            self._overtaken = weakref.ref(link.leg)
            self._away_since = self._clock.time()

    def _detach(self, link: Link) -> Link:
        """Take `link` off the client leg. Of a shared session's outboxes that of the longest attached client stays."""
        self.incoming.remove(link)
        if self.incoming:
            self.u2c = self.incoming[0].outbox
            link.outbox.release()
        else:
            self.u2c = link.outbox
        if self._throttles is not None:
            throttle = self._throttles.pop(link)
            throttle.stop()
            if not self._policy.shared:
                self._throttles[None] = throttle
        return link

    def _client_absent(self, code: int, reason: str) -> None:
        """No client is attached any more: wait for one, or give up."""
        # 1006 and 1005 say how the client's link ended, but only 1005 can be said to the upstream.
        self._client_closed = code != 1006
        self._client_code, self._client_reason = (code, reason) if self._client_closed else (1001, "client gone")
        self._away_since = self._clock.time()
        clean = code == 1000 and self._policy.grace_on is GraceOn.ABNORMAL
        # A shared session belongs to no single client, so none can end it.
        if self._policy.grace == 0 or (clean and not self._policy.shared):
            self._on_grace_over()
        elif self._policy.grace is not None:
            self._cancel_grace()
            self._grace = self._clock.call_later(self._policy.grace, self._on_grace_over)

    def _on_grace_over(self) -> None:
        self._grace = None
        if self._owed_to is LegName.CLIENT:
            self._finish(self._ending_code, self._ending_reason)
        else:
            self._end(self._client_code, self._client_reason, owed_to=LegName.UPSTREAM)

    def _cancel_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    # Messages. Nothing here waits, and nothing is sent but by `Link.pump`.

    def _from_client(self, link: Link | None, opcode: int, payload: bytes) -> None:
        if self._owed_to is _CLIENT:
            self.late_c2u = self.late_c2u.plus(1, len(payload))
            return
        c2u = self.c2u
        c2u.push((opcode, payload))
        upstream = self.upstream.link
        if upstream is not None:
            upstream.pump(None if link is None else link.heard_at)
        if c2u.full:
            self._regulate()

    def upstream_message(self, link: Link | None, opcode: int, payload: bytes) -> None:
        """Take a data message of the upstream, to be delivered to each client, or to the first to come."""
        if self._owed_to is _UPSTREAM:
            self.late_u2c = self.late_u2c.plus(1, len(payload))
            return
        message = (opcode, payload)
        full = False
        if not self.incoming:
            self.u2c.push(message)
            full = self.u2c.full
        for client in self.incoming:
            client.outbox.push(message)
            client.pump(None if link is None else link.heard_at)
            full = full or client.outbox.full
        if full:
            self._regulate()

    def upstream_control(self, message: Message) -> None:
        """Push a control message to each client that understands it, uncounted (PROTOCOL.md sections 1 and 5)."""
        for client in self.incoming:
            if client.wants_control:
                client.leg.send(*message)

    def add(self, towards: LegName, message: Message) -> bool:
        """Put a message of the embedding program's own into the stream towards one leg, behind what is owed there.

        Returns whether it was taken: nothing is any more once its side is being closed.
        """
        if self.state is State.ENDED or (self.state is State.ENDING and self._owed_to is not towards):
            return False
        # Not `self.…`: what the embedding program says itself is not shown to its filter.
        if towards is LegName.UPSTREAM:
            self.added_c2u += 1
            Context._from_client(self, None, *message)
        else:
            self.added_u2c += 1
            Context.upstream_message(self, None, *message)
        return True

    def _throttle(self) -> Throttle | None:
        """Return what keeps a new link to the message rate, if there is one; a client cannot shed it by coming back."""
        if self._policy.max_rate is None or self._throttles is None:
            return None
        left = self._throttles.pop(None, None)
        return left or Throttle(self._policy.max_rate, self._clock, self._from_client, self._on_throttle)

    def _on_throttle(self, holding: bool) -> None:
        if holding:
            detail = f"more than {self._policy.max_rate} messages a second: the client is read more slowly"
            self._tell(LimitReached(self.session_id or "", Limit.RATE, detail))
        self._regulate()

    # What links report.

    def link_relieved(self, link: Link) -> None:
        """Read on where an outbox has emptied, and end if that was the last thing to wait for."""
        self._regulate()
        self._finish_if_delivered()

    def link_lost(self, link: Link, code: int, reason: str) -> None:
        """Take the loss of a socket. The link is dead, what it had sent and not confirmed is pending again."""
        if link is self.upstream.link:
            self._tell(LegLost(self.session_id or "", LegName.UPSTREAM, code, reason, len(self.c2u)))
            self.upstream.on_link_lost(link, code, reason)
            self._regulate()
        else:
            self._tell(LegLost(self.session_id or "", LegName.CLIENT, code, reason, len(link.outbox)))
            self._detach(link)
            self._regulate()
            if not self.incoming:
                self._client_absent(code, reason)

    def link_mute(self, link: Link) -> None:
        """Take note of a peer that answers no Ping."""
        leg = LegName.UPSTREAM if link is self.upstream.link else LegName.CLIENT
        self._tell(LegMute(self.session_id or "", leg))
        self.link_relieved(link)

    def link_too_big(self, link: Link, reason: str) -> None:
        """End the session: a peer sent a message above the limit. Its socket is being closed with 1009 already."""
        self._tell(LimitReached(self.session_id or "", Limit.MESSAGE, reason))
        if link is self.upstream.link:
            self._tell(LegLost(self.session_id or "", LegName.UPSTREAM, 1009, reason, len(self.c2u)))
            self.upstream.terminate(1009, reason)
            self.upstream_gone(1009, reason)
        else:
            self._tell(LegLost(self.session_id or "", LegName.CLIENT, 1009, reason, len(link.outbox)))
            self._detach(link)
            self._regulate()
            if not self._policy.shared:
                self._end(1009, reason, owed_to=LegName.UPSTREAM)
            elif not self.incoming:
                # A shared session belongs to no single client, so none can end it.
                self._client_absent(1009, reason)

    def link_stuck(self, link: Link, reason: str) -> None:
        """End the session: what a peer is owed is corrupt, which came out when it was to be inflated for this peer."""
        self.close(1007, reason)

    def passes_compressed(self, link: Link) -> bool:
        """Tell whether compressed messages of `link` may stay so: nobody is at the other leg who could not read them.

        Who comes later gets them inflated. But then it is too late to blame their sender for what cannot be.
        """
        upstream = self.upstream.link
        if link is upstream:
            return all(client.leg.deflate for client in self.incoming)
        return upstream is None or upstream.leg.deflate

    # Backpressure.

    def outbox_relieved(self) -> None:
        """Read on: an outbox is not full any more, because the other sessions hold less."""
        self._regulate()

    def _u2c_full(self) -> bool:
        if len(self.incoming) < 2:
            # That of the only client.
            return self.u2c.full
        return any(client.outbox.full for client in self.incoming)

    def _regulate(self) -> None:
        """Stop reading the leg that feeds a full outbox, and read it again once that outbox has emptied.

        Exception to the rule: when both are full and the client has been sent all that it is owed, what empties its
        outbox are its Pongs; they arrive on the leg that a full `c2u` has stopped. So then the client is read all the
        same, and `c2u` may pass its mark, up to HARD_LIMIT times, or by what sockets may hold in front of a Pong; and
        where all sessions together hold too much, it may grow by what the budget allows.
        """
        if self._slow is None and len(self.incoming) > 1 and self._u2c_full():
            self._confirmed_before = {client: client.outbox.confirmed for client in self.incoming}
            self._slow = self._clock.call_later(SLOW_AFTER, self._close_slow_clients)
        upstream = self.upstream.link
        if upstream is not None:
            # A gate opens with a message, and where `u2c` is given up nothing waits for it to empty.
            upstream.regulate(self._u2c_full() and upstream.open and self._owed_to is not LegName.UPSTREAM)
        stop = self.c2u.full and self._owed_to is not LegName.CLIENT
        read_all_the_same = False
        for client in self.incoming:
            waits_for_pong = client.outbox.full and not client.outbox.pending
            too_fast = self._throttles is not None and self._throttles[client].holding
            client.regulate((stop and not waits_for_pong) or too_fast)
            read_all_the_same = read_all_the_same or (stop and waits_for_pong)
        if read_all_the_same:
            self._read_for_pongs()
        else:
            self._held_at_first = None

    def _read_for_pongs(self) -> None:
        """End the session if `c2u` has grown too far since its client is read for its Pongs alone."""
        held, mark, slack = self.c2u.bytes_held, self.c2u.high_water, self._policy.slack
        if self._held_at_first is None:
            self._held_at_first = held
        too_much = held > max(HARD_LIMIT * mark, mark + slack)
        if (too_much or held - self._held_at_first > self._budget.allowance(slack)) and self.state is State.OPEN:
            detail = f"{held} bytes are held of a client that sends on and does not say what it has"
            self._tell(LimitReached(self.session_id or "", Limit.QUEUE, detail))
            self._end(1013, "queue limit", owed_to=LegName.UPSTREAM)

    def _close_slow_clients(self) -> None:
        """Close those of several clients that are past their mark while another moves much faster, or has all.

        A burst fills every outbox at once; then the upstream is held back, and nobody is slow yet. If none moves, none
        is closed: the upstream waits for them as it would for one.
        """
        self._slow = None
        moved = {link: link.outbox.confirmed - self._confirmed_before.get(link, 0) for link in self.incoming}
        self._confirmed_before = _NOTHING
        one_has_all = any(not link.outbox for link in self.incoming)
        for link in [link for link in self.incoming if link.outbox.full]:
            if one_has_all or 2 * moved[link] < max(moved.values()):
                waiting = len(link.outbox)
                self._detach(link).close(1013, "too slow")
                self._tell(SlowClientClosed(self.session_id or "", waiting))
        self._regulate()

    # Idleness.

    def _moved(self) -> int | None:
        """Return a count that every message moves, when it comes and when it is confirmed.

        Where a leg has no link it is None: then the grace or the retry budget decides how long to wait.
        """
        if not self.incoming or self.upstream.link is None:
            return None
        received = self.received_from_client + self.received_from_upstream
        return received + self.c2u.confirmed + self.u2c.confirmed

    def _on_idle(self) -> None:
        """End a session over which nothing moves.

        With 1000: an idle conversation has come to its end. A client that is told 1001, or a proxy in front of this
        one, would dial again at once.
        """
        detail = f"no message moved for {self._policy.idle_timeout:g} s"
        self._tell(LimitReached(self.session_id or "", Limit.IDLE, detail))
        self.close(1000, "idle")

    # The end.

    def upstream_gone(self, code: int, reason: str) -> None:
        """Deliver what the client is owed, then close it with this code: there will be no upstream any more."""
        if code == 1006:
            # Not to be sent in a close frame (RFC 6455 section 7.4.1).
            code, reason = 1014, reason or "upstream connection lost"
        if self.state is State.OPENING:
            # Gone between its handshake and the opening of its gate: nobody has been accepted yet.
            failure = Failure(f"upstream closed with {code} {reason}".strip())
            self._decide(Opening(refusal=Refusal(HTTPStatus.BAD_GATEWAY, "upstream-closed", failure.detail)))
            self._finish(code, reason)
        elif self._owed_to is LegName.UPSTREAM:
            self._finish(self._ending_code, self._ending_reason)
        else:
            self._end(code, reason, owed_to=LegName.CLIENT)

    def close(self, code: int, reason: str, error: str = "stopping") -> None:
        """End the session now, whatever is still owed: both legs are closed with this code.

        Clients that wait for its first dial are refused, with `error` as the name of that refusal.
        """
        if self.state is State.OPENING:
            refusal = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error, reason, retry_after=1)
            self._decide(Opening(refusal=refusal))
        if self.state is not State.ENDED:
            self._end(code, reason, owed_to=None)

    def _end(self, code: int, reason: str, owed_to: LegName | None) -> None:
        """Begin the end: close the sides that are owed nothing, deliver to the one that is."""
        if self.state is not State.OPEN:
            # Nobody was accepted yet, or the other side goes as well: there is nobody to deliver to.
            self._finish(code, reason)
            return
        self.state = State.ENDING
        self._owed_to = owed_to
        self._ending_code, self._ending_reason = code, reason
        if owed_to is not LegName.UPSTREAM:
            self._close_upstream(code, reason)
        if owed_to is not LegName.CLIENT:
            self._close_clients(code, reason)
        if owed_to is None:
            self._finish(code, reason)
            return
        if not self.incoming and self._grace is None and owed_to is LegName.CLIENT and not self.u2c:
            # Nobody is awaited who could be told.
            self._finish(code, reason)
            return
        self._regulate()
        self._watch_delivery()
        self._finish_if_delivered()

    def _finish_if_delivered(self) -> None:
        if self._owed_to is LegName.UPSTREAM and self.state is State.ENDING:
            if not self.c2u:
                self._finish(self._ending_code, self._ending_reason)
            elif self.upstream.link is not None:
                self.upstream.link.ask()
        elif self._owed_to is LegName.CLIENT and self.state is State.ENDING:
            for client in [client for client in self.incoming if not client.outbox]:
                self._detach(client).close(self._ending_code, self._ending_reason)
                if not self.incoming:
                    self._finish(self._ending_code, self._ending_reason)
                    return
            for client in self.incoming:
                client.ask()

    def _watch_delivery(self) -> None:
        """While ENDING, give a peer up that is connected and confirms nothing for as long as a silent one is given.

        An upstream that is lost and reached again, over and over, is given that time and the retry budget in all.
        """
        to_upstream = self._owed_to is LegName.UPSTREAM
        outbox = self.c2u if to_upstream else self.u2c
        link = self.upstream.link if to_upstream else next(iter(self.incoming), None)
        patience = self._policy.ping_interval + self._policy.ping_timeout
        now = self._clock.time()
        if self._deadline is None or outbox.confirmed != self._last_confirmed:
            self._last_confirmed, self._confirmed_at = outbox.confirmed, now
        stuck = now - self._confirmed_at
        # A peer that has just come back has had no time yet.
        given_up = link is not None and stuck >= patience and now >= link.opened_at + patience
        if given_up or (to_upstream and stuck >= patience + self._policy.retry_for):
            self._finish(self._ending_code, self._ending_reason)
            return
        self._deadline = self._clock.call_later(patience, self._watch_delivery)

    def _finish(self, code: int, reason: str) -> None:
        """End the session: close what is open, stop what is timed, and say what could not be delivered."""
        if self.state is State.ENDED:
            return
        was_open = self.state is not State.OPENING
        self.state = State.ENDED
        self._ending_code, self._ending_reason = code, reason
        self._close_upstream(code, reason)
        self._close_clients(code, reason)
        self._cancel_grace()
        for timer in (self._deadline, self._slow):
            if timer is not None:
                timer.cancel()
        self._deadline = self._slow = None
        if self._idle is not None:
            self._idle.stop()
            self._idle = None
        if self._throttles is not None:
            self._throttles.clear()
        age = self._clock.time() - self.opened_at
        self.c2u.release()
        self.u2c.release()
        if was_open:
            lost = self.undelivered_c2u, self.undelivered_u2c
            self._tell(
                SessionEnded(
                    self.session_id or "",
                    code,
                    reason,
                    age,
                    *lost,
                    *self.c2u_traffic,
                    *self.u2c_traffic,
                    left=self._owed_to is LegName.UPSTREAM and self._client_closed and not self._policy.shared,
                )
            )
        self._on_ended(self)
        # Whoever still refers to this may do so for long; the messages must not stay for that.
        self.c2u.let_go()
        self.u2c.let_go()
        self.upstream.let_go()

    def _close_upstream(self, code: int, reason: str) -> None:
        # A restart, an overload or a bad gateway is what a server reports; towards the upstream the proxy is a client.
        self.upstream.terminate(1001 if code in (1012, 1013, 1014) else code, reason)

    def _close_clients(self, code: int, reason: str) -> None:
        while self.incoming:
            self._detach(self.incoming[0]).close(code, reason)

    # Reports.

    def _report_resumption(self, leg: LegName, link: Link, resumption: Resumption, away: float, again: bool) -> None:
        session_id = self.session_id or ""
        if resumption.dropped:
            self._tell(UncertainDropped(session_id, leg, resumption.dropped))
        if leg is LegName.UPSTREAM:
            self.resent_c2u += resumption.resent
        else:
            self.resent_u2c += resumption.resent
        if again:
            self._tell(Resumed(session_id, leg, resumption.resent, resumption.waiting, away, link.aware))

    def _tell(self, event: Event) -> None:
        self._observe(event)
