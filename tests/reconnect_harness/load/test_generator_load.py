"""Whether the generator says that it, and not its target, was the limit."""

from __future__ import annotations

import pytest

from reconnect_harness.load.generator_load import LATE_SENDS, GeneratorReading
from tests.reconnect_harness.load.locust_run import locust


def test_a_generator_that_keeps_up_says_nothing() -> None:
    """A busy machine is not a limit as long as nothing is late."""
    assert GeneratorReading(cpu=0.5, machine=1.0, lag_p99=0.02, sends=1000, late=3).limits() == []


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (GeneratorReading(cpu=0.95), "its process used 95% of a core, the one that it can use"),
        (GeneratorReading(lag_p99=0.25), "it woke up to 0.25 s late (p99)"),
        (GeneratorReading(sends=1000, late=200, latest=0.5), "20% of its sends were late, by up to 0.50 s"),
    ],
)
def test_each_reading_has_a_limit(reading: GeneratorReading, said: str) -> None:
    """Each limit has a sentence with numbers."""
    assert reading.limits() == [said]


def test_a_few_late_sends_are_no_limit() -> None:
    """In a small run a single one is soon a large share."""
    assert GeneratorReading(sends=50, late=LATE_SENDS).limits() == []


def test_it_says_when_others_have_the_machine() -> None:
    """More processes on this machine would not help then."""
    *_, last = GeneratorReading(cpu=0.3, machine=0.99, lag_p99=0.4).limits()
    assert last == "it had 30% of a core, for others kept this machine busy (99%)"


def test_a_run_that_asks_too_much_of_its_generator_says_so() -> None:
    """In a warning while it runs, and in the summary; it is not a failure of the target."""
    run = locust(
        "-u", "100", "-r", "100", "-t", "8s", "--rate", "1000/s", "--push", "0/s", "--sut", "direct", "PlainUser"
    )
    assert "THE GENERATOR WAS THE LIMIT, not the target" in run.text, run.text
    assert (
        "WARNING/reconnect_harness.load.generator_load: the load generator, and not its target, is the limit"
        in run.text
    )
    assert run.total("lost") == 0
    assert run.code == 0, run.text
