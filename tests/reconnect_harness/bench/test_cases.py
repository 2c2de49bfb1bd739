"""Cases and plans: what is in flight, what is left out, who takes part."""

from __future__ import annotations

import pytest

from reconnect_harness.bench import plan as plans
from reconnect_harness.bench.cases import (
    FLIGHT_BYTES,
    WINDOW_BYTES,
    Case,
    Shape,
    product,
    size_name,
    within_descriptors,
)
from reconnect_harness.bench.plan import CONTENDERS, BenchPlan
from reconnect_harness.sut.base import OWN


@pytest.mark.parametrize(
    ("case", "window"),
    [
        (Case(Shape.PIPELINED, 128, 16), 32),
        (Case(Shape.PIPELINED, 64 * 1024, 16), 16),
        (Case(Shape.PIPELINED, 1024**2, 16), 1),
        (Case(Shape.UP, 64 * 1024, 1000), 1),
        (Case(Shape.REQUEST_REPLY, 64, 1000), 1),
        (Case(Shape.BURST, 64, 5000), 5000),
    ],
)
def test_large_messages_have_a_smaller_window(case: Case, window: int) -> None:
    """Otherwise memory would be measured; a reply is one message of any size."""
    assert case.window == window


@pytest.mark.parametrize("size", [64, 128, 1024, 64 * 1024, 1024**2])
@pytest.mark.parametrize("count", [1, 16, 100, 1000])
def test_what_is_in_flight_is_bounded(size: int, count: int) -> None:
    """On a connection and in all; but each connection has at least one message."""
    case = Case(Shape.PIPELINED, size, count)
    assert case.window * size <= WINDOW_BYTES
    assert case.flight <= FLIGHT_BYTES or case.window == 1


def test_a_case_has_a_name_for_readers() -> None:
    """It contains what is counted."""
    assert Case(Shape.PIPELINED, 64 * 1024, 16).name == "pipelined, 64 KiB, 16 connections"
    assert Case(Shape.REQUEST_REPLY, 100, 1).name == "request-reply, 100 B, 1 connection"
    assert Case(Shape.CROWD, count=10_000).name == "crowd, 10,000 sessions"
    assert Case(Shape.DRAIN, 128, 50_000).name == "drain, 50,000 x 128 B"
    assert size_name(1024**2) == "1 MiB"


def test_options_make_all_combinations() -> None:
    """Sessions have no size; cases that would fill the memory are left out with a note."""
    cases, notes = product([Shape.UP, Shape.OPEN], [64, 1024**2], [16, 1000])
    assert [case.name for case in cases] == [
        "c2u, 64 B, 16 connections",
        "c2u, 1 MiB, 16 connections",
        "c2u, 64 B, 1,000 connections",
        "open, 16 sessions",
        "open, 1,000 sessions",
    ]
    assert notes == ["c2u, 1 MiB, 1,000 connections is left out: 1,000 MiB would be in flight"]


def test_one_option_is_enough() -> None:
    """For the others there are defaults."""
    assert [case.name for case in product([], [1024], [])[0]] == ["pipelined, 1 KiB, 16 connections"]


def test_sessions_are_as_many_as_there_may_be_descriptors() -> None:
    """A proxy needs two for each; a note says that there are fewer than asked for, and why."""
    cases, notes = within_descriptors([Case(Shape.CROWD, count=count) for count in (100, 10_000, 12_000)], 20_000)
    assert [case.count for case in cases] == [100, 9300]
    assert len(notes) == 2
    assert notes[0].startswith("crowd, 10,000 sessions: 9,300 instead")
    assert "20,000 descriptors" in notes[0]


def test_a_burst_has_one_connection() -> None:
    """Its messages need no descriptors."""
    cases, notes = within_descriptors([Case(Shape.BURST, count=50_000)], 1024)
    assert [case.count for case in cases] == [50_000]
    assert not notes


def test_every_round_goes_over_all_contenders_in_turn() -> None:
    """Other load on the machine affects all alike; the first contender changes from round to round."""
    case = Case(Shape.PIPELINED)
    trials = list(BenchPlan([case], rounds=3, seconds=1.0).trials(["a", "b", "c"]))
    assert [name for _, _, name in trials] == ["b", "c", "a", "c", "a", "b", "a", "b", "c"]
    assert [number for number, _, _ in trials] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_many_sessions_are_opened_less_often_and_not_by_slow_contenders() -> None:
    """Those that take a millisecond for each are left out of the largest crowds."""
    plan = BenchPlan([Case(Shape.CROWD, count=10_000)], rounds=3, seconds=1.0, session_rounds=1, slow=2000)
    assert sorted(name for _, _, name in plan.trials(CONTENDERS)) == ["direct", "haproxy", "nginx", OWN]


def test_only_what_may_outlive_its_upstream_is_asked_to() -> None:
    """The presets are known not to; a command may be anything."""
    plan = BenchPlan([Case(Shape.RECOVER)], rounds=1, seconds=1.0)
    assert [name for _, _, name in plan.trials(["direct", "nginx", OWN, "mine {listen} {upstream}"])] == [
        OWN,
        "mine {listen} {upstream}",
    ]


@pytest.mark.parametrize(("plan", "minutes"), [(plans.QUICK, 1.0), (plans.STANDARD, 5.0), (plans.FULL, 120.0)])
def test_plans_take_about_as_long_as_the_help_says(plan: BenchPlan, minutes: float) -> None:
    """By their own estimate."""
    assert minutes / 3 < plan.estimate(CONTENDERS) / 60 < minutes
    assert len({case.name for case in plan.cases}) == len(plan.cases)
