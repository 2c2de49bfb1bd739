"""How the first dial of a session ends for the clients that wait for it.

| outcome | what the clients get |
| --- | --- |
| accepted, with the upstream's answer | its 101 |
| accepted, without an upstream (`accept_when_down`) | a 101; their messages wait |
| failed: the upstream has said no | the upstream's own answer |
| refused: the upstream's 101 violates RFC 6455, which no redial would change | 502 |
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

#: For a client that comes later: the upstream's answer was for those that waited for it.
ACCEPTED = Opening()


def unreachable(failure: DialFailure) -> Opening:
    """Return the opening for clients that must not wait for an upstream which cannot be reached."""
    detail = f"no upstream could be reached: {failure.detail}"
    return Opening(refusal=Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "upstream-unavailable", detail, retry_after=1))


def bad_handshake(failure: DialFailure) -> Opening:
    """Return the opening for clients whose upstream answers with a 101 that violates RFC 6455."""
    return Opening(refusal=Refusal(HTTPStatus.BAD_GATEWAY, "bad-handshake", f"the upstream: {failure.detail}"))


def gone(code: int, reason: str) -> Opening:
    """Return the opening for clients whose upstream closed between its handshake and the opening of its gate."""
    detail = f"upstream closed with {code} {reason}".strip()
    return Opening(refusal=Refusal(HTTPStatus.BAD_GATEWAY, "upstream-closed", detail))


def closed(error: str, reason: str) -> Opening:
    """Return the opening for clients whose session the proxy closes; `error` is the name of the refusal."""
    return Opening(refusal=Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error, reason, retry_after=1))


class FirstDial:
    """The clients that wait for the outcome of a session's first dial, and that outcome."""

    __slots__ = ("_opening", "_waiters")

    def __init__(self) -> None:
        self._waiters: Sequence[Waiter] = ()
        # None until it is known.
        self._opening: Opening | None = None

    def tell(self, waiter: Waiter) -> bool:
        """Call `waiter` with the outcome, now or when it is known. Returns whether it has to wait."""
        if self._opening is not None:
            waiter(self._opening)
            return False
        self._waiters = [*self._waiters, waiter]
        return True

    def leave(self, waiter: Waiter) -> bool:
        """Call `waiter` no more, if it was not called yet. Returns whether other clients wait."""
        if waiter in self._waiters:
            self._waiters = [other for other in self._waiters if other != waiter]
        return bool(self._waiters)

    def decide(self, opening: Opening) -> None:
        """Tell the outcome to the clients that wait for it."""
        self._opening = opening
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            waiter(opening)
