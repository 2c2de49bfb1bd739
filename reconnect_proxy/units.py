"""Durations and sizes as text: `400ms`, `15s`, `2m`, `1h`; `16MiB`, `64KiB`, `1MB`.

Options, configuration files and scenario files are read and written with these functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

#: Seconds in one of each unit.
DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

#: Bytes in one of each unit: powers of 1024 with an `i`, powers of 1000 without.
SIZES = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}

_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,9})?|\.\d{1,9}) ?([a-z]*)", re.ASCII | re.IGNORECASE)


def parse_duration(text: str | float) -> float:
    """Return the seconds that `text` stands for: `400ms`, `15s`, `2m`, `1h`, or a plain number of seconds.

    Raises:
        ValueError: it is no duration, or a negative or endless one. The message is a sentence for the user.

    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        if not (math.isfinite(text) and text >= 0):
            raise ValueError(f"{text!r} is not a duration: it must be 0 or more")
        return float(text)
    seconds = _quantity(text, DURATIONS, "s")
    if seconds is None:
        raise ValueError(f"{text!r} is not a duration: write it as 400ms, 15s, 2m, 1h or a plain number of seconds")
    return float(seconds)


def parse_size(text: str | float) -> int:
    """Return the bytes that `text` stands for: `16MiB`, `64KiB`, `1MB`, or a plain number of bytes.

    Raises:
        ValueError: it is no size, or a negative or broken one. The message is a sentence for the user.

    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        if not (math.isfinite(text) and text >= 0 and text == int(text)):
            raise ValueError(f"{text!r} is not a size: it must be a whole number of bytes, 0 or more")
        return int(text)
    size = _quantity(text, SIZES, "b")
    if size is None:
        raise ValueError(f"{text!r} is not a size: write it as 16MiB, 64KiB, 1MB or a plain number of bytes")
    if size != size.to_integral_value():
        raise ValueError(f"{text!r} is not a size: it is {size.normalize():f} bytes, which must be a whole number")
    return int(size)


def format_duration(seconds: float) -> str:
    """Return `seconds` the way `parse_duration` reads it: `400ms` below one second, else `15s`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.15g}ms"
    return f"{seconds:.15g}s"


def format_size(size: int) -> str:
    """Return `size` bytes the way `parse_size` reads it, in the largest binary unit that divides it: `16MiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        scale = SIZES[unit.lower()]
        if size and size % scale == 0:
            return f"{size // scale}{unit}"
    return str(size)


def _quantity(text: object, units: Mapping[str, float], default: str) -> Decimal | None:
    """Return the number in `text` times its unit, or the `default` one; None if it is none."""
    match = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) else None
    scale = units.get(match[2].lower() or default) if match else None
    # Decimal, so that 400ms is the float nearest to 0.4 and not 400 times the one nearest to 0.001.
    return None if match is None or scale is None else Decimal(match[1]) * Decimal(str(scale))
