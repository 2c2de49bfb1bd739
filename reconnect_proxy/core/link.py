"""One generation of a leg: sends what is owed, learns what has arrived, notices that the peer is gone.

    Outbox --pump--> Leg --> (peer)         messages, and a Ping with the number of the last one now and then
    Outbox <--confirm-- Link <-- (peer)     the Pong of n: the peer holds messages 1..n

A `Link` lives from the moment a socket carries the leg until that socket is lost. Then it is DEAD, and nothing that the
socket may still say has any effect. The next socket gets a new `Link` on the same `Outbox`. Both legs of a session use
this one class; the rules of confirmation are those of PROTOCOL.md section 4.

Four questions are asked of a link, and none of their answers follows from another:

| question | answers | changed by |
| --- | --- | --- |
| May data messages be sent? (`LinkState`) | GATED -> OPEN -> DEAD | its owner opens the gate; the socket is lost |
| Is the socket read? (`Reading`) | ON <-> PAUSED, and from both SETTLING, which stays | backpressure; a planned stop |
| Does the peer answer Pings? (`Pongs`) | UNPROVEN -> ANSWERED <-> MUTE | a Pong; none for too long |
| Does it state its count? (`aware`) | no, yes | the handshake, once |

`Confirmation` knows which Pings are in flight, and when the next one is due. `Silence` judges a peer that is not heard,
or does not read.

**Timers.** There are two, and no message sets one that runs already. `_due` runs from a message that no Ping covers to
the Ping; it is moved on lazily, when it fires. `_watch` fires when there may be something to judge (`Silence`).

**Mute peers** are sent messages at most once: what is written to them is released at once, so that their sender can go
on, and is uncertain until a Pong covers it. They are still pinged, and one Pong ends that state. See `silence`.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import NamedTuple

from .confirmation import AFTER, EVERY_BYTES, EVERY_MESSAGES, RIDES_AFTER, Confirmation, Pongs
from .interfaces import Clock, Deliver, Leg, LinkOwner, Timer
from .outbox import Outbox
from .policy import Policy, Uncertain
from .silence import Action, Silence
from .wire import decode_token, encode_token

#: Timers of an event loop have a grain of a millisecond: a shorter wait is over.
GRAIN = 0.001


class LinkState(Enum):
    """Whether a link carries data messages."""

    #: Not yet: the gate is closed (section 5).
    GATED = auto()
    OPEN = auto()
    #: Not any more: everything that the socket still says is ignored.
    DEAD = auto()


class Reading(Enum):
    """Whether the socket is read."""

    ON = auto()
    #: Held back: see `Backpressure`.
    PAUSED = auto()
    #: Read for its Pongs, even if an outbox is full, and no message is taken from it: see `Link.settle`.
    SETTLING = auto()


# Asked for with each message or Pong. In CPython 3.11 a test of a state takes 22 ns with these, and 70 ns if the member
# is looked up in its enum each time.
_, _OPEN, _DEAD = LinkState
_ON, _PAUSED, _SETTLING = Reading
_MUTE = Pongs.MUTE


def _ignore(opcode: int, payload: bytes, now: float | None) -> None:
    """Take a message of a dead link."""


class DeliveryUncertain(Exception):
    """Messages may or may not have arrived, and the session is set to end rather than guess."""

    def __init__(self) -> None:
        super().__init__("uncertain messages are not sent again")


class Resumption(NamedTuple):
    """How a new link begins: `waiting` messages are owed, `resent` of them again; `dropped` were given up."""

    waiting: int
    resent: int
    dropped: int


class Link:
    """The socket that carries a leg at the moment, and the bookkeeping of that socket. A `LegListener`."""

    __slots__ = (
        "_clock",
        "_confirmation",
        "_deliver",
        "_due",
        "_owner",
        "_paused_at",
        "_policy",
        "_silence",
        "_watch",
        "aware",
        "heard_at",
        "leg",
        "opened_at",
        "outbox",
        "reading",
        "state",
        "wants_control",
    )

    def __init__(
        self,
        leg: Leg,
        outbox: Outbox,
        owner: LinkOwner[Link],
        deliver: Deliver,
        clock: Clock,
        policy: Policy,
        state: LinkState = LinkState.OPEN,
        client: bool = False,
    ) -> None:
        """Make the link of a socket whose handshake is complete.

        Args:
            leg: the socket.
            outbox: what is owed to its peer.
            owner: hears of what is not a message.
            deliver: takes each data message of the peer.
            clock: an event loop, or a counter.
            policy: the settings of the session.
            state: GATED if a gate keeps data messages back.
            client: the peer is a client of the proxy.
        """
        self.leg = leg
        self.outbox = outbox
        self.state = state
        self.reading: Reading = _ON
        # The peer states its count; set by `resume`.
        self.aware = False
        # Control messages are pushed to this client (section 5).
        self.wants_control = False
        self.opened_at = clock.time()
        # When the last frame came; below `opened_at` until the first.
        self.heard_at = -math.inf
        self._owner = owner
        self._deliver = deliver
        self._clock = clock
        self._policy = policy
        self._confirmation = Confirmation()
        self._paused_at = self.opened_at
        self._silence = Silence(leg, policy, self.opened_at, client)
        self._due: Timer | None = None
        self._watch: Timer | None = clock.call_later(self._silence.first_look, self._on_watch)

    @property
    def open(self) -> bool:
        """Whether data messages are sent."""
        return self.state is _OPEN

    @property
    def dead(self) -> bool:
        """Whether the socket is lost, or given up."""
        return self.state is _DEAD

    @property
    def mute(self) -> bool:
        """Whether the peer answers no Ping, and is sent messages at most once."""
        return self._confirmation.pongs is _MUTE

    @property
    def paused(self) -> bool:
        """Whether the socket is not read, for backpressure."""
        return self.reading is _PAUSED

    def open_gate(self) -> None:
        """Let data messages be sent. `pump` follows."""
        self.state = _OPEN

    # What goes out.

    def resume(self, received: int | None) -> Resumption:
        """Settle what earlier links left open, before anything is sent.

        Args:
            received: the count that the peer stated; None if it is unaware.

        Raises:
            OutOfRange: the stated count is impossible.
            DeliveryUncertain: something is uncertain, and the policy is to end rather than guess.
        """
        outbox = self.outbox
        dropped = 0
        if received is not None:
            outbox.confirm(received)
            self.aware = True
        elif outbox.uncertain and self._policy.uncertain is Uncertain.CLOSE:
            raise DeliveryUncertain
        elif self._policy.uncertain is Uncertain.DROP:
            dropped = outbox.uncertain
            outbox.release(outbox.furthest)
            outbox.write_off()
        return Resumption(len(outbox), outbox.uncertain, dropped)

    def pump(self, now: float | None = None) -> None:
        """Send what is pending, as far as the link is open and the socket takes it.

        `now` is the time, if the caller knows it already.
        """
        outbox = self.outbox
        leg = self.leg
        # `outbox.pending`, without the call.
        pending = outbox.pushed - outbox.sent
        if not pending or self.state is not _OPEN:
            return
        uncovered = self._confirmation
        while pending and leg.writable:
            pending -= 1
            opcode, payload = outbox.mark_sent()
            leg.send(opcode, payload)
            uncovered.messages = messages = uncovered.messages + 1
            uncovered.bytes = size = uncovered.bytes + len(payload)
            if messages >= EVERY_MESSAGES or size >= EVERY_BYTES:
                self._ping()
        if uncovered.pongs is _MUTE:
            outbox.release(outbox.sent)
        elif uncovered.messages:
            since = uncovered.since
            if since is None:
                uncovered.since = self._clock.time() if now is None else now
                if self._due is None:
                    self._due = self._clock.call_later(AFTER, self._on_due)
            elif (self._clock.time() if now is None else now) >= since + RIDES_AFTER:
                self._ping()
            if outbox.full and not uncovered.in_flight:
                # The sender of these messages is not read until they are confirmed.
                self._ping()

    def start(self) -> None:
        """Send what is owed, and ask at once about what is sent again.

        A link may be lost within the 100 ms that a Ping may take. Then the same messages would be sent again on each
        link, and none would be confirmed, for as long as links are that short.
        """
        again = self.outbox.uncertain
        self.pump()
        if again and self.state is _OPEN:
            self.ask()

    def ask(self) -> None:
        """Ping at once if no Ping covers the last message that was sent: the session waits for its confirmation."""
        if self.outbox.unconfirmed and not self._confirmation.covers(self.outbox.sent):
            self._ping()

    def _ping(self) -> None:
        # A mute peer is pinged by `_on_watch` alone.
        if self._confirmation.room and not self.mute:
            self._write_ping()

    def _write_ping(self) -> None:
        self._confirmation.sent(self.outbox.sent, self._clock.time())
        self.leg.ping(encode_token(self.outbox.sent))

    def _on_due(self) -> None:
        """Ping if the first message that no Ping covers is old enough, or come back when it is."""
        self._due = None
        since = self._confirmation.since
        if since is None:
            return
        wait = since + AFTER - self._clock.time()
        if wait > GRAIN:
            self._due = self._clock.call_later(wait, self._on_due)
        else:
            # With as many in flight as may be, the next Pong leads to this Ping.
            self._ping()

    # What comes in.

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Take a whole data message from the socket. A dead link delivers it to `_ignore`."""
        self.heard_at = now = self._clock.time()
        self._deliver(opcode, payload, now)

    def on_pong(self, payload: bytes) -> None:
        """Take a Pong. One that answers no Ping of this link is ignored."""
        if self.state is _DEAD:
            return
        self.heard_at = self._clock.time()
        n = decode_token(payload)
        was_mute = self.mute
        if n is None or not self._confirmation.answered(n):
            return
        # The count stated when a gate opened may be higher than that of a Ping sent before: then nothing is proven.
        self.outbox.prove(n)
        if was_mute:
            self._owner.link_answers(self)
        if self._confirmation.much or (was_mute and self.outbox.unproven):
            self._ping()
        elif self.reading is _SETTLING or self.outbox.full:
            # Too many Pings may have been in flight to ask for the rest when this began.
            self.ask()
        elif self._due is None:
            self._on_due()
        self._owner.link_relieved(self)

    def passes_compressed(self) -> bool:
        """Tell whether `on_message` takes compressed messages as they are. Asked for each one."""
        return self._owner.passes_compressed(self)

    def on_heard(self) -> None:
        """Take any other sign of life: a Ping of the peer."""
        self.heard_at = self._clock.time()

    def on_writable(self) -> None:
        """Go on sending: the socket takes more again."""
        if self.state is not _DEAD:
            self.pump()
            self._owner.link_relieved(self)

    def on_lost(self, code: int, reason: str) -> None:
        """Take the end of the socket, with the close code (1006: without one)."""
        if self.state is not _DEAD:
            self.die()
            self._owner.link_lost(self, code, reason)

    def on_too_big(self, reason: str) -> None:
        """Take a message above the size limit. The socket is being closed with 1009; another link would not help."""
        if self.state is not _DEAD:
            self.die()
            self._owner.link_too_big(self, reason)

    def on_stuck(self, reason: str) -> None:
        """Take the news that a message passed to `Leg.send` can never be sent, and that none may overtake it."""
        if self.state is not _DEAD:
            self._owner.link_stuck(self, reason)

    # Reading.

    def regulate(self, pause: bool) -> None:
        """Stop or resume reading the socket. Without effect on a link that is settling."""
        reading = self.reading
        if pause and reading is _ON:
            self.reading = _PAUSED
            self._paused_at = self._clock.time()
            self.leg.pause_reading()
        elif not pause and reading is _PAUSED:
            self.reading = _ON
            # While it was not read its silence says nothing, and no Pong could be heard: that time does not count.
            now = self._clock.time()
            self._silence.restart(now)
            self._confirmation.shift(self._paused_at, now)
            self.leg.resume_reading()

    @property
    def stalled(self) -> float:
        """For how many seconds the peer has refused bytes that wait for it, as far as looks have shown."""
        return self._silence.stalled(self._clock.time(), self.leg, self.outbox) or 0.0

    def settle(self) -> None:
        """Ask for the Pongs that confirm what was sent, and have the socket read for them even if an outbox is full.

        The socket passes no more messages on from now, and answers no more Pings: a Pong would be a promise.
        """
        if self.state is not _DEAD:
            self.regulate(False)
            self.reading = _SETTLING
            self.ask()

    @property
    def settled(self) -> bool:
        """Whether there is nothing to wait for: everything that this link can carry is confirmed, or it is dead."""
        return self.dead or not (self.outbox.unconfirmed or (self.open and self.outbox.pending))

    # The end, and what leads to it.

    def die(self) -> None:
        """End this generation. What was sent on it and not confirmed is pending again; its timers are stopped."""
        self.state = _DEAD
        self._deliver = _ignore
        self.outbox.rewind(self.outbox.confirmed)
        if self.outbox.unproven:
            self._owner.link_uncertain(self, self.outbox.write_off())
        self._confirmation.forget()
        for timer in (self._due, self._watch):
            if timer is not None:
                timer.cancel()
        self._due = self._watch = None

    def close(self, code: int, reason: str) -> None:
        """End the link from this side, with a closing handshake after what was sent."""
        self.die()
        self.leg.close(code, reason)

    def _on_watch(self) -> None:
        """Judge the peer, and come back when there may be something to judge again."""
        self._watch = None
        judgement = self._silence.judge(
            self._clock.time(),
            self.heard_at,
            paused=self.paused,
            aware=self.aware,
            leg=self.leg,
            outbox=self.outbox,
            confirmation=self._confirmation,
        )
        if judgement.action is Action.LOSE:
            self.leg.abort()
            self.on_lost(1006, judgement.reason)
            return
        self._watch = self._clock.call_later(judgement.wait, self._on_watch)
        if judgement.action is Action.MUTE:
            self._confirmation.pongs = _MUTE
            self.outbox.release(self.outbox.sent)
            self._owner.link_mute(self)
        elif judgement.action is Action.PING:
            if not self.paused:
                self._confirmation.make_room()
            if self._confirmation.room:
                self._write_ping()
