"""The account of one user."""

from __future__ import annotations

from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.load.account import Receipt, Stamp, UserAccount

LATE = 10.0


def _account(sent: int = 0) -> UserAccount:
    account = UserAccount("mine", LATE)
    for number in range(sent):
        account.send(float(number))
    return account


def _take(
    account: UserAccount, number: int, session: str = "mine", direction: str = "c2u", now: float = 100.0
) -> Receipt:
    return account.take(Stamp(session, number, 50.0, direction), now, 53.0)


def test_what_comes_back_in_order_is_all_right() -> None:
    """Each has its delay, and at the end nothing is in flight."""
    account = _account(3)
    assert [_take(account, number) for number in (1, 2, 3)] == [
        Receipt(True, 100.0),
        Receipt(True, 99.0),
        Receipt(True, 98.0),
    ]
    assert account.in_flight == 0
    assert account.close() == 0


def test_what_does_not_come_is_in_flight_until_the_end_and_then_lost() -> None:
    """Nothing is lost while it may still come."""
    account = _account(3)
    _take(account, 1)
    assert account.give_up(1000.0) == 0
    assert account.in_flight == 2
    assert account.close() == 2
    assert account.in_flight == 0


def test_what_comes_twice_is_repeated() -> None:
    """It is not counted as an answer again."""
    account = _account(2)
    _take(account, 1)
    assert _take(account, 1) == Receipt(True, None, Flaw.DUPLICATED)


def test_what_is_overtaken_is_late_or_lost_after_a_while() -> None:
    """A message before the last one that came is waited for, and then given up."""
    account = _account(4)
    _take(account, 3)
    assert _take(account, 1).flaw is Flaw.REORDERED
    assert account.give_up(10.9) == 0
    assert account.give_up(11.1) == 1
    assert account.in_flight == 1
    assert account.close() == 1


def test_what_was_given_up_and_comes_after_all_is_found_again() -> None:
    """It was late, not lost."""
    account = _account(2)
    _take(account, 2)
    assert account.give_up(100.0) == 1
    assert _take(account, 1) == Receipt(True, None, Flaw.REORDERED, was_lost=True)
    assert _take(account, 1).flaw is Flaw.DUPLICATED


def test_a_number_that_was_never_sent_is_corrupted() -> None:
    """So is a message whose own checksum is wrong."""
    account = _account(1)
    assert _take(account, 2).flaw is Flaw.CORRUPTED
    assert account.take(Stamp("mine", 1, None, "c2u", "truncated"), 1.0, 1.0).flaw is Flaw.CORRUPTED
    assert account.in_flight == 1


def test_what_needs_no_answer_is_not_missed() -> None:
    """It still has a number."""
    account = _account(1)
    assert account.send(1.0, answered=False) == 2
    _take(account, 1)
    assert account.in_flight == 0


def test_a_gap_in_what_is_pushed_is_missing() -> None:
    """A server's stream begins with 1; the delay is measured by the wall clock."""
    account = _account()
    assert _take(account, 3, "u1.1", "u2c", now=1.0) == Receipt(False, 3.0)
    assert account.in_flight == 2
    assert _take(account, 2, "u1.1", "u2c", now=2.0).flaw is Flaw.REORDERED
    assert account.give_up(11.5) == 1
    assert _take(account, 4, "u1.1", "u2c").flaw is None
    assert account.close() == 0


def test_the_stream_of_another_user_may_begin_with_any_number() -> None:
    """A user joins a chat that has begun already; from then on its stream has to be complete."""
    account = _account()
    assert _take(account, 7, "another") == Receipt(False, 3.0)
    _take(account, 9, "another")
    assert account.close() == 1


def test_a_delay_is_never_negative() -> None:
    """The clocks of two machines may differ."""
    assert _account().take(Stamp("u1.1", 1, 60.0, "u2c"), 1.0, 53.0).delay == 0.0


def test_a_message_that_is_for_another_user_is_misdelivered() -> None:
    """It is in no account: what follows it is no gap."""
    account = UserAccount("mine", LATE, lambda stamp: stamp.direction == "u2c")
    assert _take(account, 7, "another") == Receipt(False, None, Flaw.MISDELIVERED)
    assert _take(account, 9, "another").flaw is Flaw.MISDELIVERED
    assert _take(account, 1, "u1.1", "u2c").flaw is None
    assert account.close() == 0
