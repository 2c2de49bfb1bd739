"""How long to wait before the next dial: full-jitter exponential backoff, used by the proxy and by `connect` alike."""

from __future__ import annotations

#: Seconds: the longest first wait, and the longest of all.
BASE = 0.05
CAP = 3.0


def longest_wait(attempts: int, away: float, left: float) -> float:
    """Return the upper bound, in seconds, of the wait before the next dial; the wait is drawn uniformly below it.

    It doubles with each attempt, but is not longer than the peer has been away already: a row of short draws must not
    make a session miss the end of a short outage by far. Nor so long that the budget is over before the next attempt.

    Args:
        attempts: dials that have failed in a row.
        away: seconds since the loss.
        left: seconds until the retry budget is over.
    """
    return min(CAP, BASE * 2.0 ** min(attempts, 10), max(BASE, away), max(BASE, left / 2))
