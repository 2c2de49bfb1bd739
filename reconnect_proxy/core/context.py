"""The session: one conversation between a client and an upstream, which outlives the sockets that carry it.

This is the whole product in one machine. It knows no socket, no task and no clock of its own: sockets call it, it calls
sockets, and a clock calls it back (`interfaces` has all of these seams). The table of PROTOCOL.md section 6 is its
specification, row by row.

    client --Link.on_message--> c2u Stream: outbox --Link.pump--> upstream
    client <--Link.pump-- u2c Stream: outbox <--Link.on_message-- upstream

**Two streams.** What the client sends is owed to the upstream (`c2u`), and what the upstream sends is owed to the
client (`u2c`), from the moment it is read until the peer has confirmed it. A lost link leaves its outbox behind, and
the next link goes on with it: first the counts are settled (`Link.resume`), then everything owed is sent in order, and
what arrives meanwhile queues up behind it. There is no other way out for a message, so none can overtake another.

**Two sides.** `Upstream` dials until it has a link, `Clients` waits for one. Each does by itself what keeps its leg
going; the session hears that it is up, and that it will not come back.

**Two ends.** A session ends because its client will not come back, or because its upstream will not. Either way the
other side is owed the rest of one stream: that is delivered first (`Delivery`), and then this side is closed with the
code of the side that left. `_end` takes the code and the stream that is still to be delivered: this one stays OPEN, the
other one is CLOSED. `_finish` is the one place where a session ends.

    OPENING --first dial decided--> OPEN --_end--> ENDING --delivered, or no hope left--> ENDED
       |  rejected, or the client must not wait                                            ^
       +-----------------------------------------------------------------------------------+

**Backpressure.** A full outbox stops the reading of the leg that feeds it. Both at once would be a deadlock;
`backpressure` says how that is avoided. `regulate` is called whenever an outbox may have become full or not full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import auto
from http import HTTPStatus

from ..events import (
    LegName,
    Limit,
    LimitReached,
    MessagesDropped,
    Observe,
    SessionOpened,
)
from .account import reports
from .backpressure import ReadForPongs, regulate
from .budget import MemoryBudget
from .clients import Clients
from .delivery import Delivery
from .dial import DialAnswer, DialFailure
from .ending import Ending
from .idle import IdleWatch
from .interfaces import Clock, Dialler, Filter, Leg, OnRedial
from .link import Link
from .message import Direction, Message
from .opening import ACCEPTED, FirstDial, Opening, Waiter, bad_handshake, closed, gone, unreachable
from .outbox import Outbox, OutOfRange
from .policy import Policy
from .pool import Pool
from .replay import PreambleOutbox
from .stream import Stream, StreamState
from .transitions import IllegalTransition, MachineState, Transitions
from .upstream import Upstream
from .wire import Claim, Refusal, new_id


class SessionState(MachineState):
    """Where a session is in its life; see the picture above."""

    OPENING = auto()
    OPEN = auto()
    ENDING = auto()
    ENDED = auto()


_TRANSITIONS: Transitions[SessionState] = {
    SessionState.OPENING: {SessionState.OPEN, SessionState.ENDED},
    SessionState.OPEN: {SessionState.ENDING},
    SessionState.ENDING: {SessionState.ENDED},
    SessionState.ENDED: (),
}

_NOT_ENDED = Ending(1000, "")


class Context:
    """One session: `clients` is its client leg, `upstream` its outgoing leg; `c2u` and `u2c` are its streams."""

    __slots__ = (
        "_clock",
        "_delivery",
        "_first_dial",
        "_for_pongs",
        "_idle",
        "_observe",
        "_on_ended",
        "_policy",
        "c2u",
        "clients",
        "ending",
        "opened_at",
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
        budget: MemoryBudget | None = None,
        message_filter: Filter | None = None,
        on_redial: OnRedial | None = None,
    ) -> None:
        """Make a session that is not dialled yet; see `open`.

        Args:
            session_id: the id that the client chose or the proxy made; None if the upstream's first message brings it.
            pool: the upstreams, shared with the other sessions.
            dialler: opens the sockets to them.
            clock: an event loop, or a counter.
            policy: the mode and the settings.
            observe: hears each event of the session's life.
            on_ended: called once, when the session has ended.
            budget: counts what all sessions hold together.
            message_filter: sees each message that is received.
            on_redial: returns what a plain upstream is sent first when it is connected again.
        """
        self.session_id = session_id
        self.state = SessionState.OPENING
        self._policy = policy
        self._clock = clock
        self._observe = observe
        self._on_ended = on_ended
        budget = budget or MemoryBudget()
        self.c2u = Stream(Direction.C2U, self, policy.max_queue, budget, message_filter)
        if policy.gate.replays:
            self.c2u.outbox = PreambleOutbox(policy, budget, self, clock)
        self.u2c = Stream(Direction.U2C, self, policy.max_queue, budget, message_filter)
        self.clients = Clients(self, self.c2u, self.u2c, clock, policy, observe)
        self.upstream = Upstream(self, self.u2c, self.c2u, pool, dialler, clock, policy, observe, on_redial)
        # While `c2u` is full and a client is read all the same.
        self._for_pongs: ReadForPongs | None = None
        self.opened_at = self.clients.away_since
        # The clients that wait for the first dial. None once the session is open.
        self._first_dial: FirstDial | None = FirstDial()
        self._idle: IdleWatch | None = None
        self.ending = _NOT_ENDED
        self._delivery: Delivery | None = None

    @property
    def links(self) -> list[Link]:
        """The links of both legs."""
        return [*self.u2c.receivers, *self.c2u.receivers]

    @property
    def outboxes(self) -> list[Outbox]:
        """Everything that is owed: one outbox for the upstream, and one for each client, or for the next one."""
        return [*self.c2u.outboxes, *self.u2c.outboxes]

    @property
    def client_away_since(self) -> float | None:
        """When, by the session's clock, the last client left; None while one is there."""
        return None if self.clients.links else self.clients.away_since

    @property
    def worth_keeping(self) -> bool:
        """Whether a client that returns would miss anything: the upstream was connected, or a message is held."""
        return self.upstream.connected_before or bool(self.c2u.outbox or self.u2c.outbox)

    @property
    def resumable(self) -> bool:
        """Whether a client may attach: the session still awaits or has its clients."""
        return self._policy.resumable and self.u2c.state is StreamState.OPEN

    @property
    def deflate(self) -> bool:
        """Whether compressed messages may be agreed on with the peers of this session."""
        return self._policy.deflate

    # Opening: the upstream is dialled first.

    def open(self) -> None:
        """Dial the upstream for the first time."""
        self.upstream.open()

    def when_opened(self, waiter: Waiter) -> None:
        """Call `waiter` with the outcome of the first dial: at once if it is known."""
        if self._first_dial is None:
            waiter(ACCEPTED)
        elif self._first_dial.tell(waiter):
            self.clients.cancel_grace()

    def client_left(self, waiter: Waiter) -> None:
        """Call `waiter` no more: its client went away before it could attach."""
        waited_for = self._first_dial is not None and self._first_dial.leave(waiter)
        if not self.clients.links and not waited_for and self.state is not SessionState.ENDED:
            self.clients.await_return(1006, "")

    def _decide(self, opening: Opening) -> None:
        if self._first_dial is not None:
            self._first_dial.decide(opening)
        if opening.accepted:
            self._first_dial = None

    def upstream_up(self, answer: DialAnswer) -> None:
        """Go on with an upstream that is connected and whose gate is open: for the first time, or again."""
        if self.state is SessionState.OPENING:
            self._opened(Opening(answer), connected=True)

    def upstream_unreachable(self, failure: DialFailure) -> None:
        """Decide what the waiting clients get, since the first dial reached no upstream."""
        if failure.rejected:
            self._decide(Opening(failure=failure))
            self._finish(Ending(1014, failure.detail))
        elif failure.incurable:
            self._decide(bad_handshake(failure))
            self._finish(Ending(1014, failure.detail))
        elif not self._policy.accept_when_down:
            self._decide(unreachable(failure))
            self._finish(Ending(1014, "upstream unavailable"))
        else:
            self.upstream.retry()
            self._opened(Opening(), connected=False)

    def _opened(self, opening: Opening, connected: bool) -> None:
        if self.session_id is None:
            self.session_id = new_id()
        self._enter(SessionState.OPEN)
        self._observe(SessionOpened(self.session_id, self.upstream.url, connected))
        if self._policy.idle_timeout is not None:
            self._idle = IdleWatch(self._policy.idle_timeout, self._clock, self._moved, self._on_idle)
        self._decide(opening)

    # The client leg.

    def admit(self, claim: Claim) -> int | None:
        """Settle the counts for a client that is about to attach. A link that it had is taken over.

        `attach` follows at once with its socket. Returns the count for the client's 101: how many `c2u` messages were
        received so far, or None for an unaware client.

        Raises:
            Refusal: 409, the client's count contradicts this session's; nothing changes.
        """
        if claim.received is None or self._policy.shared:
            return None
        try:
            self.u2c.outbox.check(claim.received)
        except OutOfRange as error:
            raise Refusal(HTTPStatus.CONFLICT, "histories-disagree", str(error)) from error
        self.clients.make_way()
        return self.c2u.received

    def agree_subprotocol(self, offers: Sequence[str]) -> str | None:
        """Return the subprotocol for a client's 101: that of the session, if this client offers it.

        While no upstream has been reached it can only be the client's first offer, which settles it.
        """
        if self.upstream.subprotocol is None:
            self.upstream.subprotocol = offers[0] if offers else ""
        return self.upstream.subprotocol if self.upstream.subprotocol in offers else None

    def attach(self, leg: Leg, claim: Claim) -> Link:
        """Make `leg` the client's socket. Its handshake is complete."""
        link = self.clients.attach(leg, claim)
        if not link.dead:
            if link.wants_control and self.upstream.replay_info is not None:
                leg.send(*self.upstream.replay_info)
            # Before it is decided which leg is read: that depends on what is still to be sent.
            link.start()
            self.upstream.needed()
            self.relieved()
        return link

    def upstream_control(self, message: Message) -> None:
        """Push a control message to each client that understands it, uncounted (PROTOCOL.md section 5)."""
        for client in self.clients.links:
            if client.wants_control:
                client.leg.send(*message)

    def add(self, towards: LegName, message: Message) -> bool:
        """Put a message of the embedding program into the stream towards one leg, behind everything that is owed there.

        Returns whether it was taken: not if its side is closed, or being closed.
        """
        taken = (self.c2u if towards is LegName.UPSTREAM else self.u2c).add(message)
        self.upstream.needed()
        return taken

    # Backpressure and idleness.

    def relieved(self) -> None:
        """Read on if an outbox has emptied, and end if that was the last thing to wait for."""
        self.regulate()
        if self._delivery is not None:
            self._delivery.check()

    def regulate(self) -> None:
        """Decide again which legs are read: an outbox has become full, or is not full any more.

        Ends the session of a client that sends too much while it is read for its Pongs alone.
        """
        if not regulate(self.c2u, self.u2c, self.clients, self.upstream):
            self._for_pongs = None
            return
        if self._for_pongs is None:
            self._for_pongs = ReadForPongs(self.c2u.outbox, self._policy.slack)
        if self._for_pongs.exceeded and self.state is SessionState.OPEN:
            held = self.c2u.outbox.bytes_held
            detail = f"{held} bytes are held of a client that sends on and does not say what it has"
            self._observe(LimitReached(self.session_id or "", Limit.QUEUE, detail))
            self.client_failed(1013, "queue limit")

    def _moved(self) -> int | None:
        """Return a count that changes with every message, when it comes and when it is confirmed.

        None while a leg has no link: then the grace or the retry budget decides how long to wait.
        """
        if not self.clients.links or self.upstream.link is None:
            return None
        return self.c2u.received + self.u2c.received + self.c2u.outbox.confirmed + self.u2c.outbox.confirmed

    def _on_idle(self) -> None:
        """End a session over which nothing moves, with 1000: a client that is told 1001 would dial again at once."""
        self.end_at(Limit.IDLE, f"no message moved for {self._policy.idle_timeout:g} s", 1000, "idle")

    def end_at(self, limit: Limit, detail: str, code: int, reason: str) -> None:
        """End the session with this code and reason, since it has reached a limit; `detail` is for the log."""
        self._observe(LimitReached(self.session_id or "", limit, detail))
        self.close(code, reason)

    # The end.

    def clients_gone(self, ending: Ending) -> None:
        """Deliver what the upstream is owed, then close it with this code: no client will come back."""
        if self.c2u.state is StreamState.CLOSED:
            self.delivery_over()
        else:
            self._end(ending, self.c2u)

    def client_failed(self, code: int, reason: str) -> None:
        """Close the client with this code now, and the upstream when it has what it is owed."""
        self._end(Ending(code, reason, by_proxy=True), self.c2u)

    def upstream_gone(self, ending: Ending) -> None:
        """Deliver what the client is owed, then close it with this code: no upstream will be reached again."""
        if ending.code == 1006:
            # Not to be sent in a close frame (RFC 6455 section 7.4.1).
            ending = Ending(1014, ending.reason or "upstream connection lost", by_proxy=True)
        if self.state is SessionState.OPENING:
            # It left between its handshake and the opening of its gate, and no client was accepted yet.
            self._decide(gone(ending.code, ending.reason))
            self._finish(ending)
        elif self.u2c.state is StreamState.CLOSED:
            self.delivery_over()
        else:
            self._end(ending, self.u2c)

    def close(self, code: int, reason: str, error: str = "stopping", by_proxy: bool = True) -> None:
        """End the session now, even if messages are still owed: both legs are closed with this code.

        Clients that wait for the first dial are refused, with `error` as the name of the refusal. `by_proxy`: the
        reason is the proxy's own, and not that of the embedding program.
        """
        if self.state is SessionState.OPENING:
            self._decide(closed(error, reason))
        if self.state is not SessionState.ENDED:
            self._end(Ending(code, reason, by_proxy), None)

    def _end(self, ending: Ending, undelivered: Stream | None) -> None:
        """Begin the end: close the sides that are owed nothing, and deliver the one stream that is `undelivered`."""
        if self.state is not SessionState.OPEN:
            # No client was accepted yet, or the other side leaves as well: nothing can be delivered.
            self._finish(ending)
            return
        self._enter(SessionState.ENDING)
        self.ending = ending
        if undelivered is not self.c2u:
            self.c2u.close()
            self._close_upstream()
        if undelivered is not self.u2c:
            self.u2c.close()
            self.clients.close(*self.told_clients())
        if undelivered is None or not self._deliverable(undelivered):
            self._finish(ending)
            return
        self.regulate()
        self._delivery = Delivery(self, undelivered, self.clients, self._clock, self._policy)
        self._delivery.check()

    def _deliverable(self, stream: Stream) -> bool:
        """Tell whether there is anything to wait for: something is owed, or a client is there or awaited to be told."""
        return stream is self.c2u or bool(self.clients.links or self.clients.awaited or stream.outbox)

    def delivery_over(self) -> None:
        """Finish as `_end` has said: the side that was owed something has it, or will never have it."""
        self._finish(self.ending)

    def told_clients(self) -> tuple[int, str]:
        """Return the code and reason with which clients are closed."""
        return self.ending.code, self.ending.told(self.c2u.doubtful)

    def _finish(self, ending: Ending) -> None:
        """End the session: close what is open, stop every timer, and report what could not be delivered."""
        if self.state is SessionState.ENDED:
            return
        was_open = self.state is not SessionState.OPENING
        to_upstream = self.c2u.state is StreamState.OPEN and self.u2c.state is StreamState.CLOSED
        self._enter(SessionState.ENDED)
        self.ending = ending
        self._close_upstream()
        self.clients.close(*self.told_clients())
        self.clients.stop()
        for wait in (self._delivery, self._idle):
            if wait is not None:
                wait.stop()
        self._delivery = self._idle = None
        self.c2u.end()
        self.u2c.end()
        left = to_upstream and self.clients.closed_by_client and not self._policy.shared
        age = self._clock.time() - self.opened_at
        for event in reports(self.session_id or "", ending, age, left, self.c2u, self.u2c):
            if was_open or isinstance(event, MessagesDropped):
                self._observe(event)
        self._on_ended(self)
        self._forget()

    def _forget(self) -> None:
        """Drop the messages, and the references back to this object: others may refer to it for long."""
        self.c2u.forget()
        self.u2c.forget()
        self.upstream.forget_session()
        self.clients.forget_session()

    def _close_upstream(self) -> None:
        # A server reports a restart, an overload or a bad gateway; towards the upstream the proxy is a client.
        code = 1001 if self.ending.code in (1012, 1013, 1014) else self.ending.code
        self.upstream.terminate(code, self.ending.told(self.u2c.doubtful))

    def _enter(self, state: SessionState) -> None:
        if state not in _TRANSITIONS[self.state]:
            raise IllegalTransition(self.state, state)
        self.state = state
