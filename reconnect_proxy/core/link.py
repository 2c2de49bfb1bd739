"""One generation of a leg: sends what is owed, learns what has arrived, notices death.

    Outbox --pump--> Leg --> (peer)         messages, and a Ping with the number of the last one now and then
    Outbox <--confirm-- Link <-- (peer)     the Pong of n: the peer holds messages 1..n

A `Link` lives from the moment a socket carries the leg until that socket is lost; then it is `dead`, and nothing that
the socket may still say has any effect. The next socket gets a new `Link` on the same `Outbox`. The rules of
confirmation are those of PROTOCOL.md section 4; both legs of a session use this one class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from .clock import Clock, Timer
from .outbox import Outbox
from .policy import Policy, Uncertain
from .wire import decode_token, encode_token

#: A Ping follows after this many messages …
PING_EVERY_MESSAGES = 64
#: … or after this many bytes of payload …
PING_EVERY_BYTES = 256 * 1024
#: … or this many seconds after the last message, while anything is unconfirmed and no Ping is in flight; at once where
#: the outbox is full, since whoever feeds it waits.
PING_QUIET = 0.1
#: Pings in flight on a link at the most.
PINGS_IN_FLIGHT = 4


class Leg(Protocol):
    """What the core asks of a socket. No call blocks, and none calls back into the core before it returns."""

    #: False while the socket takes no more. The owner of the socket calls `Link.on_writable` when that changes.
    writable: bool
    #: The peer has agreed to compressed messages (RFC 7692). To any other they are sent inflated.
    deflate: bool

    def send(self, opcode: int, payload: bytes, /) -> None:
        """Write one whole data message."""

    def ping(self, payload: bytes, /) -> None:
        """Write a Ping."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake behind what was written; 1005 closes without a code."""

    def abort(self) -> None:
        """Drop the socket at once, with all that it has buffered."""

    def pause_reading(self) -> None:
        """Stop reading, so that TCP holds the peer back."""

    def resume_reading(self) -> None:
        """Read again."""

    def progress(self) -> int:
        """Return a number that differs from that of the last call if any byte arrived in between."""

    def flushed(self) -> bool:
        """Tell whether all that was written has reached the peer, as far as the system can say."""


class DeliveryUncertain(Exception):
    """`count` messages may or may not have arrived, and the session is set to end rather than guess."""

    def __init__(self, count: int) -> None:
        super().__init__(f"delivery of {count} messages is uncertain")
        self.count = count


class Resumption(NamedTuple):
    """How a new link begins: `waiting` messages are owed, `resent` of them again; `dropped` were given up."""

    waiting: int
    resent: int
    dropped: int


class LinkOwner(Protocol):
    """Who hears what a link has to say beside messages: the session."""

    def link_relieved(self, link: Link) -> None:
        """Messages were confirmed, or the socket takes more again."""

    def link_lost(self, link: Link, code: int, reason: str) -> None:
        """The socket is gone or closing, with the close code (1006: without one). The link is dead already."""

    def link_too_big(self, link: Link, reason: str) -> None:
        """The peer sent a message above the limit; its socket is being closed with 1009. The link is dead already."""

    def link_mute(self, link: Link) -> None:
        """The peer answers no Ping; from now on it is served at most once."""

    def link_stuck(self, link: Link, reason: str) -> None:
        """The next message cannot be sent to this peer, however often it is tried."""

    def passes_compressed(self, link: Link) -> bool:
        """Tell whether compressed messages of this link's peer may stay so, for those who are to get them."""


class Link:
    """The socket that carries a leg at the moment, and the bookkeeping of that socket."""

    __slots__ = (
        "_answered",
        "_bytes_since_ping",
        "_clock",
        "_deliver",
        "_last_progress",
        "_last_sent",
        "_moved_at",
        "_owner",
        "_paused_at",
        "_policy",
        "_quiet",
        "_sent_since_ping",
        "_tokens",
        "_watch",
        "aware",
        "dead",
        "heard_at",
        "leg",
        "mute",
        "open",
        "opened_at",
        "outbox",
        "paused",
        "settling",
        "wants_control",
    )

    def __init__(
        self,
        leg: Leg,
        outbox: Outbox,
        owner: LinkOwner,
        deliver: Callable[[Link, int, bytes], None],
        clock: Clock,
        policy: Policy,
    ) -> None:
        self.leg = leg
        # What is owed to the peer at the other end of this socket.
        self.outbox = outbox
        # The peer states its count; set by `resume`.
        self.aware = False
        # Control messages are pushed to this client (section 5).
        self.wants_control = False
        # False while the gate keeps data messages back.
        self.open = True
        # Lost: whatever the socket says now is ignored.
        self.dead = False
        # Not read, for backpressure; `regulate` decides.
        self.paused = False
        # Gets no more messages: see `settle`.
        self.settling = False
        # Breaks RFC 6455: sends data, answers no Ping.
        self.mute = False
        self.opened_at = clock.time()
        # When a frame came last; below `opened_at` until the first.
        self.heard_at = -math.inf
        self._owner = owner
        self._deliver = deliver
        self._clock = clock
        self._policy = policy
        # The Pings in flight, oldest first: the message number each stands for, and since when its Pong is awaited.
        self._tokens: list[tuple[int, float]] = []
        self._answered = False
        self._paused_at = self.opened_at
        # When it was last known to be alive for another reason than a frame: bytes of one, or that nobody read it.
        self._moved_at = self.opened_at
        self._sent_since_ping = 0
        self._bytes_since_ping = 0
        self._last_sent = 0.0
        self._last_progress = leg.progress()
        self._quiet: Timer | None = None
        self._watch: Timer | None = clock.call_later(min(policy.ping_interval, policy.ping_timeout), self._on_watch)

    # What goes out.

    def resume(self, received: int | None) -> Resumption:
        """Settle what earlier links left open, before anything is sent.

        Args:
            received: the count that the peer stated; None if it is unaware.

        Raises:
            OutOfRange: the stated count cannot be.
            DeliveryUncertain: something is uncertain and the policy is to end rather than guess.
        """
        outbox = self.outbox
        dropped = 0
        if received is not None:
            outbox.confirm(received)
            self.aware = True
        elif outbox.uncertain and self._policy.uncertain is Uncertain.CLOSE:
            raise DeliveryUncertain(outbox.uncertain)
        elif self._policy.uncertain is Uncertain.DROP:
            dropped = outbox.uncertain
            outbox.confirm(outbox.furthest)
        return Resumption(len(outbox), outbox.uncertain, dropped)

    def pump(self, now: float | None = None) -> None:
        """Send what is pending, as far as the socket takes it and the gate is open.

        `now` is the time, where the caller has just asked for it.
        """
        outbox = self.outbox
        leg = self.leg
        # `outbox.pending`, without the call.
        pending = outbox.pushed - outbox.sent
        if not pending or not self.open or self.dead:
            return
        while pending and leg.writable:
            pending -= 1
            opcode, payload = outbox.mark_sent()
            leg.send(opcode, payload)
            self._sent_since_ping += 1
            self._bytes_since_ping += len(payload)
            if self._sent_since_ping >= PING_EVERY_MESSAGES or self._bytes_since_ping >= PING_EVERY_BYTES:
                self._ping()
        self._last_sent = self._clock.time() if now is None else now
        if self.mute:
            outbox.confirm(outbox.sent)
        elif not self._tokens:
            if outbox.full:
                # Somebody is not read until this is confirmed.
                self._ping()
            elif self._quiet is None:
                self._quiet = self._clock.call_later(PING_QUIET, self._on_quiet)

    def ask(self) -> None:
        """Ping at once if anything sent is not asked about yet: the session waits for this confirmation."""
        if self.outbox.unconfirmed and not (self._tokens and self._tokens[-1][0] == self.outbox.sent):
            self._ping()

    def _ping(self) -> None:
        if len(self._tokens) < PINGS_IN_FLIGHT and not self.mute:
            self._tokens.append((self.outbox.sent, self._clock.time()))
            self._sent_since_ping = self._bytes_since_ping = 0
            self.leg.ping(encode_token(self.outbox.sent))

    def _on_quiet(self) -> None:
        self._quiet = None
        if self._tokens or not self.outbox.unconfirmed:
            return
        wait = self._last_sent + PING_QUIET - self._clock.time()
        # Timers have a grain of a millisecond: what is left below that has passed.
        if wait > 0.001:
            self._quiet = self._clock.call_later(wait, self._on_quiet)
        else:
            self._ping()

    # What comes in.

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Take a whole data message from the socket."""
        if self.dead:
            return
        self.heard_at = self._clock.time()
        self._deliver(self, opcode, payload)

    def on_pong(self, payload: bytes) -> None:
        """Take a Pong. One that answers no Ping of this link is ignored."""
        if self.dead:
            return
        self.heard_at = self._clock.time()
        n = decode_token(payload)
        place = next((i for i, (token, _) in enumerate(self._tokens) if token == n), None)
        if n is None or place is None:
            return
        # RFC 6455 section 5.5.3: a peer may answer only the latest of several Pings; its Pong stands for all of them.
        del self._tokens[: place + 1]
        self._answered = True
        # The count stated when a gate opened may have overtaken a Ping that was sent before.
        self.outbox.confirm(max(n, self.outbox.confirmed))
        if self._sent_since_ping >= PING_EVERY_MESSAGES or self._bytes_since_ping >= PING_EVERY_BYTES:
            self._ping()
        elif self.settling or self.outbox.full:
            # There may have been too many Pings in flight to ask for the rest when this began.
            self.ask()
        elif self._quiet is None:
            self._on_quiet()
        self._owner.link_relieved(self)

    def passes_compressed(self) -> bool:
        """Tell whether `on_message` may be given compressed messages; asked for each that comes."""
        return self._owner.passes_compressed(self)

    def on_heard(self) -> None:
        """Take any other sign of life: a Ping of the peer."""
        self.heard_at = self._clock.time()

    def on_writable(self) -> None:
        """Go on sending: the socket takes more again."""
        if not self.dead:
            self.pump()
            self._owner.link_relieved(self)

    def on_lost(self, code: int, reason: str) -> None:
        """Take the end of the socket."""
        if not self.dead:
            self.die()
            self._owner.link_lost(self, code, reason)

    def on_too_big(self, reason: str) -> None:
        """Take a message above the limit, for which the socket is being closed with 1009: no link will do better."""
        if not self.dead:
            self.die()
            self._owner.link_too_big(self, reason)

    def on_stuck(self, reason: str) -> None:
        """Take a message that turned out to be one that cannot be sent to this peer, and must not be passed over."""
        if not self.dead:
            self._owner.link_stuck(self, reason)

    # Life and death.

    def regulate(self, pause: bool) -> None:
        """Stop or resume reading the socket."""
        if pause is not self.paused and not self.settling:
            self.paused = pause
            now = self._clock.time()
            if pause:
                self._paused_at = now
                self.leg.pause_reading()
            else:
                # Its silence while nobody listened says nothing, and no Pong could be heard: that time does not count.
                self._moved_at = now
                self._tokens = [(n, at + now - max(at, self._paused_at)) for n, at in self._tokens]
                self.leg.resume_reading()

    def settle(self) -> None:
        """Ask for the Pongs that confirm what was sent, and have the socket read for them, whatever is full.

        Its owner gives the link no more messages, and answers no more Pings: that would be a promise.
        """
        if not self.dead:
            self.regulate(False)
            self.settling = True
            self.ask()

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be had from this link: all that it can carry is confirmed, or it is dead."""
        return self.dead or not (self.outbox.unconfirmed or (self.open and self.outbox.pending))

    def die(self) -> None:
        """Make the link dead: what it had sent and not confirmed is pending again, and its timers are gone."""
        self.dead = True
        self.outbox.rewind(self.outbox.confirmed)
        self._tokens.clear()
        for timer in (self._quiet, self._watch):
            if timer is not None:
                timer.cancel()
        self._quiet = self._watch = None

    def close(self, code: int, reason: str) -> None:
        """End the link from this side, with a closing handshake behind what was sent."""
        self.die()
        self.leg.close(code, reason)

    def _on_watch(self) -> None:
        """Judge the peer by when it was heard last, and come back when there may be something to judge again."""
        self._watch = None
        now = self._clock.time()
        interval, timeout = self._policy.ping_interval, self._policy.ping_timeout
        progress = self.leg.progress()
        if progress != self._last_progress or self.paused:
            # Bytes of an unfinished message are a sign of life; a socket that nobody reads shows none.
            self._last_progress = progress
            self._moved_at = now
        if self.paused:
            # Not judged; but a socket that nobody reads shows that it has died only when it is written to.
            self._ping()
        quiet_since = max(self.heard_at, self._moved_at)
        if now >= quiet_since + interval + timeout:
            self.leg.abort()
            self.on_lost(1006, f"nothing was heard for {interval + timeout:g} s")
            return
        if now >= quiet_since + interval and not self._tokens:
            self._ping()
        wait = quiet_since + interval - now
        if wait <= 0:
            wait += timeout
        if not self._answered and not self.mute:
            # It has yet to show that it answers Pings at all, so each is judged when its time is over.
            asked = self._tokens[0][1] if self._tokens else now
            # Heard after that time: what came before it may have been sent before the Ping was there.
            if self.heard_at >= asked + timeout and self.leg.flushed():
                if self.aware:
                    # It was promised more than at most once; and it states its count when it comes back.
                    self.leg.abort()
                    self.on_lost(1006, f"an aware peer answered no Ping for {timeout:g} s")
                    return
                self._become_mute()
                if self.dead:
                    # That was the last thing its session waited for.
                    return
            if not self.paused:
                wait = min(wait, max(asked + timeout - now, PING_QUIET))
        self._watch = self._clock.call_later(wait, self._on_watch)

    def _become_mute(self) -> None:
        self.mute = True
        self._tokens.clear()
        self.outbox.confirm(self.outbox.sent)
        self._owner.link_mute(self)
