"""How a session begins for the clients that wait for it: the upstream is dialled first, and this came of it.

accepted, with the upstream's answer     its 101
accepted, and no upstream is there yet   messages wait (`accept_when_down`)
failed: the upstream has said no         its own answer is passed on
refused                                  by the proxy, for the reason that the refusal names
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from .upstream import DialAnswer, DialFailure
from .wire import Refusal


@dataclass(slots=True)
class Opening:
    """How the first dial ended: accepted (neither `failure` nor `refusal`) or not.

    `answer` is None where no upstream could be reached and the clients are accepted all the same.
    """

    answer: DialAnswer | None = None
    failure: DialFailure | None = None
    refusal: Refusal | None = None

    @property
    def accepted(self) -> bool:
        """Whether the clients are let in."""
        return self.refusal is None and self.failure is None


#: What is known of an opening later on, when those have been told for whom the upstream's answer was.
ACCEPTED = Opening()


def unreachable(failure: DialFailure) -> Opening:
    """Return the opening for clients that are not to wait for an upstream which is not there."""
    detail = f"no upstream could be reached: {failure.detail}"
    return Opening(refusal=Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "upstream-unavailable", detail, retry_after=1))


def gone(code: int, reason: str) -> Opening:
    """Return the opening for clients whose upstream closed between its handshake and the opening of its gate."""
    detail = f"upstream closed with {code} {reason}".strip()
    return Opening(refusal=Refusal(HTTPStatus.BAD_GATEWAY, "upstream-closed", detail))


def closed(error: str, reason: str) -> Opening:
    """Return the opening for clients whose session is closed by the proxy; `error` is the name of the refusal."""
    return Opening(refusal=Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error, reason, retry_after=1))
