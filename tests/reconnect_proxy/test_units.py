"""Durations and sizes, as they are written and read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconnect_proxy.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("400ms", 0.4),
        ("15s", 15.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        (".5 m", 30.0),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("15S", 15.0),
        (3, 3.0),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_a_number_with_or_without_a_unit(text: str | float, seconds: float) -> None:
    """Every documented way to write a duration is read as exactly the seconds it says."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "15 parsecs", "-1s", "1e3", "1,5s", "1m30s", "nan", "inf", "٣s", True, -1, math.nan, math.inf]
)
def test_what_is_no_duration_is_refused_with_the_way_to_write_one(text: str | float) -> None:
    """The error quotes what was given and says what would be right."""
    with pytest.raises(ValueError, match=r"is not a duration: (write it as 400ms|it must be 0 or more)") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16MiB", 16 * 1024**2),
        ("64KiB", 65536),
        ("1MB", 1_000_000),
        ("2GiB", 2 * 1024**3),
        ("3kB", 3000),
        ("1GB", 10**9),
        ("12b", 12),
        ("4096", 4096),
        ("0.5KiB", 512),
        ("16mib", 16 * 1024**2),
        (4096, 4096),
        (2.0, 2),
    ],
)
def test_a_size_is_a_number_with_or_without_a_unit(text: str | float, size: int) -> None:
    """Every documented way to write a size is read as exactly the bytes it says."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "16M", "-1", "1e3", "0.3B", "lots", True, -1, 1.5, math.nan, math.inf])
def test_what_is_no_size_is_refused_with_what_would_be_right(text: str | float) -> None:
    """The error quotes what was given; half a byte is not a size."""
    with pytest.raises(ValueError, match="is not a size: ") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@given(st.integers(0, 10**12))
def test_a_size_survives_being_written_and_read(size: int) -> None:
    """What `format_size` writes, `parse_size` reads as the same number."""
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**8))
def test_a_duration_survives_being_written_and_read(milliseconds: int) -> None:
    """What `format_duration` writes, `parse_duration` reads as the same number, to the millisecond."""
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


def test_quantities_are_written_in_the_unit_a_person_would_choose() -> None:
    """Sizes in the largest binary unit that divides them, durations in seconds or milliseconds."""
    assert [format_size(size) for size in (0, 1000, 1024, 16 * 1024**2)] == ["0", "1000", "1KiB", "16MiB"]
    assert [format_duration(seconds) for seconds in (0, 0.4, 15.0, 90.5)] == ["0s", "400ms", "15s", "90.5s"]
