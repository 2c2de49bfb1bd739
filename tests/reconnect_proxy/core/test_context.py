"""The session, PROTOCOL.md section 6: its table, row by row. "Client returns" is in `test_resumption`, "outbox above
its high-water mark" in `test_backpressure`.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import pytest

from reconnect_proxy.core.context import Context, SessionState
from reconnect_proxy.core.dial import DialAnswer
from reconnect_proxy.core.policy import SENDER, GraceOn, Policy, RetryOn
from reconnect_proxy.core.wire import Claim
from reconnect_proxy.events import LegLost, LegName, Resumed, SessionOpened

from .fakes import CALM, SESSION_ID, FakeLeg, SessionRig, confirm, never_was, over, pong, say, started, the_end, waiting

# Section 6, row: new client.


def test_new_client_waits_for_the_upstream_and_is_accepted_with_its_answer() -> None:
    """The upstream is dialled first; its subprotocol and headers are the client's."""
    rig = waiting()
    assert rig.openings == []
    answer = DialAnswer(subprotocol="chat", headers=(("Set-Cookie", "a=b"),))
    rig.connect(answer)
    assert [opening.answer for opening in rig.openings] == [answer]
    assert rig.seen(SessionOpened) == [SessionOpened(SESSION_ID, "ws://one", True)]


@pytest.mark.parametrize("status", [301, 401, 403, 404, 429])
def test_new_client_gets_the_upstreams_http_error_below_500(status: int) -> None:
    """With its body; there is no session."""
    rig = waiting()
    rig.dialler.fail("no", status, b"who are you?")
    [opening] = rig.openings
    assert opening.failure is not None
    assert (opening.failure.status, opening.failure.answer) == (status, b"who are you?")
    assert never_was(rig)


@pytest.mark.parametrize("status", [0, 500, 502, 503])
def test_new_client_is_accepted_when_the_upstream_is_down_and_its_messages_wait(status: int) -> None:
    """They are delivered, in order, once it is up; a message that waited is not reported as sent twice."""
    rig = waiting()
    rig.dialler.fail("down", status)
    [opening] = rig.openings
    assert (opening.answer, opening.failure, opening.refusal) == (None, None, None)
    _, client_link = rig.client()
    say(client_link, "1", "2", "3")
    upstream, _ = rig.reconnect()
    assert upstream.payloads == [b"1", b"2", b"3"]
    [resumed] = rig.seen(Resumed)
    assert isinstance(resumed, Resumed)
    assert (resumed.leg, resumed.resent, resumed.waiting) == (LegName.UPSTREAM, 0, 3)


@pytest.mark.parametrize("status", [0, 500, 503])
def test_new_client_gets_503_when_the_upstream_is_down_and_it_is_not_to_be_accepted(status: int) -> None:
    """`accept_when_down = false`: 503 with Retry-After, and no session."""
    rig = waiting(Policy(accept_when_down=False))
    rig.dialler.fail("down", status)
    [opening] = rig.openings
    assert opening.refusal is not None
    assert opening.refusal.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert opening.refusal.retry_after is not None
    assert never_was(rig)


def test_new_client_an_upstream_that_does_not_answer_is_waited_for_up_to_the_connect_timeout() -> None:
    """Then the client is accepted all the same."""
    rig = waiting(Policy(connect_timeout=5.0))
    rig.clock.advance(4.9)
    assert rig.openings == []
    rig.clock.advance(0.2)
    assert len(rig.openings) == 1
    assert rig.context.state is SessionState.OPEN


def test_new_client_several_that_wait_for_one_session_are_all_told() -> None:
    """And one that asks later is told at once."""
    rig = waiting()
    rig.context.when_opened(rig.openings.append)
    rig.connect()
    rig.context.when_opened(rig.openings.append)
    assert len(rig.openings) == 3


def test_new_client_a_session_without_an_id_is_given_one() -> None:
    """Before the client is answered, for its 101 names it."""
    rig = SessionRig(session_id=None)
    rig.open()
    rig.dialler.fail()
    assert rig.context.session_id is not None


# Section 6, row: client link lost.


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 4001])
def test_client_link_lost_messages_wait_and_grace_runs_for_any_cause(code: int) -> None:
    """The upstream stays connected and is not told."""
    rig, _, client_link, upstream, upstream_link = started(Policy(grace=15.0))
    client_link.on_lost(code, "")
    say(upstream_link, "1", "2")
    rig.clock.advance(14.9)
    assert rig.context.state is SessionState.OPEN
    assert upstream.closed is None
    back, _ = rig.client()
    assert back.payloads == [b"1", b"2"]


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (1000, "bye", (1000, "bye")),
        (1001, "", (1001, "")),
        (4321, "mine", (4321, "mine")),
        (1005, "", (1005, "")),
        (1006, "", (1001, "client gone")),
    ],
)
def test_client_link_lost_grace_over_closes_the_upstream_with_the_clients_code(
    code: int, reason: str, expected: tuple[int, str]
) -> None:
    """1006 may not be sent (RFC 6455 section 7.4.1), so there it is 1001."""
    rig, _, client_link, upstream, _ = started(Policy(grace=15.0))
    client_link.on_lost(code, reason)
    rig.clock.advance(15.1)
    assert upstream.closed == expected
    assert (the_end(rig).code, the_end(rig).reason) == expected


@pytest.mark.parametrize(
    ("aware", "code"), [(False, 1000), (False, 1005), *((True, n) for n in (1000, 1001, 1005, 4000))]
)
def test_client_says_goodbye_and_ends_the_session_at_once_with_grace_on_abnormal(aware: bool, code: int) -> None:
    """A plain client with 1000 or without a code; an aware client, such as a sender, with any close frame."""
    rig, _, client_link, upstream, _ = started(Policy(grace_on=GraceOn.ABNORMAL), client_aware=aware)
    client_link.on_lost(code, "bye")
    assert upstream.closed == (code, "bye")
    assert over(rig)


@pytest.mark.parametrize(("aware", "code"), [*((False, n) for n in (1001, 1006, 1011, 4000)), (True, 1006)])
def test_client_link_lost_uncleanly_runs_the_grace_with_grace_on_abnormal(aware: bool, code: int) -> None:
    """As with any."""
    rig, _, client_link, _, _ = started(Policy(grace_on=GraceOn.ABNORMAL), client_aware=aware)
    client_link.on_lost(code, "")
    assert rig.context.state is SessionState.OPEN


def test_client_link_lost_ends_a_sender_session_at_once_with_the_clients_code() -> None:
    """In `sender` mode the client's socket is the session."""
    rig, _, client_link, upstream, _ = started(SENDER)
    client_link.on_lost(4242, "bye")
    assert upstream.closed == (4242, "bye")
    assert over(rig)
    assert not rig.context.resumable


def test_client_link_lost_what_it_had_said_is_delivered_before_the_upstream_is_closed() -> None:
    """At the end of the grace too: the session waits for the last confirmation, asked for at once."""
    rig, _, client_link, upstream, upstream_link = started(SENDER)
    say(client_link, "1", "2")
    client_link.on_lost(1000, "")
    assert upstream.closed is None
    assert upstream.pings == [2]
    pong(upstream_link, 2)
    assert upstream.closed == (1000, "")
    assert the_end(rig).undelivered_c2u == 0


def test_client_link_lost_by_silence_runs_the_grace() -> None:
    """A link that goes silent without closing is lost after `ping_interval` and `ping_timeout`."""
    rig, client, _, _, upstream_link = started(Policy(grace=15.0))
    for _ in range(5):
        rig.clock.advance(10.0)
        upstream_link.on_heard()
    assert client.aborted
    assert not rig.context.clients.links
    [lost] = rig.seen(LegLost)
    assert isinstance(lost, LegLost)
    assert (lost.leg, lost.code) == (LegName.CLIENT, 1006)


def test_client_waiting_for_the_first_dial_goes_away_and_the_session_ends_after_its_grace() -> None:
    """It was never opened, so no end is reported, and the dial is given up."""
    rig = waiting(Policy(grace=2.0, connect_timeout=5.0))
    rig.context.client_left(rig.openings.append)
    rig.clock.advance(2.1)
    assert never_was(rig)


@pytest.mark.parametrize("opened", [False, True])
def test_a_session_that_never_connected_ends_with_its_client(opened: bool) -> None:
    """Nothing is lost with it. Whether or not its client was accepted."""
    rig = waiting(Policy(grace=15.0))
    if opened:
        rig.dialler.fail()
        _, link = rig.client()
        rig.clock.advance(1.0)
        link.on_lost(1006, "")
    else:
        rig.context.client_left(rig.openings.append)
    assert over(rig)


def test_a_session_that_never_connected_is_kept_for_what_it_holds_or_for_an_aware_client() -> None:
    """The aware client would be refused with 410 when it returns."""
    for received, says in ((None, ("1",)), (0, ())):
        rig = waiting(Policy(grace=15.0))
        rig.dialler.fail()
        _, link = rig.client(received)
        say(link, *says)
        link.on_lost(1006, "")
        assert rig.context.state is SessionState.OPEN
        upstream, _ = rig.reconnect()
        assert upstream.payloads == [text.encode() for text in says]


def test_client_that_comes_back_during_the_first_dial_is_waited_for_no_more() -> None:
    """The grace of the one that left a shared session does not end that of the one that waits."""
    rig = waiting(Policy(grace=2.0, connect_timeout=5.0, shared=True))
    rig.context.client_left(rig.openings.append)
    rig.clock.advance(1.0)
    rig.context.when_opened(rig.openings.append)
    rig.clock.advance(3.0)
    rig.connect()
    assert len(rig.openings) == 1
    assert rig.context.state is SessionState.OPEN


# Section 6, row: upstream link lost, retryable.


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 1013, 1014])
def test_upstream_link_lost_messages_wait_and_it_is_redialled(code: int) -> None:
    """The client is not told; what was uncertain is sent again, then what waited."""
    rig, client, client_link, upstream, upstream_link = started()
    say(client_link, "1")
    upstream_link.on_lost(code, "")
    say(client_link, "2")
    again, _ = rig.reconnect()
    assert (upstream.payloads, again.payloads) == ([b"1"], [b"1", b"2"])
    assert client.closed is None


def test_upstream_link_lost_budget_over_closes_the_client_with_1014() -> None:
    """ "upstream unavailable", with what could not be delivered."""
    rig, client, client_link, _, upstream_link = started(replace(CALM, retry_for=60.0))
    rig.clock.advance(2.0)
    upstream_link.on_lost(1006, "")
    say(client_link, "1", "2")
    for _ in range(100):
        rig.clock.advance(0.5)
        if rig.dialler.under_way:
            rig.dialler.fail()
    assert client.closed is None
    rig.clock.advance(10.1)
    assert client.closed == (1014, "upstream unavailable")
    assert (the_end(rig).code, the_end(rig).undelivered_c2u) == (1014, 2)


def test_upstream_that_never_comes_closes_the_client_with_1014_after_the_budget() -> None:
    """The budget runs from the first failed dial."""
    rig = waiting(replace(CALM, retry_for=60.0))
    rig.dialler.fail()
    client, _ = rig.client()
    rig.clock.advance(59.9)
    assert client.closed is None
    rig.clock.advance(0.2)
    assert client.closed == (1014, "upstream unavailable")
    assert over(rig)


def test_upstream_link_lost_by_silence_is_redialled() -> None:
    """1006, without a close frame."""
    rig, _, client_link, upstream, _ = started()
    for _ in range(4):
        rig.clock.advance(10.0)
        client_link.on_heard()
    rig.clock.advance(0.2)
    assert upstream.aborted
    assert len(rig.dialler.dials) == 2


# Section 6, row: upstream closes with a code that ends the session.


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1005, 1007, 1008, 1009, 1010, 3000, 4999])
def test_upstream_closes_for_good_and_the_client_is_closed_with_the_same_code_and_reason(code: int) -> None:
    """After what is queued for it has been delivered and confirmed."""
    rig, client, client_link, _, upstream_link = started()
    say(upstream_link, "1", "2")
    upstream_link.on_lost(code, "enough")
    assert client.closed is None
    assert client.pings == [2]
    confirm(client, client_link)
    assert client.closed == (code, "enough")
    ended = the_end(rig)
    assert (ended.code, ended.reason, ended.undelivered_u2c) == (code, "enough", 0)


def test_upstream_closes_for_good_and_an_absent_client_is_awaited_to_be_told() -> None:
    """Within its grace it gets what is queued and then the code."""
    rig, _, client_link, _, upstream_link = started(replace(CALM, grace=15.0))
    client_link.on_lost(1006, "")
    say(upstream_link, "1")
    upstream_link.on_lost(4001, "enough")
    rig.clock.advance(10.0)
    back, back_link = rig.client()
    assert back.payloads == [b"1"]
    confirm(back, back_link)
    assert back.closed == (4001, "enough")
    assert over(rig)


def test_upstream_closes_for_good_and_a_client_that_does_not_return_is_given_up_after_its_grace() -> None:
    """What it was owed is counted."""
    rig, _, client_link, _, upstream_link = started(replace(CALM, grace=15.0))
    client_link.on_lost(1006, "")
    say(upstream_link, "1", "2")
    upstream_link.on_lost(4001, "enough")
    rig.clock.advance(15.1)
    ended = the_end(rig)
    assert (ended.code, ended.undelivered_u2c) == (4001, 2)


def test_upstream_closes_for_good_is_retried_with_retry_on_any() -> None:
    """Even a clean close."""
    rig, client, _, _, upstream_link = started(Policy(retry_on=RetryOn(any=True)))
    upstream_link.on_lost(1000, "")
    rig.reconnect()
    assert client.closed is None


def test_upstream_lost_for_good_without_a_code_that_can_be_sent_closes_the_client_with_1014() -> None:
    """1006 may not be sent (RFC 6455 section 7.4.1)."""
    rig, client, _, _, upstream_link = started(Policy(retry_on=RetryOn(codes=frozenset())))
    upstream_link.on_lost(1006, "")
    assert over(rig)
    assert client.closed is not None
    assert client.closed[0] == 1014


def test_a_client_that_talks_to_a_session_whose_upstream_is_gone_is_counted_but_not_kept() -> None:
    """Its messages cannot be delivered; the count it is told on a return includes them, for they had their Pong."""
    rig, _, client_link, _, upstream_link = started(CALM, client_aware=True)
    say(upstream_link, "1")
    say(client_link, "a")
    upstream_link.on_lost(4001, "")
    say(client_link, "b", "c")
    client_link.on_lost(1006, "")
    assert rig.context.admit(Claim(received=1)) == 3
    rig.context.attach(FakeLeg(), Claim(received=1))
    assert (the_end(rig).undelivered_c2u, the_end(rig).uncertain_c2u) == (2, 1)


# Section 6, row: aware upstream answers 410, or a count that cannot be.


def test_aware_upstream_that_lost_the_session_ends_it_after_what_it_had_said_was_delivered() -> None:
    """1014 "upstream lost the session"."""
    rig, client, client_link, _, upstream_link = started(upstream_aware=True)
    say(upstream_link, "1")
    upstream_link.on_lost(1006, "")
    rig.clock.advance(1.0)
    rig.dialler.fail("gone", 410)
    assert client.closed is None
    confirm(client, client_link)
    assert client.closed == (1014, "upstream lost the session")
    assert over(rig)


# Section 6, row: proxy told to stop.


def test_proxy_told_to_stop_closes_the_client_with_1012() -> None:
    """And the upstream with 1001; what was not confirmed is counted, and each side is told of its own messages."""
    rig, client, client_link, upstream, upstream_link = started()
    say(client_link, "1")
    say(upstream_link, "1", "2")
    rig.context.close(1012, "service restart")
    assert client.closed == (1012, "service restart; 1 message uncertain")
    assert upstream.closed == (1001, "service restart; 2 messages uncertain")
    ended = the_end(rig)
    assert (ended.code, ended.reason) == (1012, "service restart")
    assert (ended.uncertain_c2u, ended.uncertain_u2c) == (1, 2)
    assert (ended.undelivered_c2u, ended.undelivered_u2c) == (0, 0)


def test_proxy_told_to_stop_answers_a_client_that_still_waits_for_the_upstream() -> None:
    """503, for there is no WebSocket to close, and no session that could have ended."""
    rig = waiting()
    rig.context.close(1012, "service restart")
    [opening] = rig.openings
    assert opening.refusal is not None
    assert opening.refusal.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert never_was(rig)


@pytest.mark.parametrize("moment", ["client away", "upstream away", "ending", "ended"])
def test_proxy_told_to_stop_ends_a_session_in_any_state_once(moment: str) -> None:
    """No timer, no dial, one end."""
    rig, _, client_link, _, upstream_link = started(CALM)
    say(client_link, "1")
    if moment == "client away":
        client_link.on_lost(1006, "")
    elif moment == "upstream away":
        upstream_link.on_lost(1006, "")
    elif moment == "ending":
        client_link.on_lost(1006, "")
        rig.clock.advance(16.0)
        assert rig.context.state is SessionState.ENDING
    else:
        rig.context.close(1000, "")
    rig.context.close(1012, "service restart")
    assert over(rig)


def test_the_context_has_no_room_for_surprises() -> None:
    """Slots: a session costs what it is designed to cost, and a misspelt attribute is an error."""
    context = SessionRig().context
    assert isinstance(context, Context)
    with pytest.raises(AttributeError):
        context.greace = 1  # type: ignore[attr-defined]
