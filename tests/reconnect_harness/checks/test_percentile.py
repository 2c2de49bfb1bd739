"""Percentiles by nearest rank."""

from __future__ import annotations

import pytest

from reconnect_harness.checks.percentile import percentile


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.1, 10), (0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100)]
)
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    """The smallest one that so many of the values do not exceed."""
    assert percentile([float(number) for number in range(1, 101)], share) == value


def test_a_single_value_is_every_percentile() -> None:
    """However small the share is."""
    assert percentile([7.0], 0.5) == percentile([7.0], 0.999) == 7


def test_without_values_there_is_no_percentile() -> None:
    """An empty measurement is not a fast one."""
    assert percentile([], 0.5) is None
