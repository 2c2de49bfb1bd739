"""The upstream's side of a session: what a dial says, what is agreed, backoff and retry budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconnect_proxy.core import backoff
from reconnect_proxy.core.backoff import BASE, CAP, LIVED_LONG
from reconnect_proxy.core.context import SessionState
from reconnect_proxy.core.dial import DialAnswer, DialFailure, DialRequest
from reconnect_proxy.core.policy import Gate, GateKind, Policy, RetryOn, Uncertain
from reconnect_proxy.core.upstream import Upstream
from reconnect_proxy.core.upstream_state import UpstreamState
from reconnect_proxy.events import DialFailed, Redial, SessionEnded

from .fakes import (
    CALM,
    SESSION_ID,
    FakeClock,
    FakeDialler,
    FakeLeg,
    SessionRig,
    confirm_all,
    never_was,
    over,
    pong,
    say,
    started,
)

URLS = ("ws://one", "ws://two", "ws://three")
FIRST_MESSAGE = Policy(gate=Gate(GateKind.FIRST_MESSAGE))
PREFIX = Policy(gate=Gate(GateKind.PREFIX, b"RECONNECT"))


# What a dial says.


def test_the_first_dial_names_the_session_and_a_count_of_zero() -> None:
    """It is no redial, and the client's own subprotocol offers go out."""
    rig = SessionRig()
    rig.open()
    assert rig.dialler.dials == [DialRequest("ws://one", SESSION_ID, redial=False, received=0, subprotocol=None)]


def test_a_redial_says_so_and_how_many_messages_have_come() -> None:
    """With the subprotocol that the session has agreed on."""
    rig = SessionRig()
    rig.open()
    _, link = rig.connect(DialAnswer(subprotocol="chat"))
    rig.client()
    say(link, "a", "b", "c")
    link.on_lost(1006, "")
    rig.clock.advance(1.0)
    assert rig.dialler.dials[-1] == DialRequest("ws://one", SESSION_ID, redial=True, received=3, subprotocol="chat")


def test_the_count_grows_over_generations_and_ignores_what_a_dead_link_says() -> None:
    """Messages that arrive on a link after its loss are not counted, so the upstream sends them again."""
    rig, _, _, _, first = started()
    say(first, "a", "b")
    first.on_lost(1006, "")
    say(first, "lost")
    _, second = rig.reconnect()
    say(second, "c")
    second.on_lost(1006, "")
    rig.clock.advance(1.0)
    assert [dial.received for dial in rig.dialler.dials] == [0, 2, 3]


def test_a_dial_after_one_that_never_connected_is_no_redial() -> None:
    """X-Reconnect is for sessions that were connected before."""
    rig = SessionRig()
    rig.open()
    rig.dialler.fail()
    rig.clock.advance(1.0)
    assert [dial.redial for dial in rig.dialler.dials] == [False, False]


# The first dial.


def test_the_first_dial_tries_each_upstream_at_once() -> None:
    """In their order, without a pause."""
    rig = SessionRig(urls=URLS)
    rig.open()
    rig.dialler.fail()
    rig.dialler.fail(status=502)
    rig.connect()
    assert [dial.url for dial in rig.dialler.dials] == list(URLS)
    assert rig.context.state is SessionState.OPEN


def test_one_connect_timeout_covers_the_whole_first_dial() -> None:
    """A client waits for it, however many upstreams there are."""
    rig = SessionRig(Policy(connect_timeout=5.0, accept_when_down=False), URLS)
    rig.open()
    rig.clock.advance(3.0)
    rig.dialler.fail()
    rig.clock.advance(1.9)
    assert rig.openings == []
    rig.clock.advance(0.2)
    assert [opening.refusal is not None for opening in rig.openings] == [True]
    assert rig.clock.live == 0


def test_the_connect_timeout_of_the_first_dial_outlives_a_link_that_was_lost_at_its_gate() -> None:
    """The next upstream gets what is left of it, not forever."""
    rig = SessionRig(replace(FIRST_MESSAGE, connect_timeout=5.0, accept_when_down=False), URLS)
    rig.open()
    _, link = rig.connect()
    rig.clock.advance(3.0)
    link.on_lost(1006, "")
    assert len(rig.dialler.dials) == 2
    rig.clock.advance(2.1)
    assert [opening.refusal is not None for opening in rig.openings] == [True]
    assert (rig.ended, rig.clock.live) == (1, 0)


@pytest.mark.parametrize("status", [401, 404, 302, 499])
def test_a_refusal_below_500_stops_the_first_dial(status: int) -> None:
    """The upstream is there and said no: others are not asked."""
    rig = SessionRig(urls=URLS)
    rig.open()
    rig.dialler.fail("no", status, b"body")
    assert len(rig.dialler.dials) == 1
    [opening] = rig.openings
    assert opening.failure is not None
    assert (opening.failure.status, opening.failure.answer) == (status, b"body")


def test_the_answer_to_a_dial_that_was_given_up_is_dropped() -> None:
    """Its socket carries nothing, whether it comes late or fails late."""
    rig = SessionRig(Policy(connect_timeout=5.0))
    rig.open()
    stale = rig.dialler.under_way
    assert stale is not None
    dial, upstream = stale
    rig.clock.advance(5.1)
    assert upstream.on_connected(dial, FakeLeg(), DialAnswer()) is None
    upstream.on_failed(dial, DialFailure("late"))
    assert upstream.link is None
    assert len(rig.seen(DialFailed)) == 1


# Backoff and budget.


def test_a_lost_upstream_is_redialled_at_the_next_of_the_list() -> None:
    """And after the last comes the first again."""
    rig = SessionRig(urls=URLS)
    rig.open()
    _, link = rig.connect()
    rig.client()
    link.on_lost(1006, "")
    for _ in range(3):
        rig.clock.advance(3.0)
        rig.dialler.fail()
    assert [dial.url for dial in rig.dialler.dials[:4]] == ["ws://one", "ws://two", "ws://three", "ws://one"]


def test_the_waits_grow_with_each_dial_that_fails() -> None:
    """By the rule of `wait_before`, and each is numbered."""
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    rig = SessionRig(Policy(retry_for=1000.0, accept_when_down=True))
    session = rig.context
    around = (rig.pool, rig.dialler, rig.clock, rig.policy, rig.events.append)
    session.upstream = Upstream(session, session.u2c, session.c2u, *around, None, draw)
    rig.open()
    for attempt in range(12):
        rig.dialler.fail()
        low, high = drawn[-1]
        away = sum(high for _, high in drawn[:-1])
        assert low == (0.0 if attempt == 0 else BASE)
        assert high == pytest.approx(min(CAP, BASE * 2**attempt, max(BASE, away)) if attempt != 1 else 2 * BASE)
        rig.clock.advance(high)
    assert [event.attempt for event in rig.events if isinstance(event, Redial)] == list(range(1, 13))


def attempts(rig: SessionRig) -> list[int]:
    """Return the numbers of the dials since the last progress, as they were reported."""
    return [event.attempt for event in rig.events if isinstance(event, Redial)]


def test_a_link_that_lived_long_ends_the_series_of_attempts_and_one_that_fell_over_does_not() -> None:
    """An upstream that dies at each connect must not be dialled without a pause."""
    rig, *_, link = started()
    link.on_lost(1006, "")
    _, brief = rig.reconnect()
    rig.clock.advance(0.1)
    brief.on_lost(1006, "")
    _, brief = rig.reconnect()
    rig.clock.advance(LIVED_LONG - 0.1)
    brief.on_lost(1006, "")
    _, proven = rig.reconnect()
    rig.clock.advance(LIVED_LONG)
    proven.on_lost(1006, "")
    assert attempts(rig) == [1, 2, 3, 1]


def poisoned(seconds: float) -> tuple[SessionRig, FakeLeg, list[float]]:
    """Let a message make the upstream drop each link that brings it, 0.3 s later, for so long or to the session's end.

    Returns the session, its client, and when the message was sent, in seconds from the first time on.
    """
    rig, client, client_link, _, link = started(replace(CALM, retry_for=60.0))
    begun, sent = rig.clock.now, [0.0]
    say(client_link, "poison")
    link.on_lost(1006, "")
    while not rig.context.upstream.terminated and rig.clock.now < begun + seconds:
        rig.clock.advance(0.05)
        if rig.dialler.under_way is not None:
            leg, link = rig.connect()
            assert leg.payloads == [b"poison"]
            sent.append(rig.clock.now - begun)
            say(link, "greeting")
            rig.clock.advance(0.3)
            link.on_lost(1011, "what was that?")
    return rig, client, sent


def test_a_message_that_makes_the_upstream_drop_its_link_is_sent_ever_more_rarely() -> None:
    """And ends its session when the budget is over, however the upstream greets."""
    rig, client, sent = poisoned(100.0)
    assert 4 <= len([at for at in sent if at <= 5.0]) <= 10
    assert 55.0 <= sent[-1] <= 61.0
    confirm_all(rig, client, rig.context.clients.links[0])
    assert client.closed == (1014, "upstream unavailable; 1 message uncertain")
    assert over(rig)


def test_if_each_link_were_progress_such_a_message_would_be_sent_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test before."""
    monkeypatch.setattr(backoff, "progress", lambda *arguments: backoff.Progress.MADE)
    rig, _, sent = poisoned(100.0)
    assert len([at for at in sent if at <= 5.0]) > 10
    assert not rig.context.upstream.terminated


@pytest.mark.parametrize("aware", [False, True])
def test_a_network_that_flaps_while_messages_get_through_costs_nothing(aware: bool) -> None:
    """The budget begins again with each confirmation, however brief the links are, and so do the waits."""
    rig, _, client_link, _, link = started(replace(CALM, retry_for=5.0), upstream_aware=aware)
    for number in range(40):
        say(client_link, f"{number}")
        if not aware:
            rig.clock.advance(0.1)
            pong(link, number + 1)
        link.on_lost(1006, "")
        rig.clock.advance(0.5)
        # What an aware upstream states confirms as well as a Pong does.
        _, link = rig.connect(DialAnswer(received=number + 1 if aware else None))
    assert set(attempts(rig)) == {1}
    assert not rig.context.upstream.terminated


@pytest.mark.parametrize(("aware", "numbers"), [(False, list(range(1, 41))), (True, [1] * 40)])
def test_a_link_that_brought_messages_renews_the_budget(aware: bool, numbers: list[int]) -> None:
    """Where nothing is owed. A plain upstream may greet at each connect, so the waits go on growing."""
    rig, *_, link = started(replace(CALM, retry_for=10.0), upstream_aware=aware)
    link.on_lost(1006, "")
    for _ in range(39):
        _, link = rig.reconnect(DialAnswer(received=0 if aware else None))
        say(link, "hello")
        link.on_lost(1006, "")
    assert not rig.context.upstream.terminated
    assert attempts(rig) == numbers


def test_messages_that_are_dropped_since_they_are_uncertain_are_no_progress() -> None:
    """An upstream that drops its link at every message must not be dialled without a pause because of that."""
    rig, _, client_link, _, link = started(Policy(uncertain=Uncertain.DROP))
    for number in range(5):
        say(client_link, f"{number}")
        link.on_lost(1006, "")
        _, link = rig.reconnect()
    assert attempts(rig) == [1, 2, 3, 4, 5]


def test_progress_is_noticed_while_the_link_is_up() -> None:
    """The next loss has the whole budget, even if something is owed by then that was never confirmed."""
    rig, _, client_link, _, link = started(Policy(retry_for=30.0, ping_interval=1000.0))
    link.on_lost(1006, "")
    _, link = rig.reconnect()
    rig.clock.advance(1000.0)
    say(client_link, "one")
    link.on_lost(1006, "")
    assert attempts(rig) == [1, 1]
    assert not rig.context.upstream.terminated


def test_the_budget_runs_on_over_links_that_fell_over_at_once() -> None:
    """Connecting is not enough: an upstream that never holds is one that is not there."""
    rig, *_, link = started(Policy(retry_for=30.0))
    rig.clock.advance(2.0)
    link.on_lost(1006, "")
    for _ in range(9):
        _, brief = rig.reconnect()
        brief.on_lost(1006, "")
    rig.clock.advance(2.9)
    assert rig.context.upstream.state is not UpstreamState.TERMINATED
    rig.clock.advance(0.2)
    assert rig.context.upstream.terminated


def test_a_dial_that_is_not_answered_is_given_up_after_the_connect_timeout() -> None:
    """And counts as failed."""
    rig, *_, link = started(Policy(connect_timeout=5.0))
    link.on_lost(1006, "")
    rig.clock.advance(3.0)
    assert rig.dialler.under_way is not None
    rig.clock.advance(5.0)
    assert len(rig.seen(DialFailed)) == 1
    assert len(rig.dialler.dials) >= 2


def test_a_first_dial_whose_101_is_not_valid_is_refused_with_502_at_once() -> None:
    """No redial will cure it, and no other upstream is asked: a client must not wait for it."""
    rig = SessionRig(urls=URLS)
    rig.open()
    rig.dialler.fail("its 101 is not valid", incurable=True)
    [opening] = rig.openings
    assert opening.refusal is not None
    assert (opening.refusal.status, opening.refusal.error) == (502, "bad-handshake")
    assert len(rig.dialler.dials) == 1
    assert never_was(rig)


def test_a_redial_whose_101_is_not_valid_ends_the_session() -> None:
    """With 1014 and what is wrong with it."""
    rig, client, *_, link = started()
    link.on_lost(1006, "")
    rig.clock.advance(1.0)
    rig.dialler.fail("its 101 is not valid", incurable=True)
    assert client.closed == (1014, "upstream cannot be redialled: its 101 is not valid")
    assert over(rig)


@pytest.mark.parametrize("status", [404, 410])
def test_a_redial_that_is_refused_with_a_final_status_ends_the_session(status: int) -> None:
    """What the session was connected to is gone: a browser that was restarted answers so to an old address."""
    rig, client, *_, link = started()
    link.on_lost(1006, "")
    rig.clock.advance(1.0)
    rig.dialler.fail(status=status)
    assert client.closed == (1014, f"upstream refused the session: {status}")
    assert over(rig)


def test_a_final_status_ends_a_session_that_was_accepted_while_its_upstream_was_down() -> None:
    """Its client is not kept for the retry budget."""
    rig = SessionRig()
    rig.open()
    rig.dialler.fail()
    client, _ = rig.client()
    rig.clock.advance(1.0)
    rig.dialler.fail(status=404)
    assert client.closed == (1014, "upstream refused the session: 404")
    assert over(rig)


def test_which_statuses_are_final_is_configured() -> None:
    """Without any, a redial that gets 404 is repeated; with 503 among them that is final as well."""
    rig, *_, link = started(Policy(final_status=frozenset()))
    link.on_lost(1006, "")
    rig.clock.advance(1.0)
    rig.dialler.fail(status=404)
    assert not over(rig)
    rig, client, *_, link = started(Policy(final_status=frozenset({503})))
    link.on_lost(1006, "")
    rig.clock.advance(1.0)
    rig.dialler.fail(status=503)
    assert client.closed == (1014, "upstream refused the session: 503")


@pytest.mark.parametrize("status", [0, 401, 403, 409, 500, 503])
def test_a_redial_that_fails_is_repeated_for_any_other_answer_of_an_unaware_upstream(status: int) -> None:
    """It said yes to this session before; 409 of a server that counts nothing says nothing about the session."""
    rig, *_, link = started()
    link.on_lost(1006, "")
    rig.clock.advance(1.0)
    rig.dialler.fail(status=status)
    rig.clock.advance(3.0)
    assert len(rig.dialler.dials) == 3


# Agreement.


def test_a_later_answer_with_another_subprotocol_ends_the_session_with_1002() -> None:
    """The client has been told the first one."""
    rig = SessionRig()
    rig.open()
    _, link = rig.connect(DialAnswer(subprotocol="chat"))
    client, _ = rig.client()
    link.on_lost(1006, "")
    upstream, _ = rig.reconnect(DialAnswer(subprotocol="superchat"))
    assert upstream.closed is not None
    assert upstream.closed[0] == 1002
    assert client.closed is not None
    assert client.closed[0] == 1002
    assert (rig.ended, rig.clock.live) == (1, 0)


def test_a_subprotocol_settled_while_no_upstream_was_there_must_be_the_one_it_chooses() -> None:
    """The client's first offer; the upstream is offered nothing else, and a different answer ends the session."""
    rig = SessionRig()
    rig.open()
    rig.dialler.fail()
    assert rig.context.agree_subprotocol(["chat", "superchat"]) == "chat"
    client, _ = rig.client()
    rig.clock.advance(1.0)
    assert rig.dialler.dials[-1].subprotocol == "chat"
    rig.connect(DialAnswer(subprotocol=None))
    assert client.closed is not None
    assert client.closed[0] == 1002


def test_a_client_that_comes_back_is_told_the_subprotocol_of_its_session_only_if_it_offers_it() -> None:
    """RFC 6455 section 4.1: an answer that was not offered fails the handshake."""
    rig = SessionRig()
    rig.open()
    rig.connect(DialAnswer(subprotocol="chat"))
    assert rig.context.agree_subprotocol(["superchat", "chat"]) == "chat"
    assert rig.context.agree_subprotocol(["superchat"]) is None
    assert rig.context.agree_subprotocol([]) is None


@pytest.mark.parametrize("status", [409, 410])
def test_an_aware_upstream_that_knows_the_session_no_more_ends_it(status: int) -> None:
    """1014 "upstream lost the session"."""
    rig, client, *_, link = started(upstream_aware=True)
    link.on_lost(1006, "")
    rig.clock.advance(1.0)
    rig.dialler.fail(status=status)
    assert client.closed == (1014, "upstream lost the session")
    assert (rig.ended, rig.clock.live) == (1, 0)


@pytest.mark.parametrize("received", [1, 4])
def test_an_aware_upstream_whose_count_cannot_be_ends_the_session(received: int) -> None:
    """Below what it confirmed, or above what it was sent."""
    rig, client, client_link, _, link = started(upstream_aware=True)
    say(client_link, "1", "2", "3")
    rig.clock.advance(0.2)
    pong(link, 3)
    link.on_lost(1006, "")
    upstream, _ = rig.reconnect(DialAnswer(received=received))
    assert client.closed == (1014, "upstream lost the session")
    assert upstream.closed is not None
    assert upstream.sent == []
    assert (rig.ended, rig.clock.live) == (1, 0)


def test_an_aware_upstream_is_sent_what_follows_its_count() -> None:
    """Nothing twice."""
    rig, _, client_link, first, link = started(upstream_aware=True)
    say(client_link, "1", "2", "3")
    link.on_lost(1006, "")
    say(client_link, "4")
    second, _ = rig.reconnect(DialAnswer(received=2))
    assert first.payloads == [b"1", b"2", b"3"]
    assert second.payloads == [b"3", b"4"]


def test_uncertain_messages_towards_an_unaware_upstream_end_the_session_if_so_configured() -> None:
    """Rather than guess: both legs are closed with a code and a reason, and the messages are counted."""
    rig, client, client_link, _, link = started(Policy(uncertain=Uncertain.CLOSE))
    say(client_link, "1")
    link.on_lost(1006, "")
    upstream, _ = rig.reconnect()
    assert client.closed == (1011, "uncertain messages are not sent again; 1 message uncertain")
    assert upstream.closed == (1011, "uncertain messages are not sent again")
    [ended] = rig.seen(SessionEnded)
    assert isinstance(ended, SessionEnded)
    assert ended.uncertain_c2u == 1


# The end of the leg.


@pytest.mark.parametrize("moment", ["dialling", "gated", "up", "waiting", "never opened"])
def test_a_terminated_upstream_dials_no_more_and_leaves_no_timer(moment: str) -> None:
    """In every state."""
    rig = SessionRig(FIRST_MESSAGE)
    upstream = rig.context.upstream
    if moment != "never opened":
        rig.open()
    if moment in ("gated", "up", "waiting"):
        leg, link = rig.connect()
    if moment in ("up", "waiting"):
        say(link, "state")
    if moment == "waiting":
        link.on_lost(1006, "")
    upstream.terminate(1001, "bye")
    dials = len(rig.dialler.dials)
    rig.clock.advance(100.0)
    assert len(rig.dialler.dials) == dials
    assert rig.dialler.under_way is None
    assert (upstream.state, rig.clock.live) == (UpstreamState.TERMINATED, 0)
    if moment in ("gated", "up"):
        assert leg.closed == (1001, "bye")


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 1013, 1014])
def test_the_retryable_codes_are_retried(code: int) -> None:
    """Section 6's list."""
    assert RetryOn().retries(code)


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1005, 1007, 1008, 1009, 1010, 3000, 4000, 4999])
def test_the_final_codes_are_retried_only_by_any(code: int) -> None:
    """Section 6's other list; a close without a code is a clean one."""
    assert not RetryOn().retries(code)
    assert RetryOn(any=True).retries(code)
    assert RetryOn(codes=frozenset({code})).retries(code)


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 4000])
def test_without_retryable_codes_a_session_ends_with_its_upstream_link(code: int) -> None:
    """`retry_on = none`: the client gets the code, or 1014 if there was none."""
    rig, client, *_, link = started(Policy(retry_on=RetryOn(codes=frozenset())))
    link.on_lost(code, "bye")
    assert client.closed == (1014 if code == 1006 else code, "bye")
    assert len(rig.dialler.dials) == 1
    assert over(rig)


def test_a_fake_dialler_and_clock_are_what_the_core_asks_for() -> None:
    """The fakes keep the rules that the core's interfaces state: one dial at a time, no timer in the past."""
    with pytest.raises(AssertionError, match="into the past"):
        FakeClock().call_later(-1.0, lambda: None)
    with pytest.raises(AssertionError, match="no dial"):
        FakeDialler().fail()
