"""This project's proxy with one thing in it made wrong: what the scenarios with faults are tested against.

    python broken_keeper.py HARM serve --listen 127.0.0.1:0 --upstream ws://… [options of `reconnect-proxy serve`]

A relay (`broken_proxy`) cannot come as far as these: each keeps its promises until the one fault that its harm is for.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import reconnect_proxy.core.link as link_module
from reconnect_proxy.cli import main
from reconnect_proxy.core.backoff import RetryBudget
from reconnect_proxy.core.clients import Clients
from reconnect_proxy.core.context import Context
from reconnect_proxy.core.dial import SESSION_LOST
from reconnect_proxy.core.gate import UpstreamGate
from reconnect_proxy.core.link import Link, Resumption
from reconnect_proxy.core.message import Direction, Message
from reconnect_proxy.core.outbox import MESSAGE_COST, Outbox
from reconnect_proxy.core.registry import Binding, RegistryState
from reconnect_proxy.core.side import SessionSide
from reconnect_proxy.core.silence import Action, Judgement, Silence
from reconnect_proxy.core.stream import Stream
from reconnect_proxy.core.upstream import Upstream
from reconnect_proxy.proxy import Proxy

Resume = Callable[[Link, Outbox], None]


def _on_resume(harm: Resume, upstream: bool) -> None:
    """Do harm whenever a new link of one leg goes on with a stream that another one began."""
    resume = Link.resume

    def wrong(self: Link, received: int | None) -> Resumption:
        began = self.outbox.furthest > 0
        resumption = resume(self, received)
        if began and isinstance(self._owner, Upstream) is upstream and self.outbox.pending:
            harm(self, self.outbox)
        return resumption

    Link.resume = wrong  # type: ignore[method-assign]


def _drop(link: Link, outbox: Outbox) -> None:
    if link.aware:
        # It counts as sent, and so as confirmed by the Pong of a later one.
        outbox.mark_sent()
    # The first that was never sent: what was may have arrived, and its loss be none.
    elif (new := outbox.uncertain) < outbox.pending:
        _, payload = outbox._messages.pop(_place(outbox, new))
        outbox.bytes_held -= len(payload) + MESSAGE_COST


def _swap(link: Link, outbox: Outbox) -> None:
    new = outbox.uncertain
    if new + 1 < outbox.pending:
        messages, place = outbox._messages, _place(outbox, new)
        messages[place], messages[place + 1] = messages[place + 1], messages[place]


def _repeat(link: Link, outbox: Outbox) -> None:
    link.leg.send(*outbox._messages[_place(outbox, 0)])


def _truncate(link: Link, outbox: Outbox) -> None:
    place = _place(outbox, 0)
    opcode, payload = outbox._messages[place]
    outbox._messages[place] = opcode, payload[: len(payload) // 2]


def _retype(link: Link, outbox: Outbox) -> None:
    place = _place(outbox, 0)
    opcode, payload = outbox._messages[place]
    outbox._messages[place] = 3 - opcode, payload


def _cross(link: Link, outbox: Outbox) -> None:
    """Send a message on the link that was made before."""
    if _links:
        _links[-1].leg.send(*outbox._messages[_place(outbox, 0)])
    _links.append(link)


#: The links that `_cross` has seen.
_links: list[Link] = []


def _place(outbox: Outbox, n: int) -> int:
    """Return where the list of an outbox has the message that will be sent when `n` others have been."""
    return outbox.sent - outbox._before + n


def _lazy() -> None:
    """Wait five seconds before each redial, which is more than the scenarios allow."""
    # Its only default is where it draws its waits from.
    Upstream.__init__.__defaults__ = (lambda least, most: 5.0,)


def _ask_seldom() -> None:
    """Ask for confirmation only behind 64 messages."""
    vars(link_module).update(AFTER=3600.0, RIDES_AFTER=3600.0)


def _swallow_codes() -> None:
    gone = Context.upstream_gone
    Context.upstream_gone = lambda self, code, reason: gone(self, 1000, "")  # type: ignore[method-assign]


def _keep_sessions() -> None:
    Clients._on_grace_over = lambda self: None  # type: ignore[method-assign]


def _keep_every_fourth() -> None:
    over = Clients._on_grace_over
    count = 0

    def wrong(self: Clients) -> None:
        nonlocal count
        count += 1
        if count % 4:
            over(self)

    Clients._on_grace_over = wrong  # type: ignore[method-assign]


def _keep_lost_sockets() -> None:
    lost = SessionSide.link_lost

    def wrong(self: SessionSide, link: Link, code: int, reason: str) -> None:
        os.dup(2)
        lost(self, link, code, reason)

    SessionSide.link_lost = wrong  # type: ignore[method-assign]


def _hoard() -> None:
    """Keep every message to the end."""
    push, kept = Outbox.push, []

    def wrong(self: Outbox, message: Message) -> None:
        kept.append(bytes(message[1]) + b" ")
        push(self, message)

    Outbox.push = wrong  # type: ignore[method-assign]


def _take_over_quietly() -> None:
    close = Link.close

    def wrong(self: Link, code: int, reason: str) -> None:
        close(self, *((1000, "") if code == 4000 else (code, reason)))

    Link.close = wrong  # type: ignore[method-assign]


def _let_thieves_in() -> None:
    Binding.check = lambda self, other: None  # type: ignore[method-assign]


def _take_any_count() -> None:
    admit = Context.admit

    def wrong(self: Context, claim: Any) -> int | None:
        if claim.received is not None:
            possible = min(max(claim.received, self.u2c.outbox.confirmed), self.u2c.outbox.furthest)
            claim = dataclasses.replace(claim, received=possible)
        return admit(self, claim)

    Context.admit = wrong  # type: ignore[method-assign]


def _open_on_unknown_ids() -> None:
    enter = Proxy.enter

    def wrong(self: Proxy, request: Any) -> Any:
        claim = dataclasses.replace(request.claim, connection_id=request.claim.session_id, reconnect_id=None)
        return enter(self, dataclasses.replace(request, claim=claim))

    Proxy.enter = wrong  # type: ignore[method-assign]


def _take_rejections_for_final() -> None:
    failed = Upstream.on_failed

    def wrong(self: Upstream, request: Any, failure: Any) -> None:
        if failure.rejected and self.connected_before:
            self._fail_for_good(1014, "rejected")
        else:
            failed(self, request, failure)

    Upstream.on_failed = wrong  # type: ignore[method-assign]


def _take_no_rejection_for_final() -> None:
    failed = Upstream.on_failed

    def wrong(self: Upstream, request: Any, failure: Any) -> None:
        failed(self, request, dataclasses.replace(failure, status=599) if failure.rejected else failure)

    Upstream.on_failed = wrong  # type: ignore[method-assign]


def _never_give_up() -> None:
    wait = RetryBudget.next_wait
    RetryBudget.next_wait = lambda self, on_over=None: wait(self)  # type: ignore[method-assign]


def _begin_anew() -> None:
    fail = Upstream._fail_for_good

    def wrong(self: Upstream, code: int, reason: str) -> None:
        if reason == SESSION_LOST:
            self.retry()
        else:
            fail(self, code, reason)

    Upstream._fail_for_good = wrong  # type: ignore[method-assign]


def _tell_control() -> None:
    take = Upstream.gate_control

    def wrong(self: Upstream, message: Message) -> None:
        take(self, message)
        for client in self.feeds.receivers:
            client.leg.send(*message)

    Upstream.gate_control = wrong  # type: ignore[method-assign]


def _forget_state() -> None:
    take = UpstreamGate._take_control

    def wrong(self: UpstreamGate, message: Message) -> None:
        take(self, message)
        self.replay_info = None

    UpstreamGate._take_control = wrong  # type: ignore[method-assign]


def _drop_mute() -> None:
    """Take a peer that answers no Ping for a dead one."""

    judge = Silence.judge

    def wrong(self: Silence, now: float, heard_at: float, **state: Any) -> Judgement:
        judgement = judge(self, now, heard_at, **state)
        return Judgement(Action.LOSE, reason="mute") if judgement.action is Action.MUTE else judgement

    Silence.judge = wrong  # type: ignore[method-assign, assignment]


def _drop_when_full() -> None:
    push = Outbox.push

    def wrong(self: Outbox, message: Message) -> None:
        if not self.full:
            push(self, message)

    Outbox.push = wrong  # type: ignore[method-assign]


def _drop_while_down() -> None:
    """Forget what a client says while there is no upstream."""
    _drop_without_receivers(Direction.C2U)


def _leave_one_out() -> None:
    """Tell the client that came last nothing, where there are others."""
    take = Stream.take

    def wrong(self: Stream, opcode: int, payload: bytes, now: float | None = None) -> None:
        receivers = self.receivers
        self.receivers = receivers[:-1] or receivers
        take(self, opcode, payload, now)
        self.receivers = receivers

    Stream.take = wrong  # type: ignore[method-assign]


def _drop_while_alone() -> None:
    """Forget what an upstream says while there is no client."""
    _drop_without_receivers(Direction.U2C)


def _drop_without_receivers(direction: Direction) -> None:
    take = Stream.take

    def wrong(self: Stream, opcode: int, payload: bytes, now: float | None = None) -> None:
        if self.receivers or self.direction is not direction:
            take(self, opcode, payload, now)

    Stream.take = wrong  # type: ignore[method-assign]


def _stop_at_once() -> None:
    """Deliver nothing when told to stop."""

    async def wrong(self: Proxy, seconds: float) -> None:
        self.registry.state = RegistryState.DRAINING

    Proxy.drain = wrong  # type: ignore[method-assign]


#: The harms, by name.
HARMS: Mapping[str, Callable[[], None]] = {
    "drop-on-redial": lambda: _on_resume(_drop, upstream=True),
    "swap-on-redial": lambda: _on_resume(_swap, upstream=True),
    "repeat-on-redial": lambda: _on_resume(_repeat, upstream=True),
    "truncate-on-redial": lambda: _on_resume(_truncate, upstream=True),
    "retype-on-redial": lambda: _on_resume(_retype, upstream=True),
    "drop-on-return": lambda: _on_resume(_drop, upstream=False),
    "repeat-on-return": lambda: _on_resume(_repeat, upstream=False),
    "cross-on-return": lambda: _on_resume(_cross, upstream=False),
    "lazy": _lazy,
    "ask-seldom": _ask_seldom,
    "swallow-codes": _swallow_codes,
    "keep-sessions": _keep_sessions,
    "keep-every-fourth": _keep_every_fourth,
    "keep-lost-sockets": _keep_lost_sockets,
    "hoard": _hoard,
    "take-over-quietly": _take_over_quietly,
    "let-thieves-in": _let_thieves_in,
    "take-any-count": _take_any_count,
    "open-on-unknown-ids": _open_on_unknown_ids,
    "take-rejections-for-final": _take_rejections_for_final,
    "take-no-rejection-for-final": _take_no_rejection_for_final,
    "never-give-up": _never_give_up,
    "begin-anew": _begin_anew,
    "tell-control": _tell_control,
    "forget-state": _forget_state,
    "drop-mute": _drop_mute,
    "drop-when-full": _drop_when_full,
    "drop-while-down": _drop_while_down,
    "leave-one-out": _leave_one_out,
    "drop-while-alone": _drop_while_alone,
    "stop-at-once": _stop_at_once,
    "none": lambda: None,
}

if __name__ == "__main__":
    HARMS[sys.argv.pop(1)]()
    sys.exit(main())
