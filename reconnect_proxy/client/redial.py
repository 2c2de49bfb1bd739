"""How an aware client gets its next link: how long it waits, how often it tries, and which answers are final.

The budget and the backoff start afresh with each link that has proved itself, so that a proxy which accepts and drops
at once is neither hammered nor tried for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidHandshake, InvalidStatus

from ..core.backoff import wait_before
from .socket import LinkedConnection

__all__ = ["Dial", "Redial", "SessionLost", "refusal"]

#: Refusals of a resume that a later attempt may not meet; any other 4xx is final.
PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})

#: A link that lived this long, in seconds, has proved itself.
PROVEN_AFTER = 3.0

#: Opens a connection whose handshake carries these headers.
Dial = Callable[[dict[str, str]], Awaitable[LinkedConnection]]


class SessionLost(ConnectionClosedError):
    """The session is over and cannot be resumed.

    The proxy does not know it (410), the counts of the two ends disagree (409), or the retry budget is spent.

    Attributes:
        detail: what happened, as a sentence.
        status: the HTTP status of the refusal, or None where no refusal ended the session.
        unconfirmed: messages passed to `send`, in order, that may or may not have arrived.
    """

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(None, None, None)
        self.detail = detail
        self.status = status
        self.unconfirmed: tuple[str | bytes, ...] = ()

    def __str__(self) -> str:
        """Say what happened and how many messages are unconfirmed."""
        return f"{self.detail} ({len(self.unconfirmed)} messages unconfirmed)"


class Redial:
    """The redials of one session, `retry_for` seconds after the loss of a good link at the most."""

    def __init__(self, dial: Dial, retry_for: float) -> None:
        self._dial = dial
        self._retry_for = retry_for
        # Dials since a link last proved itself, and the time at which the budget began to run.
        self._attempts = 0
        self._lost_at = 0.0
        # What the session had carried when a link was last lost.
        self._carried = (0, 0)
        # Handshakes that were given up and may reach the proxy yet, where they take the session over from a good link.
        self._stray = 0

    def lost(self, began: float, carried: tuple[int, int]) -> None:
        """Note the loss of a link that began at that time of the loop.

        It has proved itself if it lived for `PROVEN_AFTER`, or if either count of what the session has `carried`
        (received, confirmed) has grown since the last loss.
        """
        now = asyncio.get_running_loop().time()
        grown, self._carried = carried != self._carried, carried
        if grown or now - began >= PROVEN_AFTER or not self._attempts:
            self._attempts = 0
            self._lost_at = now

    def forgive_takeover(self) -> bool:
        """Tell whether a takeover may be the work of a handshake of our own that was given up; each explains one."""
        if not self._stray:
            return False
        self._stray -= 1
        return True

    async def next_link(self, claim: Callable[[], dict[str, str]], cause: Exception) -> LinkedConnection:
        """Dial with what `claim` returns until there is an answer.

        Raises:
            SessionLost: the answer is final, or the budget is spent; `cause` is blamed if no dial was made.
        """
        loop = asyncio.get_running_loop()
        deadline = self._lost_at + self._retry_for
        while True:
            now = loop.time()
            delay = wait_before(self._attempts, now - self._lost_at, deadline - now)
            self._attempts += 1
            await asyncio.sleep(min(delay, max(deadline - now, 0)))
            if loop.time() >= deadline:
                raise SessionLost(f"there was no link for {self._retry_for:g} s: {cause}") from cause
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._dial(claim())
            except InvalidStatus as refused:
                status = refused.response.status_code
                if 400 <= status < 500 and status not in PASSING:
                    raise refusal(refused) from refused
                cause = refused
            except (OSError, EOFError, InvalidHandshake, ConnectionClosed) as failed:
                if not isinstance(failed, ConnectionRefusedError):
                    self._stray += 1
                cause = failed


def refusal(refused: InvalidStatus) -> SessionLost:
    """Make the end of a session whose resume was answered with an HTTP error."""
    response = refused.response
    body = (response.body or b"").decode("utf-8", "replace")[:200]
    return SessionLost(f"the proxy refused with HTTP {response.status_code}: {body}", response.status_code)
