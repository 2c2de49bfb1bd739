"""Whether the peer of a link is alive, silent, stalled or mute: judged by when it was heard, and what it has answered.

A link is watched by one timer. When it fires, `Silence.judge` says what is to be done, and when to come back:

| what is seen | action |
| --- | --- |
| nothing was heard for `ping_interval`, and no Ping is in flight | PING |
| nothing was heard for `ping_interval` and `ping_timeout` | LOSE |
| the same of a plain client whose system acknowledges what it is sent | PING |
| nothing was heard of such a client for `ping_interval` and `unread_timeout` | LOSE |
| bytes wait, and for `stall_timeout` none was accepted and no message confirmed | LOSE |
| an aware peer was heard after its first Ping was due, and has not answered it | LOSE |
| the same of a plain peer, and its outbox is full | MUTE |
| a mute peer was not pinged for `ping_interval` | PING |

A socket that the proxy does not read shows no sign of life, and is not judged; but it is pinged, since it shows that it
is lost only when it is written to.

**Clients that do not read.** Many client libraries answer a Ping only while their program reads. While it does other
work the client is silent, but its system acknowledges the bytes. So a plain client has `unread_timeout` to answer, and
is pinged on: only what is sent shows whether the other system is still there.

**Stalled or slow.** A peer whose system accepts all bytes is slow, however long it takes to answer. One that refuses
bytes does not read. It is lost after `stall_timeout`, even if it sends data: the messages for it fill the memory of the
proxy. A socket that is not read is not judged here either, since its peer may wait for the proxy.

**Bytes without a frame.** A large message may take longer than `ping_interval` and `ping_timeout` to arrive. So bytes
of an unfinished frame are a sign of life as well. When they came is not known, only that they came between two looks;
if a frame came between the same two looks, it is the sign.

**A frozen process.** While the process was stopped (SIGSTOP, a suspended machine) nothing could be heard. A look that
comes LATE seconds too late does not count that time: the peer is pinged, and has `ping_timeout` from then on.

**Mute or slow.** A plain peer that sends data and answers no Ping may be broken, or slow: it may have a thousand
messages in front of the Ping. While its outbox is not full nothing has to be decided, and its messages stay there. It
is called mute only if the outbox is full, all that was written has reached the peer's system, `ping_timeout` has passed
since the oldest Ping, and the peer was heard after that. What came before may precede the Ping.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import NamedTuple

from .confirmation import Confirmation, Pongs
from .interfaces import Acceptance, Leg
from .outbox import Outbox
from .policy import Policy

#: Seconds until a peer is looked at again that may be called mute at any time: the least, and the most.
LOOK_AGAIN = (0.1, 1.0)
#: How often a peer that refuses bytes is looked at: so often within `stall_timeout`, as a part of it.
STALL_LOOKS = 1 / 6
NOTHING_WAITS = Acceptance(0, waiting=False, acknowledges=False)
#: A timer that fires so many seconds too late means that the process was frozen meanwhile.
LATE = 1.0


class Action(Enum):
    """What a judgement leads to."""

    WAIT = auto()
    PING = auto()
    MUTE = auto()
    LOSE = auto()


class Judgement(NamedTuple):
    """What is to be done now, and in how many seconds to judge again; of LOSE, the reason."""

    action: Action
    wait: float = 0.0
    reason: str = ""


class Standstill(NamedTuple):
    """Since when a peer has accepted no byte and confirmed no message, and the counts of both that stand still."""

    since: float
    accepted: int
    proven: int


class Silence:
    """What is known of one peer's silence, apart from the frames that it sends."""

    __slots__ = (
        "_last_progress",
        "_look_at",
        "_looked_at",
        "_moved_at",
        "_policy",
        "_standstill",
        "_unread_timeout",
    )

    def __init__(self, leg: Leg, policy: Policy, now: float, client: bool) -> None:
        """Begin with a socket that has just been connected; `client`: by a client of the proxy."""
        self._policy = policy
        # How long a plain peer may leave a Ping unanswered that its system acknowledges.
        self._unread_timeout = policy.unread_timeout if client else 0.0
        # When it last counted as alive for another reason than a frame: bytes of one arrived, or it was not read.
        self._moved_at = now
        self._last_progress = leg.progress()
        # When the last look was, and when the next one is due.
        self._looked_at = now
        self._look_at = now + self.first_look
        # While bytes wait for the peer: what was accepted and confirmed when that last changed.
        self._standstill: Standstill | None = None

    @property
    def first_look(self) -> float:
        """In how many seconds a new link is judged first."""
        return min(self._policy.ping_interval, self._policy.ping_timeout)

    def restart(self, now: float) -> None:
        """Count the silence from now: the socket was not read, and is read again."""
        self._moved_at = now

    def stalled(self, now: float, leg: Leg, outbox: Outbox) -> float | None:
        """Return for how many seconds the peer has refused bytes that wait for it; None if it accepts all.

        What it does between two calls is taken for what it did at the second one.
        """
        accepted, waiting, _ = leg.acceptance() if outbox else NOTHING_WAITS
        if not waiting:
            self._standstill = None
            return None
        before = self._standstill
        if before is None or (before.accepted, before.proven) != (accepted, outbox.proven):
            before = self._standstill = Standstill(now, accepted, outbox.proven)
        return now - before.since

    def judge(
        self,
        now: float,
        heard_at: float,
        *,
        paused: bool,
        aware: bool,
        leg: Leg,
        outbox: Outbox,
        confirmation: Confirmation,
    ) -> Judgement:
        """Judge the peer, which was heard last at `heard_at`; `paused`: its socket is not read."""
        progress = leg.progress()
        if paused or (progress != self._last_progress and heard_at < self._looked_at):
            self._moved_at = now
        if now >= self._look_at + LATE:
            # The time for a Ping has come; the time for its Pong begins, and so it does for Pings in flight.
            self._moved_at = max(self._moved_at, now - self._policy.ping_interval)
            confirmation.shift(-math.inf, now)
        judgement = self._judge(now, heard_at, paused, aware, leg, outbox, confirmation)
        self._last_progress = progress
        self._looked_at, self._look_at = now, now + judgement.wait
        return judgement

    def _judge(
        self,
        now: float,
        heard_at: float,
        paused: bool,
        aware: bool,
        leg: Leg,
        outbox: Outbox,
        confirmation: Confirmation,
    ) -> Judgement:
        stalled, patience, again = self.stalled(now, leg, outbox), self._policy.stall_timeout, math.inf
        if paused:
            return Judgement(Action.PING, self._policy.ping_interval)
        if stalled is not None:
            again = min(patience - stalled, patience * STALL_LOOKS)
            if again <= 0:
                return Judgement(Action.LOSE, reason=f"no byte was accepted for {patience:g} s")
        judgement = self._judge_silence(now, heard_at, aware, leg, outbox, confirmation)
        return judgement if judgement.wait <= again else judgement._replace(wait=again)

    def _judge_silence(
        self, now: float, heard_at: float, aware: bool, leg: Leg, outbox: Outbox, confirmation: Confirmation
    ) -> Judgement:
        interval, timeout = self._policy.ping_interval, self._policy.ping_timeout
        quiet_since = max(heard_at, self._moved_at)
        if now >= quiet_since + interval + timeout:
            patience = self._unread_timeout if not aware and self._unread_timeout > timeout else timeout
            if patience > timeout and not leg.acceptance().acknowledges:
                patience = timeout
            if now >= quiet_since + interval + patience:
                return Judgement(Action.LOSE, reason=f"nothing was heard for {interval + patience:g} s")
            return Judgement(Action.PING, min(interval, quiet_since + interval + patience - now))
        asks = now >= quiet_since + interval and not confirmation.in_flight
        wait = quiet_since + interval - now
        if wait <= 0:
            wait += timeout
        if asks or not confirmation.in_flight:
            # A Ping that is sent meanwhile is to be judged in time.
            return Judgement(Action.PING if asks else Action.WAIT, min(wait, max(timeout, LOOK_AGAIN[0])))
        action, again, reason = self._judge_pongs(now, heard_at, aware, leg, outbox, confirmation)
        return Judgement(action, min(wait, again), reason)

    def _judge_pongs(
        self, now: float, heard_at: float, aware: bool, leg: Leg, outbox: Outbox, confirmation: Confirmation
    ) -> Judgement:
        """Judge a peer, which is not silent, by the Pings that it has not answered."""
        interval, timeout = self._policy.ping_interval, self._policy.ping_timeout
        if confirmation.pongs is Pongs.MUTE:
            next_ping = confirmation.in_flight[-1].since + interval
            return Judgement(Action.PING, interval) if now >= next_ping else Judgement(Action.WAIT, next_ping - now)
        due = confirmation.in_flight[0].since + timeout
        if now < due:
            return Judgement(Action.WAIT, due - now)
        if not (confirmation.pongs is Pongs.UNPROVEN if aware else outbox.full):
            # The outbox may become full.
            return Judgement(Action.WAIT, timeout)
        if heard_at < due or leg.acceptance().waiting:
            least, most = LOOK_AGAIN
            return Judgement(Action.WAIT, max(least, min(most, timeout / 10)))
        if aware:
            return Judgement(Action.LOSE, reason=f"an aware peer answered no Ping for {timeout:g} s")
        return Judgement(Action.MUTE, interval)
