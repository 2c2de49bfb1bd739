"""Percentiles by nearest rank: one of the values, and not a number between two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest of the sorted `values` that `share` (0..1) of them do not exceed; None of no values."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else None
