"""The time of the core, which has none of its own: an event loop satisfies `Clock` as it is, and so does a counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Take the call back. Does nothing when it was made or cancelled already."""


class Clock(Protocol):
    """Monotonic seconds, and calls at a later time."""

    def time(self) -> float:
        """Return the present time in seconds, from any fixed origin."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call `callback` once, `delay` seconds from now."""
