"""The bytes that all sessions hold: the sum is exact, too much holds those back that have most, and lets them go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reconnect_proxy.core.budget import RELIEVED_AT_ONCE, make_budget
from reconnect_proxy.core.context import Context
from reconnect_proxy.core.message import Opcode
from reconnect_proxy.core.outbox import MESSAGE_COST, Outbox
from reconnect_proxy.core.policy import Policy
from reconnect_proxy.events import Event, HeldLimitReached, HeldLimitRelieved, Limit, LimitReached

from .fakes import CALM, SHARED, FakeClock, FakeLeg, SessionRig, confirm, confirm_all, say, started, the_end

LIMIT, FLOOR = 10_000, 1000
MESSAGE = (Opcode.BINARY, bytes(1000 - MESSAGE_COST))


class Told:
    """The owner of an outbox, who does something when told that it is relieved."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def regulate(self) -> None:
        """Do it."""
        self._then()


class Bank:
    """A budget of LIMIT bytes with a floor of FLOOR, its clock, and what it said."""

    def __init__(self, limit: int | None = LIMIT) -> None:
        self.clock = FakeClock()
        self.events: list[Event] = []
        self.budget = make_budget(limit, self.clock, self.events.append, FLOOR)
        self.relieved: list[int] = []

    def outbox(self, messages: int, name: int = 0, high_water: int = 1_000_000) -> Outbox:
        """Return an outbox that holds so many messages of 1000 bytes and writes down its `name` when relieved."""
        outbox = Outbox(high_water, 0, 0, self.budget, Told(lambda: self.relieved.append(name)))
        for _ in range(messages):
            outbox.push(MESSAGE)
            outbox.mark_sent()
        return outbox


def sharing(bank: Bank, policy: Policy = CALM) -> tuple[SessionRig, FakeLeg, FakeLeg]:
    """Return a session that counts into `bank`: its rig, the client's socket and the upstream's."""
    rig, client, _, upstream, _ = started(policy, budget=bank.budget)
    return rig, client, upstream


def test_what_is_pushed_counts_until_it_is_confirmed() -> None:
    """For all outboxes together."""
    bank = Bank()
    a, b = bank.outbox(2), bank.outbox(3)
    assert bank.budget.held == 5000
    a.confirm(1)
    b.confirm(3)
    assert bank.budget.held == 1000
    a.rewind(1)
    assert bank.budget.held == 1000


def test_an_outbox_that_is_given_up_takes_all_that_it_held_along() -> None:
    """What is done to it afterwards counts no more."""
    bank = Bank()
    outbox, other = bank.outbox(4), bank.outbox(1)
    outbox.confirm(1)
    outbox.leave_budget()
    outbox.push(MESSAGE)
    outbox.confirm(3)
    outbox.leave_budget()
    assert bank.budget.held == other.bytes_held == 1000


def test_above_the_limit_an_outbox_above_the_floor_is_full_from_its_next_message_on() -> None:
    """One at the floor is not."""
    bank = Bank()
    small, large = bank.outbox(0), bank.outbox(10)
    assert not large.full
    assert not bank.budget.exceeded
    small.push(MESSAGE)
    assert not small.full
    assert bank.budget.exceeded, "no new session is made, though none is held back yet"
    large.push(MESSAGE)
    assert large.full
    small.push(MESSAGE)
    assert small.full
    assert bank.events == [HeldLimitReached(12_000, LIMIT)]


def test_without_a_limit_nothing_is_too_much() -> None:
    """Only the mark of the outbox itself counts."""
    bank = Bank(limit=None)
    outbox = bank.outbox(20)
    assert not outbox.full
    assert not bank.budget.exceeded


def test_it_is_over_clearly_below_the_limit() -> None:
    """At seven eighths; those that were held back are told, and not in the midst of what another does."""
    bank = Bank()
    a, b = bank.outbox(5, 1), bank.outbox(5, 2)
    a.push(MESSAGE)
    b.push(MESSAGE)
    assert a.full
    assert b.full
    bank.clock.advance(3.0)
    a.confirm(3)
    assert bank.budget.exceeded
    a.confirm(4)
    assert not bank.budget.exceeded
    assert bank.events[1:] == [HeldLimitRelieved(8000, 3.0)]
    assert bank.relieved == []
    assert b.full
    bank.clock.advance(0.0)
    assert bank.relieved == [1, 2]
    assert not a.full
    assert not b.full


def test_a_held_back_outbox_that_empties_below_half_the_floor_is_not_full_though_the_others_hold_on() -> None:
    """Every session moves, however much others hold."""
    bank = Bank()
    bank.outbox(20)
    outbox = bank.outbox(1)
    outbox.push(MESSAGE)
    assert outbox.full
    outbox.mark_sent()
    outbox.confirm(1)
    assert outbox.full
    outbox.confirm(2)
    assert not outbox.full
    assert outbox not in bank.budget.held_back


def test_an_outbox_above_its_own_mark_stays_full_when_the_others_hold_less() -> None:
    """That is a reason of its own."""
    bank = Bank()
    other = bank.outbox(10)
    outbox = bank.outbox(2, high_water=3000)
    outbox.push(MESSAGE)
    outbox.push(MESSAGE)
    assert outbox.full
    other.leave_budget()
    bank.clock.advance(0.0)
    assert outbox.full
    assert bank.relieved == []
    outbox.confirm(2)
    outbox.mark_sent()
    outbox.confirm(3)
    assert not outbox.full


def test_those_held_back_longest_go_on_first_and_others_wait_if_that_is_too_much_again() -> None:
    """A thousand sessions that are read again at once might fill the budget at once."""
    bank = Bank()
    large = bank.outbox(20)
    waiting = [Outbox(1_000_000, 0, 0, bank.budget, Told(lambda: bank.outbox(20))) for _ in range(3)]
    for outbox in waiting:
        outbox.push((Opcode.BINARY, bytes(FLOOR)))
    large.leave_budget()
    bank.clock.advance(0.0)
    assert [outbox.full for outbox in waiting] == [False, True, True]


def test_one_that_is_given_up_for_the_relief_of_another_is_not_relieved() -> None:
    """A shared session that ends while it is relieved gives up the outboxes of all its clients."""
    bank = Bank()
    large = bank.outbox(20)
    second = bank.outbox(0, 2)
    first = Outbox(1_000_000, 0, 0, bank.budget, Told(second.leave_budget))
    third = bank.outbox(0, 3)
    for outbox in (first, second, third):
        outbox.push((Opcode.BINARY, bytes(FLOOR)))
    large.leave_budget()
    bank.clock.advance(0.0)
    assert bank.relieved == [3]
    assert not third.full


def test_many_are_relieved_in_turns() -> None:
    """What else happens meanwhile is not kept waiting; those that have ended are not waited for."""
    bank = Bank(limit=1_000_000)
    large = bank.outbox(1000)
    outboxes = [bank.outbox(1, name) for name in range(2 * RELIEVED_AT_ONCE)]
    for outbox in outboxes:
        outbox.push(MESSAGE)
    large.leave_budget()
    outboxes[1].leave_budget()
    meanwhile: list[int] = []
    bank.clock.call_later(0.0, lambda: meanwhile.append(len(bank.relieved)))
    bank.clock.advance(0.0)
    assert meanwhile == [RELIEVED_AT_ONCE]
    assert bank.relieved == [0, *range(2, 2 * RELIEVED_AT_ONCE)]
    assert bank.clock.live == 0


def test_sessions_that_hold_much_are_not_read_until_there_is_room() -> None:
    """Each in the direction in which it holds much; and what was read arrives."""
    bank = Bank()
    rig, client, upstream = sharing(bank)
    link = rig.context.clients.links[0]
    other = bank.outbox(10)
    say(link, bytes(FLOOR))
    assert (client.paused, upstream.paused) == (True, False)
    other.leave_budget()
    bank.clock.advance(0.0)
    assert not client.paused
    assert upstream.payloads == [bytes(FLOOR)]


def test_a_session_gives_back_all_that_it_held_when_it_ends() -> None:
    """Even if it still owed messages."""
    bank = Bank()
    rig, _, _ = sharing(bank)
    say(rig.context.clients.links[0], "1", "2")
    assert rig.context.upstream.link is not None
    say(rig.context.upstream.link, "3")
    assert bank.budget.held == 3 * (MESSAGE_COST + 1)
    rig.context.close(1012, "service restart")
    assert the_end(rig).uncertain_c2u == 2
    assert bank.budget.held == 0


def test_what_is_owed_to_several_clients_counts_for_each_until_it_leaves() -> None:
    """The outbox of the last one waits for the next to come, and counts on."""
    bank = Bank()
    rig = SessionRig(SHARED, budget=bank.budget)
    rig.open()
    _, upstream_link = rig.connect()
    links = [rig.client()[1] for _ in range(3)]
    say(upstream_link, bytes(100))
    assert bank.budget.held == 3 * (100 + MESSAGE_COST)
    links[0].on_lost(1006, "")
    links[2].on_lost(1006, "")
    assert bank.budget.held == 100 + MESSAGE_COST
    links[1].on_lost(1006, "")
    assert bank.budget.held == 100 + MESSAGE_COST
    leg, link = rig.client()
    confirm_all(rig, leg, link)
    assert bank.budget.held == 0


def test_both_outboxes_held_back_the_client_is_read_for_its_pongs() -> None:
    """Else they would wait for one another for as long as the others hold on."""
    bank = Bank()
    bank.outbox(10)
    rig, client, upstream = sharing(bank, replace(CALM, slack=0))
    say(rig.context.clients.links[0], bytes(FLOOR))
    assert rig.context.upstream.link is not None
    say(rig.context.upstream.link, bytes(FLOOR))
    assert (client.paused, upstream.paused) == (False, True)
    confirm_all(rig, client, rig.context.clients.links[0])
    assert (client.paused, upstream.paused) == (True, False)
    confirm_all(rig, upstream, rig.context.upstream.link)
    assert (client.paused, upstream.paused) == (False, False)


@pytest.mark.parametrize(("others", "room"), [(11, 10_000), (25, 3_000)])
def test_a_client_that_sends_on_instead_of_answering_is_ended_the_sooner_the_more_is_held(
    others: int, room: int
) -> None:
    """1013: with much held, the sum stays near twice the limit; what was accepted is still delivered."""
    bank = Bank()
    bank.outbox(others)
    rig, client, _ = sharing(bank, replace(CALM, slack=0))
    say(rig.context.clients.links[0], bytes(FLOOR))
    assert rig.context.upstream.link is not None
    say(rig.context.upstream.link, bytes(FLOOR))
    link = rig.context.clients.links[0]
    held = rig.context.c2u.outbox.bytes_held
    while client.closed is None:
        say(link, bytes(100))
        assert rig.context.c2u.outbox.bytes_held - held <= room
    uncertain = rig.context.c2u.outbox.uncertain
    assert client.closed == (1013, f"queue limit; {uncertain} messages uncertain")
    assert [event.limit for event in rig.seen(LimitReached) if isinstance(event, LimitReached)] == [Limit.QUEUE]
    assert len(rig.context.c2u.outbox) > 0


def test_a_mute_client_that_talks_on_is_found_out_while_the_budget_is_tight() -> None:
    """What it never confirms makes the budget tight, and it is read only between two confirmations of the upstream."""
    bank = Bank()
    bank.outbox(9)
    rig, client, upstream = sharing(bank, replace(CALM, slack=0))
    link, up = rig.context.clients.links[0], rig.context.upstream.link
    assert up is not None
    say(up, bytes(600))
    said = 0
    while not link.mute:
        assert rig.clock.now < 3 * (CALM.ping_interval + CALM.ping_timeout), "it is never found out"
        if not client.paused:
            say(link, bytes(300))
            said += 1
        if not upstream.paused:
            say(up, b"more")
        # The upstream answers at once.
        while up.outbox.unconfirmed and upstream.pings and upstream.pings[-1] > up.outbox.confirmed:
            confirm(upstream, up)
        rig.clock.advance(0.01)
    assert said > 100
    assert len(link.outbox) == 0


def test_a_context_without_a_budget_has_one_without_a_limit() -> None:
    """Who embeds a single session need not know of budgets."""
    rig = SessionRig(CALM)
    assert isinstance(rig.context, Context)
    rig.open()
    _, upstream_link = rig.connect()
    say(upstream_link, bytes(10_000_000))
    assert not rig.context.u2c.outbox.full
