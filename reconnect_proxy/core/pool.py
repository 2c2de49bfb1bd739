"""The upstreams of a proxy, shared by all its sessions: which one is next, which are down, and who may dial now.

Each session keeps itself connected (`core.upstream`), but ten thousand that do so independently are an attack on a
server that is just coming back. So each asks here for a `DialSlot` at a `Target`, and dials when it is told that its
turn has come:

    enter --> WAITING --its turn--> DIALLING --gate open--> CONNECTED --link lost--> OVER
                 |                      |
                 |  turned away         +-- failed, rejected, cancelled -----------> OVER
                 v
          asks again, elsewhere

**Turns.** At a target that is in, `max_dials` sessions may dial at a time, and the others wait: by `DialRank`, then in
the order in which they came. A part of the turns is for sessions that resume with a client attached: however many
others dial, and however slowly they are answered, these go on. A turn that is given up, on any path, goes to the next
session at once.

**Health** is passive: it follows from the dials of the sessions. After `EJECT_AFTER` failed ones in a row a target is
*out*. For a time that grows, it is passed over if there are others, and the sessions that wait for it are sent
elsewhere. Then one dial may probe it, and decides. An HTTP answer is no failure, with any status: it proves that the
target is there, and a client whose requests fail must not keep the others out (`EjectOn` can say otherwise of 5xx). So
a link that is lost right after its 101 is no failure either.

**While all are out** no session is sent away, since there is nowhere to go. They take turns at the target that failed
least recently, few at a time and `PROBE_PAUSE` apart, however many they are. The first dial that succeeds brings the
target back in: all that wait follow, `max_dials` at a time, and sessions that wait between two dials of their own are
woken.

There is no timer here, except for a queue that waits for the next probe. What only time decides is looked at when
asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from ..events import Dialled, DialOutcome, Observe, UpstreamEjected, UpstreamReturned
from .dial import DialFailure, DialRank
from .interfaces import Clock, SlotHolder
from .target import DialSlot, EjectOn, Health, SlotState, Target, UpstreamAddress, UpstreamInfo

#: Failures in a row after which a target is out.
EJECT_AFTER = 3
#: Seconds for which it is passed over at first; doubles with each probe that fails afterwards, up to the longest.
SHORTEST_EJECTION = 1.0
LONGEST_EJECTION = 30.0
#: Most dials in progress at a target that is out.
PROBES = 5
#: Seconds, drawn from half to one and a half of it, between a probe's failure and the next probe.
PROBE_PAUSE = 0.1
#: Seconds after which another probe may follow one without an outcome: that one may hang although the target is back.
#: A session that resumes with a client attached does not wait that long for the probes of others.
PROBE_PATIENCE = 1.0
#: A link that lived this long, in seconds, has held: while there is one, connections that a target takes and drops
#: before its answer are no failures.
PROVEN_AFTER = 0.2
#: The part of the turns at a target that is for sessions which resume with a client attached: one in so many.
RESERVED = 4


class Pool:
    """The targets of a proxy; see above. All calls come from the thread of the event loop."""

    def __init__(
        self,
        addresses: Sequence[UpstreamAddress],
        clock: Clock,
        observe: Observe,
        max_dials: int = 64,
        draw: Callable[[float, float], float] = random.uniform,
        eject_on: EjectOn = EjectOn.CONNECT,
    ) -> None:
        """Make a pool of `addresses`, at least one, all of them in.

        Args:
            addresses: the upstreams, in their order.
            clock: an event loop, or a counter.
            observe: hears `UpstreamEjected`, `UpstreamReturned` and `Dialled`.
            max_dials: most dials in progress at one target.
            draw: draws a number between two, uniformly.
            eject_on: which failed dials count against the health of a target.
        """
        self.targets = tuple(Target(address) for address in addresses)
        self._clock = clock
        self._observe = observe
        self._max_dials = max_dials
        self._draw = draw
        self._eject_on = eject_on
        # The sessions that wait between two dials of their own. A dict keeps their order.
        self._asleep: dict[SlotHolder, None] = {}

    # Which target.

    def pick(self) -> Target:
        """Return the target for a new session, by smooth weighted round robin (as in nginx) over those that are in.

        One whose time out is over takes part, until a dial probes it. If all are out, it is the one that failed least
        recently.
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
        """Return a target for a plain HTTP request, which is sent at once, without a slot.

        Report its outcome with `target_answered` or `target_failed`.
        """
        target = self.pick()
        # If it is out, others need not try it at the same time.
        target.tried_until = self._clock.time() + PROBE_PATIENCE
        return target

    def next_after(self, target: Target) -> Target:
        """Return the next target in the list that is in, `target` itself last.

        If all are out, it is the one that failed least recently.
        """
        return self._first_choice(self._from(target))

    def next_untried(self, tried: Sequence[Target]) -> Target | None:
        """Return the next target that is not among those `tried`, the latest one last. None: there is no other."""
        left = [target for target in self._from(tried[-1]) if target not in tried]
        return self._first_choice(left) if left else None

    def _from(self, target: Target) -> Sequence[Target]:
        """Return all targets in the order of the list, beginning behind `target`."""
        at = self.targets.index(target) + 1
        return [*self.targets[at:], *self.targets[:at]]

    def _first_choice(self, targets: Sequence[Target]) -> Target:
        now = self._clock.time()
        eligible = next((each for each in targets if self._eligible(each, now)), None)
        return eligible or self._least_recently_failed(targets)

    def _eligible(self, target: Target, now: float) -> bool:
        """Tell whether `target` is in, or its time out is over and no dial probes it yet."""
        if target.healthy:
            return True
        over = now >= target.out_since + target.out_for
        return over and not target.dialling and now >= max(target.next_probe_at, target.tried_until)

    @staticmethod
    def _least_recently_failed(targets: Sequence[Target]) -> Target:
        return min(targets, key=lambda target: target.failed_at or 0.0)

    # Turns.

    def enter(self, slot: DialSlot) -> None:
        """Let a new slot wait for its turn. That may come at once, before this returns."""
        slot.since = self._clock.time()
        slot.target.queue.add(slot)
        self._give_turns(slot.target)

    def rerank(self, slot: DialSlot) -> None:
        """Let a slot that waits change its place: its holder has another rank now."""
        if slot.state is SlotState.WAITING:
            slot.target.queue.remove(slot)
            self.enter(slot)

    def leave(self, slot: DialSlot) -> None:
        """Give up a slot in any state. Says nothing about the target's health. Does nothing if the slot is over."""
        now = self._clock.time()
        match slot.state:
            case SlotState.WAITING:
                slot.target.queue.remove(slot)
                slot.enter(SlotState.OVER, now)
                self._set_timer(slot.target, now)
            case SlotState.DIALLING:
                self._end_dial(slot, SlotState.OVER, DialOutcome.CANCELLED)
                self._give_turns(slot.target)
            case SlotState.CONNECTED:
                del slot.target.connected[slot]
                slot.enter(SlotState.OVER, now)

    def connected(self, slot: DialSlot) -> None:
        """Report that a dial has succeeded: answered, and its gate is open."""
        target = slot.target
        self._end_dial(slot, SlotState.CONNECTED, DialOutcome.CONNECTED)
        target.connected[slot] = None
        self._dial_answered(target)

    def rejected(self, slot: DialSlot) -> None:
        """Report an answer from a server that is there, and that says no (`DialFailure.final`)."""
        self._end_dial(slot, SlotState.OVER, DialOutcome.REJECTED)
        self._dial_answered(slot.target)

    def failed(self, slot: DialSlot, failure: DialFailure) -> None:
        """Report that a dial failed: no answer, a late one, one with a status from 500 on, or a final one.

        If the connection was taken, this is no failure of a target that carries a link which has held: a server that
        serves others is there, even if it fails this request. Else one client could keep all others out.
        """
        if failure.final:
            self.rejected(slot)
            return
        target = slot.target
        self._end_dial(slot, SlotState.OVER, DialOutcome.FAILED)
        by_answer = failure.answered and self._eject_on is EjectOn.CONNECT
        if by_answer or (failure.taken and self._holds(target, self._clock.time())):
            self._dial_answered(target)
        else:
            self.target_failed(target, failure.detail)

    def _give_turns(self, target: Target) -> None:
        """Let the sessions dial whose turn it is. If they must wait for the next probe, come back then."""
        now = self._clock.time()
        while (slot := self._next(target)) is not None and self._may_dial(slot, now):
            target.queue.remove(slot)
            target.dialling += 1
            slot.enter(SlotState.DIALLING, now)
            if not target.healthy:
                target.next_probe_at = now + PROBE_PATIENCE
                target.next_resume_at = now + (PROBE_PATIENCE if slot.rank is DialRank.RESUMES else PROBE_PAUSE)
            slot.holder.on_turn()
        self._set_timer(target, now)

    @staticmethod
    def _next(target: Target) -> DialSlot | None:
        """Return the slot whose turn is next. One whose client has left meanwhile goes back to those of its rank."""
        while (slot := target.queue.first) is not None and slot.rank is not slot.holder.rank:
            target.queue.remove(slot)
            target.queue.add(slot)
        return slot

    def _set_timer(self, target: Target, now: float) -> None:
        slot = target.queue.first
        due = 0.0 if slot is None else self._next_probe_of(slot)
        needed = slot is not None and not target.healthy and target.dialling < self._limit(slot)
        if target.timer is not None and not (needed and target.timer_at == due):
            target.timer.cancel()
            target.timer = None
        if needed and target.timer is None:
            target.timer_at = due
            target.timer = self._clock.call_later(max(0.0, due - now), lambda: self._on_timer(target))

    def _on_timer(self, target: Target) -> None:
        target.timer = None
        self._give_turns(target)

    def _may_dial(self, slot: DialSlot, now: float) -> bool:
        target = slot.target
        return target.dialling < self._limit(slot) and (target.healthy or now >= self._next_probe_of(slot))

    def _limit(self, slot: DialSlot) -> int:
        """Return how many dials may be in progress at the target of a slot after its own has begun."""
        limit = self._max_dials if slot.target.healthy else min(PROBES, self._max_dials)
        return limit if slot.rank is DialRank.RESUMES else limit - limit // RESERVED

    @staticmethod
    def _next_probe_of(slot: DialSlot) -> float:
        return slot.target.next_resume_at if slot.rank is DialRank.RESUMES else slot.target.next_probe_at

    def _end_dial(self, slot: DialSlot, state: SlotState, outcome: DialOutcome) -> None:
        now = self._clock.time()
        seconds = now - slot.since
        slot.enter(state, now)
        slot.target.dialling -= 1
        self._observe(Dialled(slot.target.url, outcome, seconds))

    # Health.

    def target_answered(self, target: Target) -> None:
        """Record a proof that `target` is there. It ends a series of failures."""
        target.succeeded_at = self._clock.time()
        target.failures = 0
        if target.health is Health.OUT:
            self._return(target, "it answers again")

    def _dial_answered(self, target: Target) -> None:
        self.target_answered(target)
        self._give_turns(target)

    def target_failed(self, target: Target, reason: str) -> None:
        """Record a failure of `target`: the third in a row ejects it, and a failed probe keeps it out."""
        now = self._clock.time()
        target.failed_at = now
        target.failures += 1
        target.reason = reason
        pause = self._draw(PROBE_PAUSE / 2, PROBE_PAUSE * 1.5)
        if not target.healthy:
            if now >= target.out_since + target.out_for:
                target.out_since, target.out_for = now, min(LONGEST_EJECTION, 2 * target.out_for)
            target.next_probe_at = min(target.next_probe_at, now + pause)
            target.next_resume_at = min(target.next_resume_at, now + pause)
            self._turn_away(target, reason, impatient_only=True)
        elif target.failures >= EJECT_AFTER:
            target.health = Health.OUT
            self._eject(target, reason, now, pause)
        self._give_turns(target)

    def _eject(self, target: Target, reason: str, now: float, pause: float) -> None:
        stayed_in = target.returned_at is None or now >= target.returned_at + LONGEST_EJECTION
        target.out_since = now
        target.out_for = SHORTEST_EJECTION if stayed_in else min(LONGEST_EJECTION, 2 * target.out_for)
        target.next_probe_at = target.next_resume_at = now + pause
        self._observe(UpstreamEjected(target.url, reason))
        nowhere_to_go = not any(other.healthy for other in self.targets)
        self._turn_away(target, reason, impatient_only=nowhere_to_go)

    def _return(self, target: Target, reason: str) -> None:
        """Offer `target` to all that wait: its own queue, the queues of targets that are out, and the sleepers."""
        target.health, target.failures = Health.IN, 0
        target.returned_at = self._clock.time()
        self._observe(UpstreamReturned(target.url, reason))
        sleepers, self._asleep = self._asleep, {}
        for holder in sorted(sleepers, key=lambda holder: holder.rank):
            holder.on_upstream_back()
        self._give_turns(target)
        for other in self.targets:
            if not other.healthy:
                self._turn_away(other, f"{target.url} is back", impatient_only=False)

    def _turn_away(self, target: Target, reason: str, impatient_only: bool) -> None:
        """End the wait of the sessions that can go elsewhere, or that wait for a single probe only."""
        slots = [slot for slot in target.queue if slot.impatient or not impatient_only]
        now = self._clock.time()
        for slot in slots:
            target.queue.remove(slot)
            slot.enter(SlotState.OVER, now)
        self._set_timer(target, now)
        for slot in slots:
            slot.holder.on_turned_away(reason)

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
        return [
            UpstreamInfo(t.url, t.weight, t.healthy, t.reason, t.sessions, t.dialling, t.waiting) for t in self.targets
        ]

    # Sessions between two dials.

    def sleep(self, holder: SlotHolder) -> None:
        """Tell `holder` once when a target comes back (`SlotHolder.on_upstream_back`)."""
        self._asleep[holder] = None

    def wake(self, holder: SlotHolder) -> None:
        """Forget that `holder` sleeps. Does nothing if it does not."""
        self._asleep.pop(holder, None)
