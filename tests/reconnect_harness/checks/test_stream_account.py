"""The rules for lost, duplicated and reordered numbers of a stream."""

from __future__ import annotations

import pytest

from reconnect_harness.checks.stream_account import Arrival, Flaw, StreamAccount


def _account(*owed: int, gapless: bool = False) -> StreamAccount:
    account = StreamAccount(gapless=gapless)
    for number in owed:
        account.owe(number, float(number))
    return account


@pytest.mark.parametrize(
    ("arrivals", "flaws", "lost"),
    [
        ((1, 2, 3), (None, None, None), []),
        ((1, 3), (None, None), [2]),
        ((1, 3, 2), (None, None, Flaw.REORDERED), []),
        ((1, 2, 2, 3), (None, None, Flaw.DUPLICATED, None), []),
        ((3, 1, 1), (None, Flaw.REORDERED, Flaw.DUPLICATED), [2]),
        ((), (), [1, 2, 3]),
    ],
)
@pytest.mark.parametrize("gapless", [False, True])
def test_each_rule_by_example(
    arrivals: tuple[int, ...], flaws: tuple[Flaw | None, ...], lost: list[int], *, gapless: bool
) -> None:
    """The same whether all numbers are known to be owed, or only those that arrivals show."""
    account = _account(1, 2, 3) if not gapless else _account(gapless=True)
    assert tuple(account.take(number).flaw for number in arrivals) == flaws
    assert account.close() == [number for number in lost if not gapless or number < account.furthest]


def test_an_overtaken_number_is_lost_when_it_had_its_time() -> None:
    """A number that nothing has overtaken is still missing, however long it takes."""
    account = _account(1, 2, 3, 4)
    account.take(3)
    assert account.write_off(before=2.0) == [1]
    assert account.missing == 2
    assert account.write_off() == [2]
    assert account.missing == 1
    assert account.close() == [4]


def test_a_lost_number_that_arrives_is_reordered_and_no_longer_lost() -> None:
    """Only once: the next time it is duplicated."""
    account = _account(gapless=True)
    assert account.take(2) == Arrival(skipped=1)
    assert account.write_off() == [1]
    assert account.take(1) == Arrival(Flaw.REORDERED, was_lost=True)
    assert account.take(1) == Arrival(Flaw.DUPLICATED)


def test_an_arrival_says_since_when_its_number_was_missing() -> None:
    """Since it was sent where that is known, else since it was overtaken."""
    assert _account(1, 2).take(2).since == 2.0
    account = _account(gapless=True)
    account.take(3, now=7.0)
    assert account.take(2, now=9.0) == Arrival(Flaw.REORDERED, 7.0)


def test_a_gap_of_any_size_is_counted_and_only_some_of_it_remembered() -> None:
    """A damaged number, or a proxy that loses everything, takes no memory."""
    account = StreamAccount(gapless=True, remembered=3)
    assert account.take(10**12).skipped == 10**12 - 1
    assert account.write_off() == [1, 2, 3]
    assert account.take(10**12 + 9).skipped == 8
    assert account.write_off() == []
    assert account.take(5).flaw is Flaw.DUPLICATED


def test_an_account_goes_on_from_a_number() -> None:
    """All numbers up to there count as arrived."""
    account = StreamAccount(5, gapless=True)
    assert [account.take(number).flaw for number in (5, 6)] == [Flaw.DUPLICATED, None]
    assert account.missing == 0
