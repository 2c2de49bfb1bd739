"""The outgoing leg of a session: dials, holds the gate, and dials again while the retry budget lasts.

The client must never notice that an upstream link was lost. So everything about having *some* link to the upstream is
here, and the session (`Context`) hears of three things only: the upstream is up, it will not come back, or the first
dial could not reach it. `UpstreamState` has the picture of its states.

**What others decide.** Which upstream is dialled, and when it is this session's turn, is for the `Pool` to say, which
all sessions share. How long to wait before the next dial, and for how long dialling goes on, is for the `RetryBudget`
to say.

**Generations.** Each dial is a `DialRequest` object, and what a dialler says of any other than the latest is ignored.

**The first dial** is special: a client waits for its outcome. It tries every upstream of the list in turn within one
connect timeout, the wait for turns included, and does not wait in between.

**At rest.** A plain upstream that no client needs and that is owed nothing is not redialled: one that allows each user
a single connection would throw out the session that the user has now.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from ..events import DialFailed, LegName, Observe, Redial
from .backoff import LIVED_LONG, Carried, RetryBudget
from .dial import SESSION_LOST, DialAnswer, DialFailure, DialRank, DialRequest
from .ending import Ending
from .gate import UpstreamGate
from .interfaces import Clock, Dialler, Leg, OnRedial, Timer, UpstreamOwner
from .link import DeliveryUncertain, Link, LinkState
from .message import Message
from .outbox import OutOfRange
from .policy import Policy
from .pool import Pool
from .replay import PreambleOutbox, ReplayGate, introduce
from .side import SessionSide
from .stream import Stream
from .target import DialSlot, Target
from .transitions import IllegalTransition
from .upstream_state import TRANSITIONS, UpstreamState
from .wire import id_from_control

_NO_ANSWER = DialAnswer()


class Upstream(SessionSide):
    """The outgoing leg of one session: keeps it connected to one of its upstreams."""

    leg = LegName.UPSTREAM

    __slots__ = (
        "_answer",
        "_budget",
        "_dial",
        "_dialler",
        "_draw",
        "_gate",
        "_on_redial",
        "_pool",
        "_slot",
        "_target",
        "_timer",
        "_tried",
        "aware",
        "connected_before",
        "link",
        "state",
        "subprotocol",
    )

    _session: UpstreamOwner

    def __init__(
        self,
        session: UpstreamOwner,
        feeds: Stream,
        owed: Stream,
        pool: Pool,
        dialler: Dialler,
        clock: Clock,
        policy: Policy,
        observe: Observe,
        on_redial: OnRedial | None,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        super().__init__(session, feeds, owed, clock, policy, observe)
        self.state = UpstreamState.IDLE
        # The link that carries the leg, gated or up.
        self.link: Link | None = None
        # What the session speaks. None: not settled yet; "": settled on none.
        self.subprotocol: str | None = None
        # The upstream has been connected, gate open, at least once.
        self.connected_before = False
        # It stated a count in its latest 101.
        self.aware = False
        # Sees each link before it carries data. None: all links carry data from the start, and everything is data.
        self._gate: UpstreamGate | ReplayGate | None = None
        if policy.gate.reads_messages:
            self._gate = UpstreamGate(policy.gate, self, feeds)
        elif isinstance(owed.outbox, PreambleOutbox):
            self._gate = ReplayGate(policy.gate, self, feeds, owed.outbox)
        self._on_redial = on_redial
        self._pool = pool
        self._dialler = dialler
        self._draw = draw
        # What was used of the retry budget. None: nothing, since the latest link has made progress, or is the first.
        self._budget: RetryBudget | None = None
        # The dial that is in progress, up to the opening of the gate, and the 101 that it got.
        self._dial: DialRequest | None = None
        self._answer = _NO_ANSWER
        # The upstream of the latest dial, and the slot there: waiting for its turn, dialling or connected.
        self._target: Target = pool.targets[0]
        self._slot: DialSlot | None = None
        # The upstreams that the first dial has tried, the latest one last. None once the first dial is over.
        self._tried: list[Target] | None = []
        # One timer serves all waits: the connect timeout while dialling or gated, the backoff while waiting, and while
        # up the next look at whether the link has made progress.
        self._timer: Timer | None = None

    @property
    def url(self) -> str:
        """The upstream that is connected, or was dialled last."""
        return self._target.url

    @property
    def terminated(self) -> bool:
        """Whether this leg is over."""
        return self.state is UpstreamState.TERMINATED

    def _enter(self, state: UpstreamState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(self.state, state)
        self.state = state

    # Dialling.

    def open(self) -> None:
        """Dial for the first time. Ends with `UpstreamOwner.upstream_up` or `UpstreamOwner.upstream_unreachable`."""
        # One timeout covers all upstreams, and the wait for turns, since a client waits for them.
        self._set_timer(self._policy.connect_timeout, self._on_connect_timeout)
        self._queue_up(self._pool.pick())

    def retry(self) -> None:
        """Dial again, after a wait, until the retry budget is over; but not while that is of no use."""
        if self._budget is None:
            self._budget = RetryBudget(self._policy.retry_for, self._clock, self._draw, self._carried)
        if self._superfluous:
            self._rest()
            return
        wait = self._budget.next_wait(partial(self._fail_for_good, 1014, "upstream unavailable"))
        self._enter(UpstreamState.WAITING)
        url = self._pool.next_after(self._target).url
        self._observe(Redial(self.session_id, url, wait.attempt, wait.delay))
        self._set_timer(wait.delay, self._redial)
        self._pool.sleep(self)

    def on_upstream_back(self) -> None:
        """Stop waiting: an upstream that was down is back. The queue of the pool keeps all from dialling at once."""
        if self.state is UpstreamState.WAITING:
            self._redial()

    def _redial(self) -> None:
        self._cancel_timer()
        self._pool.wake(self)
        if self._superfluous:
            self._rest()
        else:
            self._queue_up(self._pool.next_after(self._target))

    @property
    def _superfluous(self) -> bool:
        """Whether a redial is of no use: no client is attached, and a plain upstream is owed nothing."""
        if not self.connected_before or self.aware or self.replay_info is not None or self._policy.shared:
            return False
        return self._session.client_away_since is not None and not self.owed.outbox

    def _rest(self) -> None:
        self._stop_timers()
        self._enter(UpstreamState.RESTING)

    def _queue_up(self, target: Target) -> None:
        """Wait for the turn to dial `target`. It may come at once."""
        self._enter(UpstreamState.QUEUED)
        self._target = target
        if self._tried is not None:
            self._tried.append(target)
        self._slot = DialSlot(target, self, impatient=self._tried is not None)
        self._pool.enter(self._slot)

    @property
    def rank(self) -> DialRank:
        """Which of the sessions that wait for an upstream dials first."""
        if self._tried is not None:
            return DialRank.OPENS
        if self._session.client_away_since is not None:
            return DialRank.ABSENT
        return DialRank.RESUMES if self.connected_before else DialRank.RETRIES

    def needed(self) -> None:
        """Dial sooner, or at all: a client is attached now, or something is owed."""
        if self.state is UpstreamState.RESTING and not self._superfluous and self._budget is not None:
            # The rest does not count: for how long a client may be away is for its grace to say.
            self._budget.renew()
            self._redial()
        elif self._slot is not None:
            self._pool.rerank(self._slot)

    def on_turn(self) -> None:
        """Dial. The connect timeout begins now, except for the first dial: there it began when the client came."""
        self._enter(UpstreamState.DIALLING)
        self._dial = DialRequest(
            self._target.url,
            self._session.session_id,
            self.connected_before,
            self.feeds.received,
            self.subprotocol or None,
        )
        self._dialler.dial(self._dial, self)
        if self._tried is None:
            self._set_timer(self._policy.connect_timeout, self._on_connect_timeout)

    def on_turned_away(self, reason: str) -> None:
        """Queue up at another upstream. For a first dial, a probe that failed meanwhile counts as its own failure."""
        if self.state is not UpstreamState.QUEUED:
            # Others were turned away before it, and what they did may have ended it.
            return
        self._slot = None
        if self._tried is None:
            self._queue_up(self._pool.next_after(self._target))
        else:
            self._try_another(self._tried, DialFailure(reason))

    def _try_another(self, tried: list[Target], failure: DialFailure) -> None:
        """Go on with the first dial at the next upstream that it has not tried, if there is one."""
        target = None if failure.final else self._pool.next_untried(tried)
        if target is not None:
            self._queue_up(target)
        else:
            self._give_up_first_dial(failure)

    def _give_up_first_dial(self, failure: DialFailure) -> None:
        self._tried = None
        self._cancel_timer()
        self._enter(UpstreamState.IDLE)
        self._session.upstream_unreachable(failure)

    def on_connected(self, request: DialRequest, leg: Leg, answer: DialAnswer) -> Link | None:
        """Take the socket of a dial that was answered 101. Returns its link, or None if the socket is to be dropped."""
        if request is not self._dial:
            return None
        gate = self._gate
        deliver = self.feeds.intake if gate is None else gate.take
        link = Link(leg, self.owed.next_outbox(), self, deliver, self._clock, self._policy, LinkState.GATED)
        self.link = link
        self.owed.attach(link)
        self._enter(UpstreamState.GATED)
        self._answer = answer
        if gate is None:
            self._open_gate(link)
        else:
            gate.begin(leg, again=self.connected_before)
        return link

    def on_failed(self, request: DialRequest, failure: DialFailure) -> None:
        """Take the failure of a dial."""
        if request is not self._dial:
            return
        self._dial = None
        self._observe(DialFailed(self.session_id, request.url, failure.detail))
        # There is none if it was left already: then the outcome says nothing about the upstream.
        slot, self._slot = self._slot, None
        if slot is not None:
            self._pool.failed(slot, failure)
        if self._tried is not None:
            self._try_another(self._tried, failure)
        elif reason := failure.ends_session(self._policy.final_status, knew_it=self.connected_before and self.aware):
            self._fail_for_good(1014, reason)
        else:
            self.retry()

    def _on_connect_timeout(self) -> None:
        self._timer = None
        timeout = f"within {self._policy.connect_timeout:g} s"
        dial, slot = self._dial, self._slot
        if dial is None:
            # Only a first dial has this timeout while it waits for its turn.
            why = "many others dial it" if self._target.healthy else f"it is down: {self._target.reason}"
            self._leave_slot()
            self._give_up_first_dial(DialFailure(f"the turn to dial it did not come {timeout}: {why}"))
            return
        gated = self.state is UpstreamState.GATED
        what = "its gate did not open" if gated else "it did not answer"
        self._drop_link(1001, "connect timeout")
        self._dialler.cancel()
        if self._tried is not None:
            # The time is over for the whole first dial, not just for this upstream.
            self._tried = list(self._pool.targets)
            if slot is not None and self._clock.time() < slot.since + self._policy.connect_timeout / 2:
                # Its turn came late: that is no failure of this upstream.
                self._leave_slot()
        self.on_failed(dial, DialFailure(f"{what} {timeout}", taken=gated))

    # The gate, PROTOCOL.md section 5.

    @property
    def replay_info(self) -> Message | None:
        """The latest control message, with which the upstream can be reconnected."""
        return None if self._gate is None else self._gate.replay_info

    def gate_control(self, message: Message) -> None:
        """Take a control message."""
        session = self._session
        if session.session_id is None:
            session.session_id = id_from_control(message[1])
        session.upstream_control(message)

    def gate_opens(self) -> None:
        """Let data messages through the link whose gate it is."""
        if self.link is not None:
            self._open_gate(self.link)

    def _open_gate(self, link: Link) -> None:
        """Let data messages through: settle the counts, then send what waits. Only now the dial has succeeded."""
        answer = self._answer
        if self._slot is not None:
            self._pool.connected(self._slot)
        offered = self.subprotocol
        if offered is not None and (answer.subprotocol or "") != offered:
            self._fail_for_good(1002, f"upstream chose subprotocol {answer.subprotocol!r} instead of {offered!r}")
            return
        try:
            resumption = link.resume(answer.received)
        except OutOfRange:
            self._fail_for_good(1014, SESSION_LOST)
            return
        except DeliveryUncertain as error:
            self._fail_for_good(1011, str(error))
            return
        if self.connected_before and answer.received is None and not introduce(link.leg, self._on_redial, self._gate):
            self._fail_for_good(1011, "the hook on_redial failed")
            return
        away = 0.0 if self._budget is None else self._budget.away
        self._report_resumption(link, resumption, away, again=self._tried is None)
        self.subprotocol = answer.subprotocol or ""
        self._stop_timers()
        if self._budget is not None:
            self._set_timer(LIVED_LONG, self._look_back)
        self._enter(UpstreamState.UP)
        self.connected_before = True
        self._tried = None
        self.aware = answer.received is not None
        link.open_gate()
        # Neither is needed any more, and both would stay for as long as the link.
        self._dial, self._answer = None, _NO_ANSWER
        session = self._session
        session.upstream_up(answer)
        link.start()
        session.relieved()

    # Loss and end.

    def on_link_lost(self, link: Link, code: int, reason: str) -> None:
        """Redial if the close code allows it, else end this leg."""
        self._detach_link()
        self._dialler.cancel()
        if not self._policy.retry_on.retries(code):
            # This says nothing about the upstream's health: it is there, and has ended this session.
            self._terminate()
            self._session.upstream_gone(Ending(code, reason))
        elif self._dial is not None:
            self.on_failed(self._dial, DialFailure(f"it closed ({code}) before its gate opened", taken=True))
        else:
            self._settle_budget(link)
            self._leave_slot()
            self.retry()

    def on_too_big(self, link: Link, code: int, reason: str) -> None:
        """End this leg: a redial would bring the same message again."""
        self.terminate(code, reason)
        self._session.upstream_gone(Ending(code, reason, by_proxy=True))

    @property
    def _carried(self) -> Carried:
        return Carried(self.owed.delivered, self.feeds.received)

    def _settle_budget(self, link: Link) -> None:
        """Forget the losses before this link if it has made progress."""
        budget = self._budget
        if budget is not None:
            lived = self._clock.time() - link.opened_at
            if budget.is_over_with(self._carried, len(self.owed.outbox), lived, self.aware):
                self._budget = None

    def _look_back(self) -> None:
        """See whether the link has made progress since it is up; if not, look again."""
        self._timer = None
        if self.link is not None:
            self._settle_budget(self.link)
            if self._budget is not None:
                self._set_timer(LIVED_LONG, self._look_back)

    def terminate(self, code: int, reason: str) -> None:
        """End this leg from this side: close the link if there is one, and dial no more."""
        if not self.terminated:
            self._drop_link(code, reason)
            self._dialler.cancel()
            self._terminate()

    def _leave_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._pool.leave(slot)

    def _detach_link(self) -> Link | None:
        link, self.link = self.link, None
        if link is not None:
            self.owed.detach(link)
        return link

    def _drop_link(self, code: int, reason: str) -> None:
        link = self._detach_link()
        if link is not None:
            link.close(code, reason)

    def _fail_for_good(self, code: int, reason: str) -> None:
        self.terminate(code if code != 1014 else 1001, reason)
        self._session.upstream_gone(Ending(code, reason, by_proxy=True))

    def _terminate(self) -> None:
        self._enter(UpstreamState.TERMINATED)
        self._dial = None
        self._pool.wake(self)
        self._leave_slot()
        self._stop_timers()

    def _set_timer(self, delay: float, callback: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._clock.call_later(delay, callback)

    def _stop_timers(self) -> None:
        self._cancel_timer()
        if self._budget is not None:
            self._budget.stop()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
