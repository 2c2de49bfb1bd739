"""The upstreams of a proxy, shared by all its sessions: which one is next, which are down, who may dial now.

Each session keeps itself connected (`core.upstream`), but ten thousand of them that do so on their own are an attack on
a server that is just coming back. So each asks here for a `DialSlot` at a `Target`, and dials when it is told
that it is its turn:

    enter --> WAITING --its turn--> DIALLING --gate open--> CONNECTED --link lost--> OVER
                 |                      |
                 |  turned away         +-- failed, rejected, cancelled -----------> OVER
                 v
          asks again, elsewhere

**Turns.** At a target that is in, `max_dials` may dial at a time, and the rest wait in the order in which they came. A
turn that is given up, on whatever path, goes to the next at once.

**Health** is passive: it follows from the dials and links of the sessions. `EJECT_AFTER` failures in a row, each a dial
that failed or a link that died right after it had opened, and a target is *out*. For a time that grows it is then
passed over while there are others, and those who wait for it are sent elsewhere; then one dial may try it, and decides.

**While all are out** nobody is sent away, for there is nowhere to go. They take turns at the one that failed least
recently, few at a time and `PROBE_PAUSE` apart, however many there are. The first that gets through brings the target
back in: all who wait follow, `max_dials` at a time, and sessions that sleep between two attempts of their own are
woken. A target that accepts and then drops is believed only when a link to it has held.

Nothing here has a timer, but for a queue that waits for the next probe. What only time decides is looked at when asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence

from ..events import Dialled, DialOutcome, Observe, UpstreamEjected, UpstreamReturned
from .clock import Clock
from .target import DialSlot, SlotHolder, SlotState, Target, UpstreamAddress, UpstreamInfo

#: Failures in a row after which a target is out.
EJECT_AFTER = 3
#: Seconds for which it is passed over at first; doubles with each probe that fails afterwards, up to the longest.
SHORTEST_EJECTION = 1.0
LONGEST_EJECTION = 30.0
#: Dials in progress at a target that is out, at the most.
PROBES = 5
#: Seconds, drawn from half to one and a half of it, between a probe's failure and the next probe.
PROBE_PAUSE = 0.1
#: Seconds after which another probe may follow one that is not decided yet: it may hang, and the target be back.
PROBE_PATIENCE = 1.0
#: A link that lived this long, in seconds, has held: it ends a series of failures. One that died sooner continues it,
#: whatever it said: an upstream that falls over at each connect must not be dialled without a pause.
PROVEN_AFTER = 0.2


class Pool:
    """The targets of a proxy. See the text above; its methods are called from the core's thread only."""

    def __init__(
        self,
        servers: Sequence[UpstreamAddress],
        clock: Clock,
        observe: Observe,
        max_dials: int = 64,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Make a pool of `servers`, at least one, all of them in.

        Args:
            servers: the upstreams, in their order.
            clock: an event loop, or a counter.
            observe: hears `UpstreamEjected`, `UpstreamReturned` and `Dialled`.
            max_dials: dials in progress at one target, at the most.
            draw: draws a number between two, evenly.
        """
        self.targets = tuple(Target(server) for server in servers)
        self._clock = clock
        self._observe = observe
        self._max_dials = max_dials
        self._draw = draw
        # Those who wait between two attempts of their own. A dict keeps their order.
        self._asleep: dict[SlotHolder, None] = {}

    # Which target.

    def pick(self) -> Target:
        """Return the target for something new, by smooth weighted round robin (as in nginx) over those that are in.

        One that has been out for its time takes part, until somebody tries it. If all are out it is the one that failed
        least recently.
        """
        now = self._clock.time()
        candidates = [target for target in self.targets if self._eligible(target, now)]
        if not candidates:
            return self._least_recently_failed(self.targets)
        if len(candidates) == 1:
            return candidates[0]
        for target in candidates:
            target.share += target.weight
        best = max(candidates, key=lambda target: target.share)
        best.share -= sum(target.weight for target in candidates)
        return best

    def pick_for_request(self) -> Target:
        """Return a target for a request that is no session's: to be tried at once, without a slot.

        Its outcome is to be reported with `target_answered` or `target_failed`.
        """
        target = self.pick()
        # If it is out others need not try it at the same time.
        target.tried_until = self._clock.time() + PROBE_PATIENCE
        return target

    def next_after(self, target: Target, without: Collection[Target] = ()) -> Target | None:
        """Return the next target in the list that is in, `target` itself last; None if all are in `without`.

        If all that are left are out it is the one of them that failed least recently.
        """
        now = self._clock.time()
        at = self.targets.index(target) + 1
        left = [other for other in (*self.targets[at:], *self.targets[:at]) if other not in without]
        if not left:
            return None
        return next((other for other in left if self._eligible(other, now)), None) or self._least_recently_failed(left)

    def _eligible(self, target: Target, now: float) -> bool:
        """Tell whether `target` is in, or has been out for its time and nobody tries it yet."""
        self._believe(target, now)
        if target.healthy:
            return True
        over = now >= target.out_since + target.out_for
        return over and not target.dialling and now >= max(target.next_probe_at, target.tried_until)

    @staticmethod
    def _least_recently_failed(targets: Sequence[Target]) -> Target:
        return min(targets, key=lambda target: target.failed_at or 0.0)

    # Turns.

    def enter(self, target: Target, holder: SlotHolder, impatient: bool = False) -> DialSlot:
        """Get a slot at `target`. Its turn may come at once, before this returns."""
        slot = DialSlot(target, holder, impatient, self._clock.time())
        target.queue[slot] = None
        self._give_turns(target)
        return slot

    def leave(self, slot: DialSlot) -> None:
        """Give a slot up, in whatever state; says nothing of the target's health. Does nothing when it is over."""
        match slot.state:
            case SlotState.WAITING:
                del slot.target.queue[slot]
                slot.state = SlotState.OVER
                self._set_timer(slot.target, self._clock.time())
            case SlotState.DIALLING:
                self._end_dial(slot, SlotState.OVER, DialOutcome.CANCELLED)
                self._give_turns(slot.target)
            case SlotState.CONNECTED:
                del slot.target.connected[slot]
                slot.state = SlotState.OVER

    def connected(self, slot: DialSlot) -> None:
        """Report that a dial has succeeded: answered, and its gate is open."""
        target = slot.target
        slot.failures_before = target.failures
        self._end_dial(slot, SlotState.CONNECTED, DialOutcome.CONNECTED)
        target.connected[slot] = None
        self._dial_answered(target)

    def rejected(self, slot: DialSlot) -> None:
        """Report that the upstream said no: an HTTP answer below 500, of a server that is there."""
        self._end_dial(slot, SlotState.OVER, DialOutcome.REJECTED)
        self._dial_answered(slot.target)

    def failed(self, slot: DialSlot, reason: str, taken: bool = False) -> None:
        """Report that a dial came to nothing: nobody answered, or it was an answer from 500 on, or too late.

        Where the connection was `taken` it is no failure of a target that carries a link which has held: a server that
        serves others is not down, whatever it makes of this request. Else one client could keep all others out.
        """
        self._end_dial(slot, SlotState.OVER, DialOutcome.FAILED)
        if taken and self._holds(slot.target, self._clock.time()):
            self._give_turns(slot.target)
        else:
            self.target_failed(slot.target, reason)

    def lost(self, slot: DialSlot, reason: str) -> None:
        """Report that a link was lost which had not held.

        It counts as a failure, unless the target carries one that has: a server that serves others is not down, but
        drops this session.
        """
        target = slot.target
        self.leave(slot)
        if not self._holds(target, self._clock.time()):
            target.failures = max(target.failures, slot.failures_before)
            self._fail(target, reason, fragile=True)

    def _give_turns(self, target: Target) -> None:
        """Let those dial whose turn it is; where they must wait until the next probe may start, come back then."""
        now = self._clock.time()
        self._believe(target, now)
        while target.queue and self._may_dial(target, now):
            slot, _ = target.queue.popitem(last=False)
            target.dialling += 1
            slot.state, slot.since = SlotState.DIALLING, now
            if not target.healthy:
                target.next_probe_at = now + PROBE_PATIENCE
            slot.holder.on_turn(slot)
        self._set_timer(target, now)

    def _set_timer(self, target: Target, now: float) -> None:
        due = target.next_probe_at
        needed = bool(target.queue) and not target.healthy and target.dialling < self._limit(target)
        if target.timer is not None and not (needed and target.timer_at == due):
            target.timer.cancel()
            target.timer = None
        if needed and target.timer is None:
            target.timer_at = due
            target.timer = self._clock.call_later(max(0.0, due - now), lambda: self._on_timer(target))

    def _on_timer(self, target: Target) -> None:
        target.timer = None
        self._give_turns(target)

    def _may_dial(self, target: Target, now: float) -> bool:
        return target.dialling < self._limit(target) and (target.healthy or now >= target.next_probe_at)

    def _limit(self, target: Target) -> int:
        return self._max_dials if target.healthy else min(PROBES, self._max_dials)

    def _end_dial(self, slot: DialSlot, state: SlotState, outcome: DialOutcome) -> None:
        assert slot.state is SlotState.DIALLING, "a dial ends once, and only after its turn has come"
        now = self._clock.time()
        slot.target.dialling -= 1
        self._observe(Dialled(slot.target.url, outcome, now - slot.since))
        slot.state, slot.since = state, now

    # Health.

    def target_answered(self, target: Target) -> None:
        """Take note of a proof that `target` is there. Ends a series of failures."""
        target.succeeded_at = self._clock.time()
        target.failures = 0
        if not target.healthy and not target.fragile:
            self._return(target, "it answers again")

    def _dial_answered(self, target: Target) -> None:
        if target.fragile:
            # It has accepted before, and dropped. Others follow one by one until a link has held.
            target.next_probe_at = self._clock.time() + PROVEN_AFTER
        self.target_answered(target)
        self._give_turns(target)

    def target_failed(self, target: Target, reason: str) -> None:
        """Take note of a failure of `target`: the third in a row ejects it, and a failed probe keeps it out."""
        self._fail(target, reason, fragile=False)

    def _fail(self, target: Target, reason: str, fragile: bool) -> None:
        now = self._clock.time()
        target.failed_at = now
        target.failures += 1
        target.fragile = fragile
        target.reason = reason
        pause = self._draw(PROBE_PAUSE / 2, PROBE_PAUSE * 1.5)
        if not target.healthy:
            if now >= target.out_since + target.out_for:
                target.out_since, target.out_for = now, min(LONGEST_EJECTION, 2 * target.out_for)
            target.next_probe_at = min(target.next_probe_at, now + pause)
            self._turn_away(target, reason, impatient_only=True)
        elif target.failures >= EJECT_AFTER:
            self._eject(target, reason, now, pause)
        self._give_turns(target)

    def _eject(self, target: Target, reason: str, now: float, pause: float) -> None:
        target.healthy = False
        back_for_good = target.returned_at is None or now >= target.returned_at + LONGEST_EJECTION
        target.out_since = now
        target.out_for = SHORTEST_EJECTION if back_for_good else min(LONGEST_EJECTION, 2 * target.out_for)
        target.next_probe_at = now + pause
        self._observe(UpstreamEjected(target.url, reason))
        nowhere_to_go = not any(other.healthy for other in self.targets)
        self._turn_away(target, reason, impatient_only=nowhere_to_go)

    def _return(self, target: Target, reason: str) -> None:
        """Let all who wait have `target`: its own queue, the queues of targets that are out, and the sleepers."""
        target.healthy, target.fragile, target.failures = True, False, 0
        target.returned_at = self._clock.time()
        self._observe(UpstreamReturned(target.url, reason))
        self._give_turns(target)
        for other in self.targets:
            if not other.healthy:
                self._turn_away(other, f"{target.url} is back", impatient_only=False)
        sleepers, self._asleep = self._asleep, {}
        for holder in sleepers:
            holder.on_upstream_back()

    def _turn_away(self, target: Target, reason: str, impatient_only: bool) -> None:
        """End the waiting of those who can do better elsewhere, or who wait for no more than one probe."""
        slots = [slot for slot in target.queue if slot.impatient or not impatient_only]
        for slot in slots:
            del target.queue[slot]
            slot.state = SlotState.OVER
        self._set_timer(target, self._clock.time())
        for slot in slots:
            slot.holder.on_turned_away(reason)

    def _believe(self, target: Target, now: float) -> None:
        """Let a target that accepted and dropped back in once a link to it has held."""
        if not target.healthy and target.fragile and self._holds(target, now):
            self._return(target, "a connection to it has held")

    @staticmethod
    def _holds(target: Target, now: float) -> bool:
        oldest = next(iter(target.connected), None)
        return oldest is not None and now >= oldest.since + PROVEN_AFTER

    def reachable(self, target: Target, within: float) -> bool:
        """Tell whether `target` is known to be there: it carries a session, or answered within so many seconds."""
        if not target.healthy:
            return False
        answered = target.succeeded_at
        return bool(target.connected) or (answered is not None and self._clock.time() - answered <= within)

    def info(self) -> list[UpstreamInfo]:
        """Return what an operator may see of each target."""
        now = self._clock.time()
        for target in self.targets:
            self._believe(target, now)
        return [
            UpstreamInfo(t.url, t.weight, t.healthy, t.reason, t.sessions, t.dialling, t.waiting) for t in self.targets
        ]

    # Sleepers.

    def sleep(self, holder: SlotHolder) -> None:
        """Have `holder` told when a target comes back (`SlotHolder.on_upstream_back`), once."""
        self._asleep[holder] = None

    def wake(self, holder: SlotHolder) -> None:
        """Forget that `holder` sleeps. Does nothing if it does not."""
        self._asleep.pop(holder, None)
