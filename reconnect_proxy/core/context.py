"""The session: one conversation between a client and an upstream, which outlives the sockets that carry it.

This is the whole product in one machine. It knows no socket, no task and no clock of its own: sockets call it, it calls
sockets (`Leg`), and a `Clock` calls it back. The table of PROTOCOL.md section 6 is its specification, row by row.

    client --Link.on_message--> c2u outbox --Link.pump--> upstream
    client <--Link.pump-- u2c outbox <--Link.on_message-- upstream

**Two streams, two outboxes.** What the client says is owed to the upstream (`c2u`), what the upstream says is owed to
the client (`u2c`), from the moment it is read until the peer has confirmed it. A link that is lost leaves its outbox
behind, and the next link goes on with it: first the counts are settled (`Link.resume`), then what is owed is sent in
order, and whatever comes in meanwhile queues up behind. A message has no other way out, so nothing can overtake.

**Two legs.** What a leg does by itself to have a link is not here: `Upstream` dials, `Clients` wait. The session hears
of a new link, of one that is lost, and of a side that is gone for good.

**Two ends.** A session ends because its client is gone for good or because its upstream is. Either way one side is owed
the rest of a stream: it is delivered first, then that side is closed with the code of the side that left. `_end` takes
the code and the side that is still owed something; `_finish` is the one place where a session stops to exist.

    OPENING --first dial decided--> OPEN --_end--> ENDING --delivered, or no hope left--> ENDED
       |  rejected, or the client does not wait                                            ^
       +-----------------------------------------------------------------------------------+

**Backpressure.** A full outbox stops the reading of the leg that feeds it (`regulate`). Both at once would be a
deadlock; `backpressure` says how that is avoided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from http import HTTPStatus

from ..events import (
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
    UncertainDropped,
)
from .backpressure import ReadForPongs
from .budget import MemoryBudget
from .clients import Clients
from .clock import Clock
from .delivery import Delivery
from .idle import IdleWatch
from .link import DeliveryUncertain, Leg, Link, Resumption
from .opening import ACCEPTED, Opening, closed, gone, unreachable
from .outbox import Message, Outbox, OutOfRange
from .policy import Policy
from .pool import Pool
from .traffic import NOTHING, Traffic
from .upstream import DialAnswer, DialFailure, Dialler, Upstream
from .wire import Claim, Refusal, new_id

# Asked for with each message, and to look a member of an enum up takes as long as to queue the message.
_CLIENT, _UPSTREAM = LegName.CLIENT, LegName.UPSTREAM


class SessionState(Enum):
    """Where a session is in its life; see the picture above."""

    OPENING = auto()
    OPEN = auto()
    ENDING = auto()
    ENDED = auto()


class Context:
    """One session. `clients` are its client leg, with the links in `incoming`, and `upstream` is its outgoing leg."""

    __slots__ = (
        "_budget",
        "_clock",
        "_delivery",
        "_idle",
        "_observe",
        "_on_ended",
        "_opening",
        "_overdraft",
        "_owed_to",
        "_policy",
        "_waiters",
        "c2u",
        "clients",
        "ending",
        "incoming",
        "opened_at",
        "session_id",
        "state",
        "u2c",
        "uncounted_c2u",
        "uncounted_u2c",
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
        budget: MemoryBudget | None = None,
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
        self.state = SessionState.OPENING
        self._policy = policy
        self._budget = budget or MemoryBudget()
        self._clock = clock
        self._observe = observe
        # Owed to the upstream.
        self.c2u = self._outbox()
        # Owed to the client; with several, that of the longest attached one.
        self.u2c = self._outbox()
        # What they do not know of their streams.
        self.uncounted_c2u = self.uncounted_u2c = NOTHING
        self.clients = Clients(self, clock, policy, observe)
        # The links of the client leg, in the same list that `clients` keeps.
        self.incoming: list[Link] = self.clients.links
        self.upstream = Upstream(pool, self, dialler, clock, policy, observe)
        # Since then no client has been there.
        self.opened_at = self.clients.away_since
        # Told how the first dial ends; `_opening` is that outcome once it is known.
        self._waiters: Sequence[Callable[[Opening], None]] = ()
        self._opening: Opening | None = None
        # Where there is an idle timeout, from the first opening on.
        self._idle: IdleWatch | None = None
        # While `c2u` is full and the client is read all the same.
        self._overdraft: ReadForPongs | None = None
        # The close code and reason with which the session ends, or ended.
        self.ending = (1000, "")
        # From ENDING on: the side that is still owed messages; and the wait for it to have them.
        self._owed_to: LegName | None = None
        self._delivery: Delivery | None = None
        self._on_ended = on_ended

    @property
    def received_from_client(self) -> int:
        """How many `c2u` messages were received so far, with those that went no further: they had their Pong."""
        return self.uncounted_c2u.received(self.c2u)

    @property
    def received_from_upstream(self) -> int:
        """How many `u2c` messages were received so far, with those that went no further: they had their Pong."""
        return self.uncounted_u2c.received(self.u2c)

    @property
    def c2u_traffic(self) -> Traffic:
        """All that was received from clients so far, as the embedding program's filter let it pass."""
        return self.uncounted_c2u.traffic(self.c2u)

    @property
    def u2c_traffic(self) -> Traffic:
        """The same from the upstream; with several clients a message still counts once."""
        return self.uncounted_u2c.traffic(self.u2c)

    @property
    def undelivered_c2u(self) -> int:
        """How many `c2u` messages were accepted and cannot be delivered any more."""
        return self.uncounted_c2u.late.messages + (len(self.c2u) if self.state is SessionState.ENDED else 0)

    @property
    def undelivered_u2c(self) -> int:
        """How many `u2c` messages were accepted and cannot be delivered any more."""
        return self.uncounted_u2c.late.messages + (len(self.u2c) if self.state is SessionState.ENDED else 0)

    @property
    def client_away_since(self) -> float | None:
        """When, by the session's clock, the last client left that has not come back; None while one is there."""
        return None if self.incoming else self.clients.away_since

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
        return self._policy.resumable and self.state is not SessionState.ENDED and self._owed_to is not LegName.UPSTREAM

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
            self.clients.cancel_grace()
            self._waiters = [*self._waiters, waiter]
        else:
            waiter(self._opening)

    def _decide(self, opening: Opening) -> None:
        self._opening = opening
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            waiter(opening)
        if opening.accepted:
            self._opening = ACCEPTED

    def upstream_up(self, answer: DialAnswer, resumption: Resumption, away: float) -> None:
        """Go on with an upstream that is connected and whose gate is open: at first, or again."""
        link = self.upstream.link
        assert link is not None, "an upstream that is up has a link"
        self._report_resumption(LegName.UPSTREAM, link, resumption, away, self.state is not SessionState.OPENING)
        if self.state is SessionState.OPENING:
            self._opened(Opening(answer), connected=True)
        self.regulate()
        link.pump()
        if self._delivery is not None:
            self._delivery.check()

    def upstream_unreachable(self, failure: DialFailure) -> None:
        """Decide what the clients get that wait for an upstream which could not be had at first."""
        if failure.rejected:
            self._decide(Opening(failure=failure))
            self._finish(1014, failure.detail)
        elif not self._policy.accept_when_down:
            self._decide(unreachable(failure))
            self._finish(1014, "upstream unavailable")
        else:
            self.upstream.retry()
            self._opened(Opening(), connected=False)

    def _opened(self, opening: Opening, connected: bool) -> None:
        if self.session_id is None:
            self.session_id = new_id()
        self.state = SessionState.OPEN
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
        self.clients.make_way()
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
        clients = self.clients
        if not self._policy.shared:
            clients.make_way()
        again, away = clients.attached_before, self._clock.time() - clients.away_since
        # One more client of a shared session: its stream begins now.
        outbox = self._outbox(self.u2c.pushed, self.u2c.pushed_bytes) if self.incoming else self.u2c
        link = clients.attach(leg, outbox, claim.wants_control)
        try:
            resumption = link.resume(None if self._policy.shared else claim.received)
        except DeliveryUncertain as error:
            self._end(1011, str(error), owed_to=LegName.UPSTREAM)
            return link
        self._report_resumption(LegName.CLIENT, link, resumption, away, again)
        if link.wants_control and self.upstream.replay_info is not None:
            leg.send(*self.upstream.replay_info)
        # Before it is decided which leg is read: that depends on what is still to be sent.
        link.pump()
        self.link_relieved(link)
        return link

    def _outbox(self, start: int = 0, start_bytes: int = 0) -> Outbox:
        return Outbox(self._policy.max_queue, start, start_bytes, self._budget, self)

    def client_left(self, waiter: Callable[[Opening], None]) -> None:
        """Take note that a client which waited for the first dial (`when_opened`) went away before it could attach."""
        if waiter in self._waiters:
            self._waiters = [other for other in self._waiters if other != waiter]
        if not self.incoming and not self._waiters and self.state is not SessionState.ENDED:
            self.clients.await_return(1006, "")

    def clients_gone(self, code: int, reason: str) -> None:
        """Deliver what the upstream is owed, then close it with this code: there will be no client any more."""
        if self._owed_to is LegName.CLIENT:
            self.delivery_over()
        else:
            self._end(code, reason, owed_to=LegName.UPSTREAM)

    # Messages. Nothing here waits, and nothing is sent but by `Link.pump`.

    def client_message(self, link: Link | None, opcode: int, payload: bytes) -> None:
        """Take a data message of a client, to be delivered to the upstream, which may have to be reached first."""
        if self._owed_to is _CLIENT:
            self.uncounted_c2u = self.uncounted_c2u.with_late(len(payload))
            return
        c2u = self.c2u
        c2u.push((opcode, payload))
        upstream = self.upstream.link
        if upstream is not None:
            upstream.pump(None if link is None else link.heard_at)
        if c2u.full:
            self.regulate()

    def upstream_message(self, link: Link | None, opcode: int, payload: bytes) -> None:
        """Take a data message of the upstream, to be delivered to each client, or to the first to come."""
        if self._owed_to is _UPSTREAM:
            self.uncounted_u2c = self.uncounted_u2c.with_late(len(payload))
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
            self.regulate()

    def upstream_control(self, message: Message) -> None:
        """Push a control message to each client that understands it, uncounted (PROTOCOL.md sections 1 and 5)."""
        for client in self.incoming:
            if client.wants_control:
                client.leg.send(*message)

    def add(self, towards: LegName, message: Message) -> bool:
        """Put a message of the embedding program's own into the stream towards one leg, behind what is owed there.

        Returns whether it was taken: nothing is any more once its side is being closed.
        """
        if self.state is SessionState.ENDED or (self.state is SessionState.ENDING and self._owed_to is not towards):
            return False
        # Not `self.…`: what the embedding program says itself is not shown to its filter.
        if towards is LegName.UPSTREAM:
            self.uncounted_c2u = self.uncounted_c2u.with_added()
            Context.client_message(self, None, *message)
        else:
            self.uncounted_u2c = self.uncounted_u2c.with_added()
            Context.upstream_message(self, None, *message)
        return True

    # What links report.

    def link_relieved(self, link: Link) -> None:
        """Read on where an outbox has emptied, and end if that was the last thing to wait for."""
        self.regulate()
        if self._delivery is not None:
            self._delivery.check()

    def link_lost(self, link: Link, code: int, reason: str) -> None:
        """Take the loss of a socket. The link is dead, what it had sent and not confirmed is pending again."""
        leg = self._leg_of(link)
        self._tell(LegLost(self.session_id or "", leg, code, reason, len(link.outbox)))
        if leg is LegName.UPSTREAM:
            self.upstream.on_link_lost(link, code, reason)
            self.regulate()
        else:
            self.clients.on_link_lost(link, code, reason)

    def link_mute(self, link: Link) -> None:
        """Take note of a peer that answers no Ping."""
        self._tell(LegMute(self.session_id or "", self._leg_of(link)))
        self.link_relieved(link)

    def link_too_big(self, link: Link, reason: str) -> None:
        """End the session: a peer sent a message above the limit. Its socket is being closed with 1009 already."""
        leg = self._leg_of(link)
        self._tell(LimitReached(self.session_id or "", Limit.MESSAGE, reason))
        self._tell(LegLost(self.session_id or "", leg, 1009, reason, len(link.outbox)))
        if leg is LegName.UPSTREAM:
            self.upstream.terminate(1009, reason)
            self.upstream_gone(1009, reason)
        elif self._policy.shared:
            # A shared session belongs to no single client, so none can end it.
            self.clients.on_link_lost(link, 1009, reason)
        else:
            self.clients.detach(link)
            self.regulate()
            self._end(1009, reason, owed_to=LegName.UPSTREAM)

    def _leg_of(self, link: Link) -> LegName:
        return LegName.UPSTREAM if link is self.upstream.link else LegName.CLIENT

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
        self.regulate()

    def regulate(self) -> None:
        """Stop reading the leg that feeds a full outbox, and read it again once that outbox has emptied.

        Exception to the rule: when both are full and the client has been sent all that it is owed, what empties its
        outbox are its Pongs; they arrive on the leg that a full `c2u` has stopped. So then the client is read all the
        same, and the session ends if `c2u` grows too far.
        """
        clients = self.incoming
        # With one, that is the outbox of this one; with none, that of the first to come.
        u2c_full = self.u2c.full if len(clients) < 2 else self.clients.full
        if u2c_full and len(clients) > 1:
            self.clients.compare()
        upstream = self.upstream.link
        if upstream is not None:
            # A gate opens with a message, and where `u2c` is given up nothing waits for it to empty.
            upstream.regulate(u2c_full and upstream.open and self._owed_to is not LegName.UPSTREAM)
        stop = self.c2u.full and self._owed_to is not LegName.CLIENT
        throttles = self.clients.throttles
        for_pongs = False
        for client in clients:
            waits_for_pong = client.outbox.full and not client.outbox.pending
            too_fast = throttles is not None and throttles[client].holding
            client.regulate((stop and not waits_for_pong) or too_fast)
            for_pongs = for_pongs or (stop and waits_for_pong)
        if not for_pongs:
            self._overdraft = None
            return
        if self._overdraft is None:
            self._overdraft = ReadForPongs(self.c2u, self._budget, self._policy.slack)
        if self._overdraft.exceeded and self.state is SessionState.OPEN:
            detail = f"{self.c2u.bytes_held} bytes are held of a client that sends on and does not say what it has"
            self._tell(LimitReached(self.session_id or "", Limit.QUEUE, detail))
            self._end(1013, "queue limit", owed_to=LegName.UPSTREAM)

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
        if self.state is SessionState.OPENING:
            # Gone between its handshake and the opening of its gate: nobody has been accepted yet.
            self._decide(gone(code, reason))
            self._finish(code, reason)
        elif self._owed_to is LegName.UPSTREAM:
            self.delivery_over()
        else:
            self._end(code, reason, owed_to=LegName.CLIENT)

    def close(self, code: int, reason: str, error: str = "stopping") -> None:
        """End the session now, whatever is still owed: both legs are closed with this code.

        Clients that wait for its first dial are refused, with `error` as the name of that refusal.
        """
        if self.state is SessionState.OPENING:
            self._decide(closed(error, reason))
        if self.state is not SessionState.ENDED:
            self._end(code, reason, owed_to=None)

    def _end(self, code: int, reason: str, owed_to: LegName | None) -> None:
        """Begin the end: close the sides that are owed nothing, deliver to the one that is."""
        if self.state is not SessionState.OPEN:
            # Nobody was accepted yet, or the other side goes as well: there is nobody to deliver to.
            self._finish(code, reason)
            return
        self.state = SessionState.ENDING
        self._owed_to = owed_to
        self.ending = (code, reason)
        if owed_to is not LegName.UPSTREAM:
            self._close_upstream(code, reason)
        if owed_to is not LegName.CLIENT:
            self.clients.close(code, reason)
        if owed_to is None:
            self._finish(code, reason)
            return
        if not self.incoming and not self.clients.awaited and owed_to is LegName.CLIENT and not self.u2c:
            # Nobody is awaited who could be told.
            self._finish(code, reason)
            return
        self.regulate()
        self._delivery = Delivery(self, owed_to is LegName.UPSTREAM, self._clock, self._policy)
        self._delivery.check()

    def delivery_over(self) -> None:
        """Finish as `_end` has said: the side that was owed something has it, or will never have it."""
        self._finish(*self.ending)

    def _finish(self, code: int, reason: str) -> None:
        """End the session: close what is open, stop what is timed, and say what could not be delivered."""
        if self.state is SessionState.ENDED:
            return
        was_open = self.state is not SessionState.OPENING
        self.state = SessionState.ENDED
        self.ending = (code, reason)
        self._close_upstream(code, reason)
        self.clients.close(code, reason)
        self.clients.stop()
        for wait in (self._delivery, self._idle):
            if wait is not None:
                wait.stop()
        self._delivery = self._idle = None
        age = self._clock.time() - self.opened_at
        self.c2u.release()
        self.u2c.release()
        if was_open:
            lost = self.undelivered_c2u, self.undelivered_u2c
            left = self._owed_to is LegName.UPSTREAM and self.clients.said_goodbye and not self._policy.shared
            received = (*self.c2u_traffic, *self.u2c_traffic)
            self._tell(SessionEnded(self.session_id or "", code, reason, age, *lost, *received, left=left))
        self._on_ended(self)
        # Whoever still refers to this may do so for long; the messages must not stay for that.
        self.c2u.let_go()
        self.u2c.let_go()
        self.upstream.let_go()
        self.clients.let_go()

    def _close_upstream(self, code: int, reason: str) -> None:
        # A restart, an overload or a bad gateway is what a server reports; towards the upstream the proxy is a client.
        self.upstream.terminate(1001 if code in (1012, 1013, 1014) else code, reason)

    # Reports.

    def _report_resumption(self, leg: LegName, link: Link, resumption: Resumption, away: float, again: bool) -> None:
        session_id = self.session_id or ""
        if resumption.dropped:
            self._tell(UncertainDropped(session_id, leg, resumption.dropped))
        if resumption.resent and leg is LegName.UPSTREAM:
            self.uncounted_c2u = self.uncounted_c2u.with_resent(resumption.resent)
        elif resumption.resent:
            self.uncounted_u2c = self.uncounted_u2c.with_resent(resumption.resent)
        if again:
            self._tell(Resumed(session_id, leg, resumption.resent, resumption.waiting, away, link.aware))

    def _tell(self, event: Event) -> None:
        self._observe(event)
