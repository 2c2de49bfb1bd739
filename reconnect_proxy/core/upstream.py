"""The upstream's side of a session: dials, holds the gate, and dials again for as long as the retry budget lasts.

The client's side must never learn that a link was lost. So everything about having *some* link to the upstream is here,
and the session (`Context`) hears only three things: it is up, it is over for good, it could not be had at all.

    IDLE --open--> QUEUED --its turn--> DIALLING --101--> GATED --gate opens--> UP
                     ^ \\                   |               |                    |
                     |  turned away         | failed        | lost               | lost, retryable
                     |    |                 v               v                    v
                     +----+--------------- WAITING <----------------------------+   WAITING too long, or a final close:
                                                                                   TERMINATED

Which upstream is dialled, and when it is this session's turn, is for the `Pool` to say, which all sessions share. Each
dial is one generation: what an earlier one still says is ignored. The first dial is special: a client waits for its
outcome, so it tries every upstream of the list in turn within one connect timeout, the wait for turns included, and
does not back off.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from ..events import DialFailed, Observe, Redial
from .backoff import longest_wait
from .clock import Clock, Timer
from .link import DeliveryUncertain, Leg, Link, LinkOwner, Resumption
from .outbox import Message, Outbox
from .policy import GateKind, Policy
from .pool import PROVEN_AFTER, Pool
from .target import DialSlot, Target
from .wire import id_from_control


@dataclass(slots=True)
class DialRequest:
    """One attempt to reach an upstream: where, and what the request says about the session."""

    url: str
    # None: the id is still to be learnt from the upstream's first message.
    session_id: str | None
    # The session was connected before: X-Reconnect and X-Reconnect-Id.
    redial: bool
    # How many `u2c` messages were received so far.
    received: int
    # What the session has agreed on; None before it has, when the client's own offers go out.
    subprotocol: str | None


@dataclass(slots=True)
class DialAnswer:
    """An upstream's 101."""

    # The count of an aware upstream; None from any other.
    received: int | None = None
    subprotocol: str | None = None
    # End-to-end headers for the client's 101.
    headers: Sequence[tuple[str, str]] = ()


_NO_ANSWER = DialAnswer()


@dataclass(slots=True)
class DialFailure:
    """A dial that came to nothing. `status` is 0 where no HTTP answer came; `headers` and `body` are the answer's."""

    detail: str
    status: int = 0
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    # Somebody took the connection, whatever became of it then.
    taken: bool = False

    @property
    def rejected(self) -> bool:
        """Whether the upstream is there and said no: an HTTP answer below 500. Anything else may pass with time."""
        return 0 < self.status < 500


class Dialler(Protocol):
    """Who opens sockets for an `Upstream`: one dial at a time."""

    def dial(self, dial: DialRequest, upstream: Upstream) -> None:
        """Start a dial. It ends later, not at once, with a call of `upstream.on_connected` or `upstream.on_failed`."""

    def cancel(self) -> None:
        """Give the dial under way up; nothing is heard of it any more."""


class UpstreamOwner(LinkOwner, Protocol):
    """What an `Upstream` asks of its session."""

    session_id: str | None
    c2u: Outbox

    @property
    def received_from_upstream(self) -> int:
        """How many `u2c` messages were received so far."""

    def upstream_up(self, answer: DialAnswer, resumption: Resumption, away: float) -> None:
        """A link is there and its gate is open."""

    def upstream_unreachable(self, failure: DialFailure) -> None:
        """The first dial found no upstream. `Failure.rejected` tells a refusal from one that may pass."""

    def upstream_gone(self, code: int, reason: str) -> None:
        """It is over for good; the client is to be closed with this code once it has what is queued."""

    def upstream_control(self, message: Message) -> None:
        """The upstream sent a control message: new reconnect data."""

    def upstream_message(self, link: Link, opcode: int, payload: bytes) -> None:
        """The upstream sent a data message."""


class UpstreamState(Enum):
    """Where the outgoing leg is; see the picture above."""

    IDLE = auto()
    QUEUED = auto()
    DIALLING = auto()
    GATED = auto()
    UP = auto()
    WAITING = auto()
    TERMINATED = auto()


class Upstream:
    """Keeps one session connected to one of its upstreams."""

    #: For mypyc: what `let_go` deletes.
    __deletable__ = ["_session"]  # noqa: RUF012 - mypyc wants a list

    __slots__ = (
        "_answer",
        "_attempt",
        "_away_since",
        "_clock",
        "_dial",
        "_dialler",
        "_draw",
        "_final",
        "_observe",
        "_policy",
        "_pool",
        "_session",
        "_slot",
        "_target",
        "_timer",
        "_tried",
        "aware",
        "connected_before",
        "link",
        "replay_info",
        "state",
        "subprotocol",
    )

    def __init__(
        self,
        pool: Pool,
        session: UpstreamOwner,
        dialler: Dialler,
        clock: Clock,
        policy: Policy,
        observe: Observe,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.state = UpstreamState.IDLE
        # The link that carries the leg, gated or up.
        self.link: Link | None = None
        # Control message with which the upstream can be reconnected (section 5).
        self.replay_info: Message | None = None
        # What the session speaks; None: not settled yet, "" settled on none.
        self.subprotocol: str | None = None
        # The upstream has been connected, gate open, at least once.
        self.connected_before = False
        # It stated a count in its latest 101.
        self.aware = False
        self._pool = pool
        self._session = session
        self._dialler = dialler
        self._clock = clock
        self._policy = policy
        self._observe = observe
        self._draw = draw
        # The dial whose word counts.
        self._dial: DialRequest | None = None
        self._answer = _NO_ANSWER
        # The upstream of the latest dial, and the place there: waiting for its turn, dialling or connected.
        self._target: Target | None = None
        self._slot: DialSlot | None = None
        # Upstreams that the first dial has tried; None once it is over.
        self._tried: list[Target] | None = []
        # Failed attempts in a row, and since when there is no proven link.
        self._attempt = 0
        self._away_since: float | None = None
        # One timer serves all waits: connect timeout and gate while dialling, backoff while waiting.
        self._timer: Timer | None = None
        # Ends the retry budget.
        self._final: Timer | None = None

    @property
    def url(self) -> str:
        """The upstream that is connected, or was dialled last; "" before the first dial."""
        return "" if self._target is None else self._target.url

    @property
    def terminated(self) -> bool:
        """Whether this upstream is over for good."""
        return self.state is UpstreamState.TERMINATED

    # Dialling.

    def open(self) -> None:
        """Dial for the first time. Ends with `Session.upstream_up` or `Session.upstream_unreachable`."""
        # One timeout covers all upstreams, and the wait for turns, since a client waits for them.
        self._set_timer(self._policy.connect_timeout, self._on_connect_timeout)
        self._queue_up(self._pool.pick())

    def retry(self) -> None:
        """Dial again, after a wait, until the retry budget is over."""
        now = self._clock.time()
        if self._away_since is None:
            self._away_since = now
        away = now - self._away_since
        left = max(0.0, self._policy.retry_for - away)
        if self._final is None:
            self._final = self._clock.call_later(left, self._on_budget_over)
        delay = self._draw(0.0, longest_wait(self._attempt, away, left))
        self._attempt += 1
        self.state = UpstreamState.WAITING
        self._observe(Redial(self._session.session_id or "", self._next_target().url, self._attempt, delay))
        self._set_timer(delay, self._redial)
        self._pool.sleep(self)

    def on_upstream_back(self) -> None:
        """Sleep no longer: an upstream that was down has come back. The queue sees to it that not all dial at once."""
        if self.state is UpstreamState.WAITING:
            self._redial()

    def _redial(self) -> None:
        self._cancel_timer()
        self._pool.wake(self)
        self._queue_up(self._next_target())

    def _next_target(self) -> Target:
        assert self._target is not None, "a redial follows a dial"
        target = self._pool.next_after(self._target)
        assert target is not None, "none was excluded"
        return target

    def _queue_up(self, target: Target) -> None:
        """Wait for the turn to dial `target`: it may come at once."""
        self.state = UpstreamState.QUEUED
        self._target = target
        slot = self._pool.enter(target, self, impatient=self._tried is not None)
        if self.state is UpstreamState.QUEUED:
            self._slot = slot

    def on_turn(self, slot: DialSlot) -> None:
        """Dial. The connect timeout begins now, but that of the first dial, for which a client waits."""
        session = self._session
        self._slot = slot
        self.state = UpstreamState.DIALLING
        self._dial = DialRequest(
            slot.target.url,
            session.session_id,
            self.connected_before,
            session.received_from_upstream,
            self.subprotocol or None,
        )
        self._dialler.dial(self._dial, self)
        if self._tried is None:
            self._set_timer(self._policy.connect_timeout, self._on_connect_timeout)

    def on_turned_away(self, reason: str) -> None:
        """Go elsewhere. On the first dial, a probe that failed meanwhile has answered for this upstream."""
        if self.state is not UpstreamState.QUEUED:
            # Several are turned away in turn, and what one of them does may have ended this one meanwhile.
            return
        self._slot = None
        if self._tried is None:
            self._queue_up(self._next_target())
        else:
            self._try_another(DialFailure(reason))

    def _try_another(self, failure: DialFailure) -> None:
        """Go on with the first dial: at the next upstream that it has not tried, if there is one."""
        assert self._target is not None and self._tried is not None, "the first dial is under way"
        self._tried.append(self._target)
        target = None if failure.rejected else self._pool.next_after(self._target, self._tried)
        if target is not None:
            self._queue_up(target)
        else:
            self._give_up_first_dial(failure)

    def _give_up_first_dial(self, failure: DialFailure) -> None:
        self._tried = None
        self._cancel_timer()
        self.state = UpstreamState.IDLE
        self._session.upstream_unreachable(failure)

    def on_connected(self, dial: DialRequest, leg: Leg, answer: DialAnswer) -> Link | None:
        """Take the socket of a dial that was answered 101. Returns its link, or None if the socket is to be dropped."""
        if dial is not self._dial:
            return None
        session, policy = self._session, self._policy
        gated = policy.gate.kind is GateKind.FIRST_MESSAGE
        deliver = session.upstream_message if policy.gate.kind is GateKind.OPEN else self._screen
        link = Link(leg, session.c2u, session, deliver, self._clock, policy)
        link.open = False
        self.link = link
        self.state = UpstreamState.GATED
        self._answer = answer
        if self.replay_info is not None and self.connected_before:
            leg.send(*self.replay_info)
        if not gated:
            self._open_gate(link)
        return link

    def on_failed(self, dial: DialRequest, failure: DialFailure) -> None:
        """Take the failure of a dial."""
        if dial is not self._dial:
            return
        self._dial = None
        self._observe(DialFailed(self._session.session_id or "", dial.url, failure.detail))
        self._report(failure)
        if self.connected_before and self.aware and failure.status in (409, 410):
            self._lose_session()
        elif self._tried is None:
            self.retry()
        else:
            self._try_another(failure)

    def _report(self, failure: DialFailure) -> None:
        """Tell the pool how the dial went, unless it was left already."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        if failure.rejected:
            self._pool.rejected(slot)
        else:
            self._pool.failed(slot, failure.detail, failure.taken)

    def _on_connect_timeout(self) -> None:
        self._timer = None
        timeout = f"within {self._policy.connect_timeout:g} s"
        if self.state is UpstreamState.QUEUED:
            assert self._target is not None, "its queue is where this one waits"
            why = "many others dial it" if self._target.healthy else f"it is down: {self._target.reason}"
            self._leave_slot()
            self._give_up_first_dial(DialFailure(f"the turn to dial it did not come {timeout}: {why}"))
            return
        dial = self._dial
        assert dial is not None, "the connect timer runs only while a dial or its gate is open, or the first one waits"
        gated = self.state is UpstreamState.GATED
        what = "its gate did not open" if gated else "it did not answer"
        self._drop_link(1001, "connect timeout")
        self._dialler.cancel()
        if self._tried is not None:
            # The time is over for the whole first dial, not just for this upstream.
            self._tried = list(self._pool.targets)
            assert self._slot is not None, "a dial has a slot"
            if self._clock.time() < self._slot.since + self._policy.connect_timeout / 2:
                # Its turn came late: that is no failure of this upstream.
                self._leave_slot()
        self.on_failed(dial, DialFailure(f"{what} {timeout}", taken=gated))

    # The gate, PROTOCOL.md section 5.

    def _screen(self, link: Link, opcode: int, payload: bytes) -> None:
        """Tell control messages from data, where the gate setting knows any."""
        gate = self._policy.gate
        if not link.open:
            self._take_control((opcode, payload))
            self._open_gate(link)
        elif gate.kind is GateKind.PREFIX and payload.startswith(gate.prefix):
            self._take_control((opcode, payload))
        else:
            self._session.upstream_message(link, opcode, payload)

    def _take_control(self, message: Message) -> None:
        self.replay_info = message
        session = self._session
        if session.session_id is None:
            session.session_id = id_from_control(message[1])
        session.upstream_control(message)

    def _open_gate(self, link: Link) -> None:
        """Let data messages through: settle the counts, then send what waits. From here on the dial has succeeded."""
        session, answer = self._session, self._answer
        assert self._slot is not None, "a dial has a slot"
        self._pool.connected(self._slot)
        offered = self.subprotocol
        if offered is not None and (answer.subprotocol or "") != offered:
            self._fail_for_good(1002, f"upstream chose subprotocol {answer.subprotocol!r} instead of {offered!r}")
            return
        try:
            resumption = link.resume(answer.received)
        except ValueError:
            self._lose_session()
            return
        except DeliveryUncertain as error:
            self._fail_for_good(1011, str(error))
            return
        self.subprotocol = answer.subprotocol or ""
        self._cancel_timer()
        self._stop_budget()
        away = 0.0 if self._away_since is None else self._clock.time() - self._away_since
        self.state = UpstreamState.UP
        self.connected_before = True
        self._tried = None
        self.aware = answer.received is not None
        link.open = True
        # What was to be known of them is, and they would stay for as long as the link.
        self._dial, self._answer = None, _NO_ANSWER
        session.upstream_up(answer, resumption, away)

    # Loss and end.

    def on_link_lost(self, link: Link, code: int, reason: str) -> None:
        """Take the loss of the link: redial where the close code allows it, else end for good."""
        self.link = None
        self._dialler.cancel()
        if not self._policy.retry_on.retries(code):
            # This says nothing of the upstream's health: it is there, and wants no more of this session.
            self._finish()
            self._session.upstream_gone(code, reason)
            return
        now = self._clock.time()
        if self.state is UpstreamState.GATED:
            dial = self._dial
            assert dial is not None, "a gated link belongs to the present dial"
            self.on_failed(dial, DialFailure(f"it closed ({code}) before its gate opened", taken=True))
            return
        self._dial = None
        lived = now - link.opened_at >= PROVEN_AFTER
        if lived:
            self._attempt = 0
            self._leave_slot()
        else:
            self._report_brief_link(f"it closed ({code}) right after it had connected")
        if lived or link.heard_at >= link.opened_at:
            self._away_since = None
        self.retry()

    def terminate(self, code: int, reason: str) -> None:
        """End the leg from this side: close the link if there is one, and dial no more."""
        if not self.terminated:
            self._drop_link(code, reason)
            self._dialler.cancel()
            self._finish()

    def let_go(self) -> None:
        """Let go of the session, which is over and refers to this: so both are gone without a collector of circles."""
        del self._session

    def _report_brief_link(self, reason: str) -> None:
        slot, self._slot = self._slot, None
        assert slot is not None, "a link has a slot"
        self._pool.lost(slot, reason)

    def _leave_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._pool.leave(slot)

    def _drop_link(self, code: int, reason: str) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.close(code, reason)

    def _lose_session(self) -> None:
        self._fail_for_good(1014, "upstream lost the session")

    def _on_budget_over(self) -> None:
        self._final = None
        self._fail_for_good(1014, "upstream unavailable")

    def _fail_for_good(self, code: int, reason: str) -> None:
        self.terminate(code if code != 1014 else 1001, reason)
        self._session.upstream_gone(code, reason)

    def _finish(self) -> None:
        self.state = UpstreamState.TERMINATED
        self._dial = None
        self._pool.wake(self)
        self._leave_slot()
        self._cancel_timer()
        self._stop_budget()

    def _stop_budget(self) -> None:
        if self._final is not None:
            self._final.cancel()
            self._final = None

    def _set_timer(self, delay: float, callback: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._clock.call_later(delay, callback)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
