"""How many examples Hypothesis draws."""

from __future__ import annotations

import os

__all__ = ["examples"]


def examples(count: int) -> int:
    """Return `count`, or with HYPOTHESIS_PROFILE=quick, as `make quick` has it, a tenth of that."""
    return max(count // 10, 1) if os.environ.get("HYPOTHESIS_PROFILE") == "quick" else count
