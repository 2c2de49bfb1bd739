"""`--gate replay:N/M` and the hook on_redial: what an upstream is sent again first, PROTOCOL.md section 5."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconnect_proxy.core.budget import MemoryBudget
from reconnect_proxy.core.dial import DialAnswer
from reconnect_proxy.core.link import Link
from reconnect_proxy.core.message import COMPRESSED, Message, Opcode
from reconnect_proxy.core.policy import Gate, GateKind, Policy, Uncertain
from reconnect_proxy.core.replay import PREAMBLE_BYTES
from reconnect_proxy.events import LimitReached, Resumed

from .fakes import FakeLeg, SessionRig, confirm_all, say, started, the_end


def replaying(count: int, answers: int | None = None) -> Policy:
    """Return a policy that replays `count` messages, to which there are as many answers."""
    return Policy(gate=Gate(GateKind.REPLAY, replays=count, answers=count if answers is None else answers))


def logged_in(rig: SessionRig, client: Link, upstream_leg: FakeLeg, upstream: Link) -> None:
    """Let a client log in and subscribe, the upstream answer both, and the client say one thing more."""
    say(client, "login", "subscribe")
    say(upstream, "welcome", "subscribed")
    say(client, "one")
    confirm_all(rig, upstream_leg, upstream)


def test_a_redial_begins_with_the_preamble_and_its_answers_are_dropped() -> None:
    """Then comes what is owed; the answers to the rest reach the client. No count has anything of it."""
    rig, client, client_link, leg, link = started(replaying(2))
    logged_in(rig, client_link, leg, link)
    say(client_link, "two")
    link.on_lost(1006, "")
    say(client_link, "three")
    again, link = rig.reconnect()
    assert again.payloads == [b"login", b"subscribe", b"two", b"three"]
    say(link, "welcome", "subscribed", "news")
    assert client.payloads == [b"welcome", b"subscribed", b"news"]
    assert (rig.context.c2u.received, rig.context.u2c.received) == (5, 3)
    [resumed] = rig.seen(Resumed)
    assert isinstance(resumed, Resumed)
    assert (resumed.resent, resumed.waiting) == (1, 2)
    confirm_all(rig, again, link)
    link.on_lost(1006, "")
    third, _ = rig.reconnect()
    assert third.payloads == [b"login", b"subscribe"]


def test_there_may_be_fewer_answers_than_messages() -> None:
    """`replay:2/1`."""
    rig, client, client_link, leg, link = started(replaying(2, answers=1))
    logged_in(rig, client_link, leg, link)
    link.on_lost(1006, "")
    _, link = rig.reconnect()
    say(link, "welcome", "news")
    assert client.payloads == [b"welcome", b"subscribed", b"news"]


def test_what_is_owed_of_the_preamble_is_sent_once_and_in_its_place() -> None:
    """The link was lost in the middle of the login: nothing comes twice, and the client gets what it lacks."""
    rig, client, client_link, leg, link = started(replaying(2))
    say(client_link, "login")
    say(link, "welcome")
    confirm_all(rig, leg, link)
    say(client_link, "subscribe")
    link.on_lost(1006, "")
    again, link = rig.reconnect()
    assert again.payloads == [b"login", b"subscribe"]
    say(link, "welcome", "subscribed")
    assert client.payloads == [b"welcome", b"subscribed"]


def test_an_answer_that_the_client_has_is_dropped_though_the_preamble_was_not_confirmed() -> None:
    """The preamble is sent again out of the outbox, and answered again."""
    rig, client, client_link, _, link = started(replaying(2))
    say(client_link, "login", "subscribe")
    say(link, "welcome", "subscribed")
    link.on_lost(1006, "")
    again, link = rig.reconnect()
    assert again.payloads == [b"login", b"subscribe"]
    say(link, "welcome", "subscribed", "news")
    assert client.payloads == [b"welcome", b"subscribed", b"news"]


def test_a_preamble_that_was_never_confirmed_is_sent_once() -> None:
    """It is in the outbox; and no answer is dropped, as the client has had none."""
    rig, client, client_link, _, link = started(replaying(2))
    say(client_link, "login", "subscribe")
    link.on_lost(1006, "")
    again, link = rig.reconnect()
    assert again.payloads == [b"login", b"subscribe"]
    say(link, "welcome", "subscribed")
    assert client.payloads == [b"welcome", b"subscribed"]


def test_messages_that_are_dropped_as_uncertain_are_in_the_preamble_all_the_same() -> None:
    """With `uncertain=drop` the preamble is sent again, and what came after it is not."""
    rig, _, client_link, _, link = started(replace(replaying(2), uncertain=Uncertain.DROP))
    say(client_link, "login", "subscribe", "one")
    link.on_lost(1006, "")
    again, _ = rig.reconnect()
    assert again.payloads == [b"login", b"subscribe"]


def test_an_upstream_that_resumes_the_session_gets_nothing_again() -> None:
    """It counts what it is sent, and it knows the login."""
    rig, client, client_link, leg, link = started(replaying(2), upstream_aware=True)
    logged_in(rig, client_link, leg, link)
    link.on_lost(1006, "")
    again, link = rig.reconnect(DialAnswer(received=3))
    say(link, "news")
    assert again.payloads == []
    assert client.payloads == [b"welcome", b"subscribed", b"news"]


def test_a_redial_before_the_upstream_was_ever_there_replays_nothing() -> None:
    """The client was accepted while the upstream was down: its first link gets what waits, once."""
    rig = SessionRig(replaying(2))
    rig.open()
    rig.dialler.fail()
    client, client_link = rig.client()
    say(client_link, "login", "subscribe", "one")
    leg, link = rig.reconnect()
    say(link, "welcome")
    assert leg.payloads == [b"login", b"subscribe", b"one"]
    assert client.payloads == [b"welcome"]


def test_a_compressed_preamble_is_replayed_as_it_came() -> None:
    """Nothing of it is read."""
    assert replaying(1).deflate
    rig, _, client_link, leg, link = started(replaying(1))
    client_link.on_message(COMPRESSED | Opcode.TEXT, b"deflated")
    confirm_all(rig, leg, link)
    link.on_lost(1006, "")
    again, _ = rig.reconnect()
    assert again.sent == [(COMPRESSED | Opcode.TEXT, b"deflated")]


def test_a_preamble_is_in_the_budget_as_long_as_the_session_lives() -> None:
    """It is held after it is confirmed, and no longer than the session."""
    budget = MemoryBudget()
    rig, _, client_link, leg, link = started(replaying(2), budget=budget)
    logged_in(rig, client_link, leg, link)
    confirm_all(rig, *rig_client(rig))
    assert 14 <= budget.held <= 300
    rig.context.close(1000, "")
    the_end(rig)
    assert budget.held == 0


def rig_client(rig: SessionRig) -> tuple[FakeLeg, Link]:
    """Return the client's socket and link."""
    [link] = rig.context.clients.links
    assert isinstance(link.leg, FakeLeg)
    return link.leg, link


def test_a_preamble_that_is_too_big_ends_its_session() -> None:
    """It would be held for as long as the session."""
    rig, client, client_link, _, _ = started(replaying(3))
    say(client_link, "login", bytes(PREAMBLE_BYTES), "more")
    rig.clock.advance(0.1)
    assert the_end(rig).code == 1009
    assert client.closed is not None
    assert client.closed[0] == 1009
    assert client.closed[1].startswith("preamble too big")
    [reached] = rig.seen(LimitReached)
    assert "the first 3 messages have more than 1048576 bytes" in str(reached)


def test_a_preamble_that_is_too_big_at_the_end_of_its_session_harms_nothing() -> None:
    """The timer finds a session that is over."""
    rig, _, client_link, _, _ = started(replaying(3))
    say(client_link, bytes(PREAMBLE_BYTES + 1))
    rig.context.close(1000, "")
    rig.clock.advance(0.1)
    assert the_end(rig).code == 1000
    assert rig.seen(LimitReached) == []


# The hook.


def hooked(
    answer: list[Message] | None, policy: Policy | None = None
) -> tuple[SessionRig, FakeLeg, Link, FakeLeg, Link]:
    """Return a session whose hook gives this answer."""
    rig = SessionRig(policy, on_redial=lambda: None if answer is None else list(answer))
    rig.open()
    leg, link = rig.connect()
    client, client_link = rig.client()
    return rig, client, client_link, leg, link


@pytest.mark.parametrize("policy", [Policy(), replaying(2)])
def test_a_hook_gives_the_first_messages_of_a_redial(policy: Policy) -> None:
    """Before the preamble and what is owed; they are not counted, and sent on redials only."""
    rig, client, client_link, leg, link = hooked([(Opcode.TEXT, b"token")], policy)
    logged_in(rig, client_link, leg, link)
    assert leg.payloads == [b"login", b"subscribe", b"one"]
    say(client_link, "two")
    link.on_lost(1006, "")
    again, link = rig.reconnect()
    assert again.payloads == [b"token", *([b"login", b"subscribe"] if policy.gate.replays else []), b"two"]
    confirm_all(rig, again, link)
    assert rig.context.c2u.received == 4
    assert len(client.payloads) == 2


def test_a_hook_that_fails_ends_the_session() -> None:
    """The upstream would get the rest without what has to come first."""
    rig, client, _, _, link = hooked(None)
    link.on_lost(1006, "")
    rig.reconnect()
    assert client.closed == (1011, "the hook on_redial failed")
    assert the_end(rig).code == 1011
