"""The session, PROTOCOL.md: each row of section 6's table by name, then resumption, backpressure, fan-out, endings."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import pytest

from reconnect_proxy.core.context import HARD_LIMIT, Context, State
from reconnect_proxy.core.events import (
    LegLost,
    LegMute,
    LegName,
    Resumed,
    SessionEnded,
    SessionOpened,
    SlowClientClosed,
    TakenOver,
    UncertainDropped,
)
from reconnect_proxy.core.link import Link
from reconnect_proxy.core.policy import DUPLEX, RECEIVER, SENDER, GraceOn, Policy, RetryOn, Uncertain
from reconnect_proxy.core.upstream import Answer
from reconnect_proxy.core.wire import Claim, Refusal

from .fakes import SESSION_ID, FakeLeg, Stage, pong, say, started

#: Pings far apart, so that a test about something else may let time pass.
CALM = Policy(ping_interval=1000.0, ping_timeout=1000.0)
SHARED = replace(RECEIVER, shared=True, ping_interval=1000.0, ping_timeout=1000.0)
#: What the proxy holds at most before it holds the sender back, in bytes.
SMALL = 1000


def over(stage: Stage) -> bool:
    """Tell whether the session has ended: said so once, and left neither a timer nor a dial nor a link."""
    ended = stage.context.state is State.ENDED
    if ended:
        assert stage.ended == 1
        assert stage.clock.live == 0
        assert stage.dialler.under_way is None
        assert stage.context.incoming == []
        assert stage.context.upstream.link is None
    return ended


def the_end(stage: Stage) -> SessionEnded:
    """Return the event of the session's end."""
    assert over(stage)
    [ended] = stage.seen(SessionEnded)
    assert isinstance(ended, SessionEnded)
    return ended


def confirm(leg: FakeLeg, link: Link) -> None:
    """Answer the last Ping that was written to `leg`."""
    pong(link, leg.pings[-1])


# Section 6, row: new client.


def test_new_client_waits_for_the_upstream_and_is_accepted_with_its_answer() -> None:
    """The upstream is dialled first; its subprotocol and headers are the client's."""
    stage = Stage()
    stage.open()
    assert stage.openings == []
    answer = Answer(subprotocol="chat", headers=(("Set-Cookie", "a=b"),))
    stage.connect(answer)
    assert [opening.answer for opening in stage.openings] == [answer]
    assert stage.seen(SessionOpened) == [SessionOpened(SESSION_ID, "ws://one", True)]


@pytest.mark.parametrize("status", [301, 401, 403, 404, 429])
def test_new_client_gets_the_upstreams_http_error_below_500(status: int) -> None:
    """With its body; there is no session."""
    stage = Stage()
    stage.open()
    stage.dialler.fail("no", status, b"who are you?")
    [opening] = stage.openings
    assert opening.failure is not None
    assert (opening.failure.status, opening.failure.body) == (status, b"who are you?")
    assert over(stage)
    assert stage.seen(SessionOpened) == stage.seen(SessionEnded) == []


@pytest.mark.parametrize("status", [0, 500, 502, 503])
def test_new_client_is_accepted_when_the_upstream_is_down_and_its_messages_wait(status: int) -> None:
    """They are delivered, in order, once it is up; a message that waited is not reported as sent twice."""
    stage = Stage()
    stage.open()
    stage.dialler.fail("down", status)
    [opening] = stage.openings
    assert (opening.answer, opening.failure, opening.refusal) == (None, None, None)
    _, client_link = stage.client()
    say(client_link, "1", "2", "3")
    upstream, _ = stage.reconnect()
    assert upstream.payloads == [b"1", b"2", b"3"]
    [resumed] = stage.seen(Resumed)
    assert isinstance(resumed, Resumed)
    assert (resumed.leg, resumed.resent, resumed.waiting) == (LegName.UPSTREAM, 0, 3)


@pytest.mark.parametrize("status", [0, 500, 503])
def test_new_client_gets_503_when_the_upstream_is_down_and_it_is_not_to_be_accepted(status: int) -> None:
    """`accept_when_down = false`: 503 with Retry-After, and no session."""
    stage = Stage(Policy(accept_when_down=False))
    stage.open()
    stage.dialler.fail("down", status)
    [opening] = stage.openings
    assert opening.refusal is not None
    assert opening.refusal.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert opening.refusal.retry_after is not None
    assert over(stage)
    assert stage.seen(SessionOpened) == stage.seen(SessionEnded) == []


def test_new_client_an_upstream_that_does_not_answer_is_waited_for_up_to_the_connect_timeout() -> None:
    """Then the client is accepted all the same."""
    stage = Stage(Policy(connect_timeout=5.0))
    stage.open()
    stage.clock.advance(4.9)
    assert stage.openings == []
    stage.clock.advance(0.2)
    assert len(stage.openings) == 1
    assert stage.context.state is State.OPEN


def test_new_client_several_that_wait_for_one_session_are_all_told() -> None:
    """And one that asks later is told at once."""
    stage = Stage()
    stage.open()
    stage.context.when_opened(stage.openings.append)
    stage.connect()
    stage.context.when_opened(stage.openings.append)
    assert len(stage.openings) == 3


def test_new_client_a_session_without_an_id_is_given_one() -> None:
    """Before the client is answered, for its 101 names it."""
    stage = Stage(session_id=None)
    stage.open()
    stage.dialler.fail()
    assert stage.context.session_id is not None


# Section 6, row: client link lost.


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 4001])
def test_client_link_lost_messages_wait_and_grace_runs_whatever_the_cause(code: int) -> None:
    """The upstream stays connected and is not told."""
    stage, _, client_link, upstream, upstream_link = started(Policy(grace=15.0))
    client_link.on_lost(code, "")
    say(upstream_link, "1", "2")
    stage.clock.advance(14.9)
    assert stage.context.state is State.OPEN
    assert upstream.closed is None
    back, _ = stage.client()
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
    stage, _, client_link, upstream, _ = started(Policy(grace=15.0))
    client_link.on_lost(code, reason)
    stage.clock.advance(15.1)
    assert upstream.closed == expected
    assert (the_end(stage).code, the_end(stage).reason) == expected


def test_client_link_lost_clean_ends_the_session_at_once_with_grace_on_abnormal() -> None:
    """1000 is a goodbye there; nothing else is."""
    stage, _, client_link, upstream, _ = started(Policy(grace_on=GraceOn.ABNORMAL))
    client_link.on_lost(1000, "bye")
    assert upstream.closed == (1000, "bye")
    assert over(stage)


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 4000])
def test_client_link_lost_uncleanly_runs_the_grace_with_grace_on_abnormal(code: int) -> None:
    """As with any."""
    stage, _, client_link, _, _ = started(Policy(grace_on=GraceOn.ABNORMAL))
    client_link.on_lost(code, "")
    assert stage.context.state is State.OPEN


def test_client_link_lost_ends_a_sender_session_at_once_with_the_clients_code() -> None:
    """In `sender` mode the client's socket is the session."""
    stage, _, client_link, upstream, _ = started(SENDER)
    client_link.on_lost(4242, "bye")
    assert upstream.closed == (4242, "bye")
    assert over(stage)
    assert not stage.context.resumable


def test_client_link_lost_what_it_had_said_is_delivered_before_the_upstream_is_closed() -> None:
    """At the end of the grace too: the session waits for the last confirmation, asked for at once."""
    stage, _, client_link, upstream, upstream_link = started(SENDER)
    say(client_link, "1", "2")
    client_link.on_lost(1000, "")
    assert upstream.closed is None
    assert upstream.pings == [2]
    pong(upstream_link, 2)
    assert upstream.closed == (1000, "")
    assert the_end(stage).undelivered_c2u == 0


def test_client_link_lost_by_silence_runs_the_grace() -> None:
    """A link that goes silent without closing is lost after `ping_interval` and `ping_timeout`."""
    stage, client, _, _, upstream_link = started(Policy(grace=15.0))
    for _ in range(5):
        stage.clock.advance(10.0)
        upstream_link.on_heard()
    assert client.aborted
    assert stage.context.incoming == []
    [lost] = stage.seen(LegLost)
    assert isinstance(lost, LegLost)
    assert (lost.leg, lost.code) == (LegName.CLIENT, 1006)


def test_client_waiting_for_the_first_dial_goes_away_and_the_session_ends_after_its_grace() -> None:
    """It was never opened, so no end is reported, and the dial is given up."""
    stage = Stage(Policy(grace=2.0, connect_timeout=5.0))
    stage.open()
    stage.context.client_left(stage.openings.append)
    stage.clock.advance(2.1)
    assert over(stage)
    assert stage.seen(SessionOpened) == stage.seen(SessionEnded) == []


def test_client_that_comes_back_during_the_first_dial_is_waited_for_no_more() -> None:
    """The grace of the one that left does not end the session of the one that waits."""
    stage = Stage(Policy(grace=2.0, connect_timeout=5.0))
    stage.open()
    stage.context.client_left(stage.openings.append)
    stage.clock.advance(1.0)
    stage.context.when_opened(stage.openings.append)
    stage.clock.advance(3.0)
    stage.connect()
    assert len(stage.openings) == 1
    assert stage.context.state is State.OPEN


# Section 6, row: client returns.


def test_client_returns_and_takes_over_a_link_that_still_looks_open() -> None:
    """The old one is closed with 4000 "taken over", and what it still says is ignored."""
    stage, old, old_link, upstream, upstream_link = started()
    say(old_link, "1")
    new, new_link = stage.client()
    assert old.closed == (4000, "taken over")
    assert old_link.dead
    say(old_link, "late")
    say(new_link, "2")
    say(upstream_link, "x")
    assert upstream.payloads == [b"1", b"2"]
    assert (old.payloads, new.payloads) == ([], [b"x"])
    old_link.on_lost(1006, "")
    assert stage.context.incoming == [new_link]
    assert stage.seen(TakenOver) == [TakenOver(SESSION_ID)]
    assert stage.seen(LegLost) == []


def test_client_returns_aware_and_gets_what_follows_its_count() -> None:
    """And is told how many of its own messages have come: those of its old link up to the takeover."""
    stage, _, old_link, _, upstream_link = started(client_aware=True)
    say(upstream_link, "1", "2", "3")
    say(old_link, "a", "b")
    assert stage.context.admit(Claim(received=2)) == 2
    assert old_link.dead, "what it says after the count was stated must not be counted"
    say(old_link, "c")
    new = FakeLeg()
    stage.context.attach(new, Claim(received=2))
    assert new.payloads == [b"3"]
    assert stage.context.c2u.pushed == 2


def test_client_returns_unaware_and_is_sent_again_what_is_uncertain() -> None:
    """At least once; what was confirmed is not sent again."""
    stage, client, client_link, _, upstream_link = started(CALM)
    say(upstream_link, "1", "2")
    stage.clock.advance(0.2)
    confirm(client, client_link)
    say(upstream_link, "3", "4")
    client_link.on_lost(1006, "")
    say(upstream_link, "5")
    stage.clock.advance(1.0)
    back, _ = stage.client()
    assert back.payloads == [b"3", b"4", b"5"]
    assert stage.seen(Resumed) == [Resumed(SESSION_ID, LegName.CLIENT, resent=2, waiting=3, away=1.0, aware=False)]


def test_client_returns_unaware_and_is_spared_what_is_uncertain_if_so_configured() -> None:
    """At most once, and the dropped messages are reported."""
    stage, _, client_link, _, upstream_link = started(replace(CALM, uncertain=Uncertain.DROP))
    say(upstream_link, "1", "2")
    client_link.on_lost(1006, "")
    say(upstream_link, "3")
    back, _ = stage.client()
    assert back.payloads == [b"3"]
    assert stage.seen(UncertainDropped) == [UncertainDropped(SESSION_ID, LegName.CLIENT, 2)]


def test_client_returns_unaware_and_the_session_ends_on_doubt_if_so_configured() -> None:
    """Both legs get the code and the reason; what the client had said is delivered first."""
    stage, _, client_link, upstream, upstream_link = started(replace(CALM, uncertain=Uncertain.CLOSE))
    say(client_link, "question")
    say(upstream_link, "1", "2")
    client_link.on_lost(1006, "")
    back, back_link = stage.client()
    assert back.closed == (1011, "delivery of 2 messages is uncertain")
    assert back.sent == []
    assert back_link.dead
    assert upstream.closed is None
    confirm(upstream, upstream_link)
    assert upstream.closed == (1011, "delivery of 2 messages is uncertain")
    ended = the_end(stage)
    assert (ended.code, ended.undelivered_c2u, ended.undelivered_u2c) == (1011, 0, 2)


@pytest.mark.parametrize("uncertain", Uncertain)
def test_client_returns_aware_and_nothing_is_uncertain(uncertain: Uncertain) -> None:
    """The policy is for peers that do not count."""
    stage, _, client_link, _, upstream_link = started(replace(CALM, uncertain=uncertain), client_aware=True)
    say(upstream_link, "1", "2")
    client_link.on_lost(1006, "")
    back, _ = stage.client(received=1)
    assert back.payloads == [b"2"]


def test_client_returns_within_its_grace_and_is_awaited_anew_the_next_time() -> None:
    """Each loss has a grace of its own."""
    stage, _, client_link, _, _ = started(replace(CALM, grace=15.0))
    for _ in range(4):
        client_link.on_lost(1006, "")
        stage.clock.advance(10.0)
        _, client_link = stage.client()
    stage.clock.advance(100.0)
    assert stage.context.state is State.OPEN
    client_link.on_lost(1006, "")
    stage.clock.advance(15.1)
    assert over(stage)


# Section 3: refusals of a count.


@pytest.mark.parametrize("received", [0, 1, 4, 100])
def test_a_count_outside_of_confirmed_to_sent_is_answered_409_and_changes_nothing(received: int) -> None:
    """More than was ever sent, or less than was confirmed: the link that the session has stays."""
    stage, client, client_link, _, upstream_link = started(CALM, client_aware=True)
    say(upstream_link, "1", "2")
    stage.clock.advance(0.2)
    confirm(client, client_link)
    say(upstream_link, "3")
    with pytest.raises(Refusal) as caught:
        stage.context.admit(Claim(received=received))
    assert caught.value.status is HTTPStatus.CONFLICT
    assert "from 2 to 3" in caught.value.detail
    assert client.closed is None
    say(upstream_link, "4")
    assert client.payloads == [b"1", b"2", b"3", b"4"]


def test_a_message_that_was_never_sent_cannot_have_been_received() -> None:
    """What waits in the outbox is beyond any truthful count."""
    stage, _, client_link, _, upstream_link = started(CALM, client_aware=True)
    client_link.on_lost(1006, "")
    say(upstream_link, "1")
    with pytest.raises(Refusal):
        stage.context.admit(Claim(received=1))


def test_a_count_that_an_earlier_link_brought_about_stays_true() -> None:
    """Sent on a link that died, rewound, and confirmed by the count two links later."""
    stage, _, client_link, _, upstream_link = started(CALM, client_aware=True)
    say(upstream_link, "1", "2", "3")
    client_link.on_lost(1006, "")
    _, client_link = stage.client(received=0, leg=FakeLeg(writable=False))
    client_link.on_lost(1006, "")
    back, _ = stage.client(received=3)
    assert back.sent == []
    assert len(stage.context.u2c) == 0


# Section 6, row: upstream link lost, retryable.


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 1013, 1014])
def test_upstream_link_lost_messages_wait_and_it_is_redialled(code: int) -> None:
    """The client is not told; what was uncertain is sent again, then what waited."""
    stage, client, client_link, upstream, upstream_link = started()
    say(client_link, "1")
    upstream_link.on_lost(code, "")
    say(client_link, "2")
    again, _ = stage.reconnect()
    assert (upstream.payloads, again.payloads) == ([b"1"], [b"1", b"2"])
    assert client.closed is None


def test_upstream_link_lost_budget_over_closes_the_client_with_1014() -> None:
    """ "upstream unavailable", with what could not be delivered."""
    stage, client, client_link, _, upstream_link = started(replace(CALM, retry_for=60.0))
    stage.clock.advance(2.0)
    upstream_link.on_lost(1006, "")
    say(client_link, "1", "2")
    for _ in range(100):
        stage.clock.advance(0.5)
        if stage.dialler.under_way:
            stage.dialler.fail()
    assert client.closed is None
    stage.clock.advance(10.1)
    assert client.closed == (1014, "upstream unavailable")
    assert (the_end(stage).code, the_end(stage).undelivered_c2u) == (1014, 2)


def test_upstream_that_never_comes_closes_the_client_with_1014_after_the_budget() -> None:
    """The budget runs from the first failed dial."""
    stage = Stage(replace(CALM, retry_for=60.0))
    stage.open()
    stage.dialler.fail()
    client, _ = stage.client()
    stage.clock.advance(59.9)
    assert client.closed is None
    stage.clock.advance(0.2)
    assert client.closed == (1014, "upstream unavailable")
    assert over(stage)


def test_upstream_link_lost_by_silence_is_redialled() -> None:
    """1006, without a close frame."""
    stage, _, client_link, upstream, _ = started()
    for _ in range(4):
        stage.clock.advance(10.0)
        client_link.on_heard()
    stage.clock.advance(0.2)
    assert upstream.aborted
    assert len(stage.dialler.dials) == 2


# Section 6, row: upstream closes for good.


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1005, 1007, 1008, 1009, 1010, 3000, 4999])
def test_upstream_closes_for_good_and_the_client_is_closed_with_the_same_code_and_reason(code: int) -> None:
    """After what is queued for it has been delivered and confirmed."""
    stage, client, client_link, _, upstream_link = started()
    say(upstream_link, "1", "2")
    upstream_link.on_lost(code, "enough")
    assert client.closed is None
    assert client.pings == [2]
    confirm(client, client_link)
    assert client.closed == (code, "enough")
    ended = the_end(stage)
    assert (ended.code, ended.reason, ended.undelivered_u2c) == (code, "enough", 0)


def test_upstream_closes_for_good_and_an_absent_client_is_awaited_to_be_told() -> None:
    """Within its grace it gets what is queued and then the code."""
    stage, _, client_link, _, upstream_link = started(replace(CALM, grace=15.0))
    client_link.on_lost(1006, "")
    say(upstream_link, "1")
    upstream_link.on_lost(4001, "enough")
    stage.clock.advance(10.0)
    back, back_link = stage.client()
    assert back.payloads == [b"1"]
    confirm(back, back_link)
    assert back.closed == (4001, "enough")
    assert over(stage)


def test_upstream_closes_for_good_and_a_client_that_does_not_return_is_given_up_after_its_grace() -> None:
    """What it was owed is counted."""
    stage, _, client_link, _, upstream_link = started(replace(CALM, grace=15.0))
    client_link.on_lost(1006, "")
    say(upstream_link, "1", "2")
    upstream_link.on_lost(4001, "enough")
    stage.clock.advance(15.1)
    ended = the_end(stage)
    assert (ended.code, ended.undelivered_u2c) == (4001, 2)


def test_upstream_closes_for_good_is_retried_with_retry_on_any() -> None:
    """Even a clean close."""
    stage, client, _, _, upstream_link = started(Policy(retry_on=RetryOn(any=True)))
    upstream_link.on_lost(1000, "")
    stage.reconnect()
    assert client.closed is None


def test_upstream_lost_for_good_without_a_code_that_can_be_sent_closes_the_client_with_1014() -> None:
    """1006 may not be sent (RFC 6455 section 7.4.1)."""
    stage, client, _, _, upstream_link = started(Policy(retry_on=RetryOn(codes=frozenset())))
    upstream_link.on_lost(1006, "")
    assert over(stage)
    assert client.closed is not None
    assert client.closed[0] == 1014


def test_a_client_that_talks_to_a_session_whose_upstream_is_gone_is_counted_but_not_kept() -> None:
    """Its messages cannot be delivered; the count it is told on a return includes them, for they had their Pong."""
    stage, _, client_link, _, upstream_link = started(CALM, client_aware=True)
    say(upstream_link, "1")
    say(client_link, "a")
    upstream_link.on_lost(4001, "")
    say(client_link, "b", "c")
    client_link.on_lost(1006, "")
    assert stage.context.admit(Claim(received=1)) == 3
    stage.context.attach(FakeLeg(), Claim(received=1))
    assert the_end(stage).undelivered_c2u == 3


# Section 6, row: aware upstream answers 410, or a count that cannot be.


def test_aware_upstream_that_lost_the_session_ends_it_after_what_it_had_said_was_delivered() -> None:
    """1014 "upstream lost the session"."""
    stage, client, client_link, _, upstream_link = started(upstream_aware=True)
    say(upstream_link, "1")
    upstream_link.on_lost(1006, "")
    stage.clock.advance(1.0)
    stage.dialler.fail("gone", 410)
    assert client.closed is None
    confirm(client, client_link)
    assert client.closed == (1014, "upstream lost the session")
    assert over(stage)


# Section 6, row: outbox above its high-water mark.


def test_full_outbox_stops_the_leg_that_feeds_it_until_it_is_below_half() -> None:
    """c2u stops the client, u2c the upstream."""
    stage, client, client_link, upstream, upstream_link = started(replace(CALM, max_queue=SMALL))
    for _ in range(9):
        say(client_link, bytes(10))
    assert not client.paused
    say(client_link, bytes(10))
    assert client.paused
    assert not upstream.paused
    upstream_link.outbox.confirm(5)
    stage.context.link_relieved(upstream_link)
    assert client.paused, "550 of 1000 bytes are not below half"
    upstream_link.outbox.confirm(6)
    stage.context.link_relieved(upstream_link)
    assert not client.paused
    for _ in range(10):
        say(upstream_link, bytes(10))
    assert upstream.paused
    confirm_all(stage, client, client_link)
    assert not upstream.paused


def confirm_all(stage: Stage, leg: FakeLeg, link: Link) -> None:
    """Let the quiet Ping go out, and answer it."""
    stage.clock.advance(0.2)
    confirm(leg, link)


def test_full_outbox_without_its_peer_holds_the_other_side_back_and_loses_nothing() -> None:
    """While the upstream is down, and while the client is."""
    stage, client, client_link, _, upstream_link = started(replace(CALM, max_queue=SMALL))
    upstream_link.on_lost(1006, "")
    sent = [b"%d" % n for n in range(20)]
    for payload in sent:
        if client.paused:
            break
        say(client_link, payload)
    assert client.paused
    upstream, upstream_link = stage.reconnect()
    confirm_all(stage, upstream, upstream_link)
    assert not client.paused
    assert upstream.payloads == sent[: len(upstream.payloads)]


def test_full_outbox_stops_a_new_link_too() -> None:
    """A client that comes back to a full `c2u` is not read, nor is an upstream that comes back to a full `u2c`."""
    stage, _, client_link, _, upstream_link = started(replace(CALM, max_queue=SMALL))
    upstream_link.on_lost(1006, "")
    say(client_link, bytes(2 * SMALL))
    client_link.on_lost(1006, "")
    client, client_link = stage.client()
    assert client.paused
    other = started(replace(CALM, max_queue=SMALL))
    stage, _, client_link, _, upstream_link = other
    client_link.on_lost(1006, "")
    say(upstream_link, bytes(2 * SMALL))
    upstream_link.on_lost(1006, "")
    upstream, _ = stage.reconnect()
    assert upstream.paused


def both_full() -> tuple[Stage, FakeLeg, Link, FakeLeg, Link]:
    """Return a session both outboxes of which are full, with all sent and nothing confirmed."""
    stage, client, client_link, upstream, upstream_link = started(replace(CALM, max_queue=SMALL))
    say(client_link, bytes(SMALL))
    say(upstream_link, bytes(SMALL))
    assert stage.context.c2u.full
    assert stage.context.u2c.full
    return stage, client, client_link, upstream, upstream_link


def test_both_outboxes_full_the_client_is_read_for_its_pongs() -> None:
    """Else neither Pong would ever be read. First `u2c` empties, then the upstream is read, then `c2u` empties."""
    stage, client, client_link, upstream, upstream_link = both_full()
    assert (client.paused, upstream.paused) == (False, True)
    confirm_all(stage, client, client_link)
    assert (client.paused, upstream.paused) == (True, False)
    confirm(upstream, upstream_link)
    assert (client.paused, upstream.paused) == (False, False)


@pytest.mark.parametrize("takeover", [False, True])
def test_both_outboxes_full_a_client_that_comes_back_is_read_for_its_pongs(takeover: bool) -> None:
    """After it was sent what it is owed, not as things stood before."""
    stage, _, client_link, upstream, upstream_link = both_full()
    if not takeover:
        client_link.on_lost(1006, "")
    back, back_link = stage.client()
    assert len(back.sent) == 1
    assert (back.paused, upstream.paused) == (False, True)
    confirm_all(stage, back, back_link)
    confirm(upstream, upstream_link)
    assert (back.paused, upstream.paused) == (False, False)


def test_both_outboxes_full_a_client_whose_socket_is_full_is_not_read_until_it_takes_the_rest() -> None:
    """Its Pongs cannot empty `u2c` before everything has been sent."""
    _, client, client_link, _, upstream_link = started(replace(CALM, max_queue=SMALL))
    client.writable = False
    say(client_link, bytes(SMALL))
    say(upstream_link, bytes(SMALL))
    assert client.paused
    client.writable = True
    client_link.on_writable()
    assert len(client.sent) == 1
    assert not client.paused


def test_one_message_larger_than_the_whole_queue_only_stops_the_client_that_sent_it() -> None:
    """Nothing was read beyond it, so the hard limit has nothing to say."""
    stage, client, client_link, upstream, upstream_link = started(replace(CALM, max_queue=SMALL))
    upstream_link.on_lost(1006, "")
    say(client_link, bytes(10 * SMALL))
    assert client.paused
    assert client.closed is None
    upstream, upstream_link = stage.reconnect()
    confirm_all(stage, upstream, upstream_link)
    assert not client.paused


def test_both_outboxes_full_a_client_that_uses_it_to_flood_is_ended_at_the_hard_limit() -> None:
    """1013 "queue limit": what was accepted is still delivered."""
    stage, client, client_link, upstream, upstream_link = both_full()
    count = 1
    while client.closed is None:
        say(client_link, bytes(100))
        count += 1
        assert stage.context.c2u.bytes_held <= HARD_LIMIT * SMALL + 200
    assert client.closed == (1013, "queue limit")
    assert len(upstream.sent) == count
    assert not upstream.paused, "nobody waits for `u2c` any more, and its Pongs must be read"
    confirm(upstream, upstream_link)
    assert upstream.closed == (1001, "queue limit")
    assert the_end(stage).undelivered_c2u == 0


# Section 6, row: proxy told to stop.


def test_proxy_told_to_stop_closes_the_client_with_1012() -> None:
    """And the upstream with 1001; what was not delivered is counted."""
    stage, client, client_link, upstream, upstream_link = started()
    say(client_link, "1")
    say(upstream_link, "1", "2")
    stage.context.close(1012, "service restart")
    assert client.closed == (1012, "service restart")
    assert upstream.closed == (1001, "service restart")
    ended = the_end(stage)
    assert (ended.code, ended.undelivered_c2u, ended.undelivered_u2c) == (1012, 1, 2)


def test_proxy_told_to_stop_answers_a_client_that_still_waits_for_the_upstream() -> None:
    """503, for there is no WebSocket to close, and no session that could have ended."""
    stage = Stage()
    stage.open()
    stage.context.close(1012, "service restart")
    [opening] = stage.openings
    assert opening.refusal is not None
    assert opening.refusal.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert over(stage)
    assert stage.seen(SessionOpened) == stage.seen(SessionEnded) == []


@pytest.mark.parametrize("moment", ["client away", "upstream away", "ending", "ended"])
def test_proxy_told_to_stop_ends_a_session_in_any_state_once(moment: str) -> None:
    """No timer, no dial, one end."""
    stage, _, client_link, _, upstream_link = started(CALM)
    say(client_link, "1")
    if moment == "client away":
        client_link.on_lost(1006, "")
    elif moment == "upstream away":
        upstream_link.on_lost(1006, "")
    elif moment == "ending":
        client_link.on_lost(1006, "")
        stage.clock.advance(16.0)
        assert stage.context.state is State.ENDING
    else:
        stage.context.close(1000, "")
    stage.context.close(1012, "service restart")
    assert over(stage)


# Endings.


def test_a_message_above_the_limit_ends_the_session_after_what_was_said_before_it() -> None:
    """1009 to both, from whichever leg it came."""
    stage, client, client_link, upstream, upstream_link = started()
    say(client_link, "1")
    client_link.on_too_big("17 MiB")
    assert upstream.closed is None
    confirm(upstream, upstream_link)
    assert upstream.closed == (1009, "17 MiB")
    assert the_end(stage).code == 1009
    stage, client, client_link, upstream, upstream_link = started()
    say(upstream_link, "1")
    upstream_link.on_too_big("17 MiB")
    assert client.closed is None
    confirm(client, client_link)
    assert client.closed == (1009, "17 MiB")
    assert over(stage)


def test_a_session_that_ends_while_the_upstream_is_away_still_delivers_what_the_client_said() -> None:
    """Within the retry budget; then the upstream is closed with the client's code."""
    stage, _, client_link, _, upstream_link = started(replace(SENDER, retry_for=60.0))
    upstream_link.on_lost(1006, "")
    say(client_link, "1", "2")
    client_link.on_lost(1000, "bye")
    stage.clock.advance(10.0)
    if not stage.dialler.under_way:
        stage.clock.advance(3.0)
    upstream, upstream_link = stage.connect()
    assert upstream.payloads == [b"1", b"2"]
    assert upstream.pings == [2]
    pong(upstream_link, 2)
    assert upstream.closed == (1000, "bye")
    assert the_end(stage).undelivered_c2u == 0


def test_a_session_that_ends_while_the_upstream_stays_away_is_over_with_the_retry_budget() -> None:
    """With the client's code, and its messages counted."""
    stage, _, client_link, _, upstream_link = started(replace(SENDER, retry_for=60.0))
    stage.clock.advance(2.0)
    upstream_link.on_lost(1006, "")
    say(client_link, "1", "2")
    client_link.on_lost(1000, "bye")
    stage.clock.advance(60.1)
    ended = the_end(stage)
    assert (ended.code, ended.reason, ended.undelivered_c2u) == (1000, "bye", 2)


def test_a_peer_that_is_owed_the_end_and_confirms_nothing_is_given_up() -> None:
    """After as long as a silent one is given, even if it keeps talking."""
    stage, client, client_link, _, upstream_link = started(Policy(ping_interval=20.0, ping_timeout=20.0))
    say(upstream_link, "0")
    stage.clock.advance(0.2)
    confirm(client, client_link)
    say(upstream_link, "1")
    upstream_link.on_lost(1000, "bye")
    for _ in range(39):
        stage.clock.advance(1.0)
        client_link.on_heard()
    assert client.closed is None
    stage.clock.advance(2.0)
    assert client.closed == (1000, "bye")
    assert the_end(stage).undelivered_u2c == 1


def test_a_peer_that_is_owed_the_end_and_goes_on_confirming_is_not_given_up() -> None:
    """However long it takes."""
    stage, client, client_link, _, upstream_link = started()
    client.room = 1
    say(upstream_link, *[b"%d" % n for n in range(20)])
    upstream_link.on_lost(1000, "bye")
    for _ in range(19):
        stage.clock.advance(30.0)
        confirm(client, client_link)
        assert client.closed is None
        client.room, client.writable = 1, True
        client_link.on_writable()
    confirm(client, client_link)
    assert client.closed == (1000, "bye")
    assert the_end(stage).undelivered_u2c == 0


def test_a_peer_that_is_owed_the_end_and_has_just_come_back_is_given_its_time() -> None:
    """Those who wait are not judged by how long the peer before them was away."""
    policy = replace(SENDER, retry_for=600.0, connect_timeout=100.0, ping_interval=20.0, ping_timeout=20.0)
    stage, _, client_link, _, upstream_link = started(policy)
    say(client_link, "1")
    upstream_link.on_lost(1006, "")
    client_link.on_lost(1000, "bye")
    stage.clock.advance(39.5)
    upstream, upstream_link = stage.connect()
    stage.clock.advance(5.0)
    assert upstream.closed is None
    confirm(upstream, upstream_link)
    assert the_end(stage).undelivered_c2u == 0


def test_at_the_end_a_full_u2c_does_not_keep_the_upstreams_pongs_from_being_read() -> None:
    """Nobody waits for those messages any more; they are counted."""
    stage, _, client_link, upstream, upstream_link = started(replace(CALM, max_queue=SMALL, grace=5.0))
    say(client_link, "1")
    client_link.on_lost(1000, "bye")
    say(upstream_link, bytes(2 * SMALL))
    assert upstream.paused
    stage.clock.advance(5.1)
    assert stage.context.state is State.ENDING
    assert not upstream.paused
    confirm(upstream, upstream_link)
    ended = the_end(stage)
    assert (ended.undelivered_c2u, ended.undelivered_u2c) == (0, 1)


def test_at_the_end_what_the_upstream_says_is_counted_but_not_kept() -> None:
    """A redial still states all of it, for it had its Pong: an aware upstream must not see its count shrink."""
    stage, _, client_link, _, upstream_link = started(SENDER, upstream_aware=True)
    say(upstream_link, "1")
    say(client_link, "a")
    client_link.on_lost(1000, "bye")
    say(upstream_link, "2", "3")
    upstream_link.on_lost(1006, "")
    stage.clock.advance(3.0)
    assert stage.dialler.dials[-1].received == 3
    upstream, upstream_link = stage.connect(Answer(received=0))
    assert upstream.payloads == [b"a"]
    confirm(upstream, upstream_link)
    ended = the_end(stage)
    assert (ended.undelivered_c2u, ended.undelivered_u2c) == (0, 3)


def test_both_sides_leaving_ends_the_session_at_once() -> None:
    """The upstream for good while the client's rest was being delivered, or the other way round."""
    stage, _, client_link, _, upstream_link = started(SENDER)
    say(client_link, "1")
    client_link.on_lost(4001, "client")
    upstream_link.on_lost(4002, "upstream")
    ended = the_end(stage)
    assert (ended.code, ended.reason, ended.undelivered_c2u) == (4001, "client", 1)
    stage, _, client_link, _, upstream_link = started(SENDER)
    say(upstream_link, "1")
    upstream_link.on_lost(4002, "upstream")
    client_link.on_lost(4001, "client")
    ended = the_end(stage)
    assert (ended.code, ended.reason, ended.undelivered_u2c) == (4002, "upstream", 1)


def test_nothing_that_happens_after_the_end_has_any_effect() -> None:
    """Late events of both sockets, and of time."""
    stage, client, client_link, upstream, upstream_link = started()
    stage.context.close(1000, "")
    events = list(stage.events)
    for link in (client_link, upstream_link):
        say(link, "late")
        pong(link, 1)
        link.on_heard()
        link.on_writable()
        link.on_too_big("late")
        link.on_lost(1006, "")
    stage.clock.advance(1000.0)
    assert over(stage)
    assert stage.events == events
    assert client.sent == upstream.sent == []


# Mute peers.


@pytest.mark.parametrize("leg", LegName)
def test_a_mute_peer_is_served_and_never_fills_an_outbox(leg: LegName) -> None:
    """It sends data and answers no Ping: reported, and what is written counts as confirmed."""
    stage, client, client_link, upstream, upstream_link = started(replace(DUPLEX, max_queue=SMALL))
    mute, other = (client_link, upstream_link) if leg is LegName.CLIENT else (upstream_link, client_link)
    say(other, bytes(SMALL))
    for _ in range(42):
        stage.clock.advance(0.5)
        say(mute, b"")
        for live, live_leg in ((other, upstream if leg is LegName.CLIENT else client),):
            if live_leg.pings:
                confirm(live_leg, live)
    assert stage.seen(LegMute) == [LegMute(SESSION_ID, leg)]
    for _ in range(10):
        say(other, bytes(SMALL))
    assert not other.paused
    assert len(mute.outbox) == 0


def test_a_peer_found_mute_at_the_end_is_closed_and_leaves_no_timer() -> None:
    """Being mute confirms what it was owed, and that was all that the session waited for."""
    stage, client, client_link, _, upstream_link = started(Policy(ping_interval=60.0, ping_timeout=5.0))
    say(upstream_link, "1")
    upstream_link.on_lost(1000, "bye")
    for _ in range(60):
        stage.clock.advance(0.1)
        if client.closed is None:
            say(client_link, b"x")
    assert client.closed == (1000, "bye")
    assert over(stage)


# Receiver mode: fan-out.


def shared(clients: int = 3, policy: Policy = SHARED) -> tuple[Stage, list[tuple[FakeLeg, Link]], FakeLeg, Link]:
    """Return a shared session with so many clients attached."""
    stage = Stage(policy)
    stage.open()
    upstream, upstream_link = stage.connect()
    return stage, [stage.client() for _ in range(clients)], upstream, upstream_link


def test_receiver_each_client_gets_every_message_and_any_may_send() -> None:
    """From the moment it attaches, and nobody is taken over."""
    stage, [(a, a_link), (b, b_link)], upstream, upstream_link = shared(2)
    say(upstream_link, "1")
    c, c_link = stage.client()
    say(upstream_link, "2")
    say(c_link, "from c")
    say(a_link, "from a")
    say(b_link, "from b")
    assert (a.payloads, b.payloads, c.payloads) == ([b"1", b"2"], [b"1", b"2"], [b"2"])
    assert upstream.payloads == [b"from c", b"from a", b"from b"]
    assert a.closed is b.closed is None
    assert stage.seen(TakenOver) == []


def test_receiver_messages_with_no_client_wait_for_the_first_to_come() -> None:
    """One upstream connection throughout, and no end of the waiting."""
    stage, clients, upstream, upstream_link = shared(3)
    say(upstream_link, "1")
    stage.clock.advance(0.2)
    for leg, link in clients:
        confirm(leg, link)
    for _, link in clients:
        link.on_lost(1001, "")
    say(upstream_link, "2", "3")
    stage.clock.advance(500.0)
    a, _ = stage.client()
    b, _ = stage.client()
    say(upstream_link, "4")
    assert a.payloads == [b"2", b"3", b"4"]
    assert b.payloads == [b"4"]
    assert len(stage.dialler.dials) == 1
    assert upstream.closed is None


def test_receiver_clients_confirm_each_for_itself() -> None:
    """A client that has everything does not free what another one is owed."""
    stage, [(a, a_link), (b, b_link)], _, upstream_link = shared(2)
    say(upstream_link, "1", "2")
    stage.clock.advance(0.2)
    confirm(a, a_link)
    assert (len(a_link.outbox), len(b_link.outbox)) == (0, 2)
    say(upstream_link, "3")
    a_link.on_lost(1006, "")
    assert b.payloads == [b"1", b"2", b"3"]
    assert stage.context.received_from_upstream == 3
    confirm(b, b_link)
    assert len(stage.context.u2c) == 1


def test_receiver_one_slow_client_is_closed_with_1013_for_the_sake_of_the_others() -> None:
    """Past the high-water mark, not before; the upstream is not held back."""
    stage, [(a, a_link), (b, _)], upstream, upstream_link = shared(2, replace(SHARED, max_queue=SMALL))
    a.writable = False
    for n in range(9):
        say(upstream_link, bytes(10))
        stage.clock.advance(0.2)
        confirm(b, stage.context.incoming[1])
        assert a.closed is None, n
    say(upstream_link, bytes(10))
    assert a.closed == (1013, "too slow")
    assert b.closed is None
    assert not upstream.paused
    assert stage.seen(SlowClientClosed) == [SlowClientClosed(SESSION_ID, 10)]
    say(upstream_link, "on")
    assert b.payloads[-1] == b"on"
    assert a_link.dead


def test_receiver_the_last_client_is_not_closed_for_being_slow_but_holds_the_upstream_back() -> None:
    """There is nobody for whose sake it could be."""
    stage, [(a, _), (b, _)], upstream, upstream_link = shared(2, replace(SHARED, max_queue=SMALL))
    a.writable = b.writable = False
    say(upstream_link, bytes(2 * SMALL))
    assert [leg.closed is None for leg in (a, b)].count(True) == 1
    assert upstream.paused
    assert len(stage.context.incoming) == 1


@pytest.mark.parametrize("code", [1000, 1001, 4000])
def test_receiver_no_client_can_end_a_shared_session_by_leaving(code: int) -> None:
    """Not even the last one, cleanly."""
    stage, clients, upstream, _ = shared(2, replace(SHARED, grace_on=GraceOn.ABNORMAL))
    for _, link in clients:
        link.on_lost(code, "")
    stage.clock.advance(300.0)
    assert stage.context.state is State.OPEN
    assert upstream.closed is None


def test_receiver_a_grace_that_is_set_ends_a_shared_session_that_nobody_uses() -> None:
    """From the moment the last client has left."""
    stage, [(_, a), (_, b)], upstream, _ = shared(2, replace(SHARED, grace=15.0))
    a.on_lost(1001, "")
    stage.clock.advance(100.0)
    assert stage.context.state is State.OPEN
    b.on_lost(1001, "gone")
    stage.clock.advance(15.1)
    assert upstream.closed == (1001, "gone")
    assert over(stage)


def test_receiver_the_end_is_delivered_to_each_client() -> None:
    """Each is closed when it has everything."""
    stage, [(a, a_link), (b, b_link)], _, upstream_link = shared(2)
    say(upstream_link, "1")
    upstream_link.on_lost(4001, "enough")
    assert a.closed is b.closed is None
    confirm(b, b_link)
    assert a.closed is None
    assert b.closed == (4001, "enough")
    confirm(a, a_link)
    assert a.closed == (4001, "enough")
    assert the_end(stage).undelivered_u2c == 0


def test_receiver_clients_are_unaware_whatever_they_state() -> None:
    """A count means nothing in a stream that several share."""
    stage, _, _, _ = shared(0)
    assert stage.context.admit(Claim(received=17)) is None
    leg, link = stage.client(received=17)
    assert not link.aware
    assert leg.closed is None


def test_receiver_a_full_c2u_stops_all_clients() -> None:
    """Any of them may have filled it, and any of them may go on."""
    stage, clients, upstream, upstream_link = shared(3, replace(SHARED, max_queue=SMALL))
    say(clients[1][1], bytes(2 * SMALL))
    assert [leg.paused for leg, _ in clients] == [True, True, True]
    confirm_all(stage, upstream, upstream_link)
    assert [leg.paused for leg, _ in clients] == [False, False, False]


def test_the_context_has_no_room_for_surprises() -> None:
    """Slots: a session costs what it is designed to cost, and a misspelt attribute is an error."""
    context = Stage().context
    assert isinstance(context, Context)
    with pytest.raises(AttributeError):
        context.greace = 1  # type: ignore[attr-defined]
