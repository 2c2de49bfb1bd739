"""How the first dial of a session ends for the clients that wait for it.

| outcome | what the clients get |
| --- | --- |
| accepted, with the upstream's answer | its 101 |
| accepted, without an upstream (`accept_when_down`) | a 101; their messages wait |
| failed: the upstream has said no | the upstream's own answer |
| refused by the proxy | the refusal, which names the reason |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from .dial import DialAnswer, DialFailure
from .wire import Refusal


@dataclass(slots=True)
class Opening:
    """How the first dial ended: accepted (neither `failure` nor `refusal`) or not.

    `answer` is None if no upstream was reached and the clients are accepted anyway.
    """

    answer: DialAnswer | None = None
    failure: DialFailure | None = None
    refusal: Refusal | None = None

    @property
    def accepted(self) -> bool:
        """Whether the clients get a 101."""
        return self.refusal is None and self.failure is None


Waiter = Callable[[Opening], None]

#: What a session remembers of its opening. The upstream's answer was for the clients that waited for it.
ACCEPTED = Opening()


def unreachable(failure: DialFailure) -> Opening:
    """Return the opening for clients that must not wait for an upstream which cannot be reached."""
    detail = f"no upstream could be reached: {failure.detail}"
    return Opening(refusal=Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "upstream-unavailable", detail, retry_after=1))


def gone(code: int, reason: str) -> Opening:
    """Return the opening for clients whose upstream closed between its handshake and the opening of its gate."""
    detail = f"upstream closed with {code} {reason}".strip()
    return Opening(refusal=Refusal(HTTPStatus.BAD_GATEWAY, "upstream-closed", detail))


def closed(error: str, reason: str) -> Opening:
    """Return the opening for clients whose session the proxy closes; `error` is the name of the refusal."""
    return Opening(refusal=Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error, reason, retry_after=1))


class FirstDial:
    """The outcome of a session's first dial, and the clients that wait for it."""

    __slots__ = ("_opening", "_waiters")

    def __init__(self) -> None:
        self._waiters: Sequence[Waiter] = ()
        # None until it is known.
        self._opening: Opening | None = None

    @property
    def awaited(self) -> bool:
        """Whether a client waits for the outcome."""
        return bool(self._waiters)

    def tell(self, waiter: Waiter) -> bool:
        """Call `waiter` with the outcome, now or when it is known. Returns whether it has to wait."""
        if self._opening is not None:
            waiter(self._opening)
            return False
        self._waiters = [*self._waiters, waiter]
        return True

    def leave(self, waiter: Waiter) -> None:
        """Call `waiter` no more. Does nothing if it was called already."""
        if waiter in self._waiters:
            self._waiters = [other for other in self._waiters if other != waiter]

    def decide(self, opening: Opening) -> None:
        """Tell the outcome to the clients that wait for it."""
        self._opening = opening
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            waiter(opening)
        if opening.accepted:
            self._opening = ACCEPTED
