"""A dial as values: its `DialRank`, what it says (`DialRequest`), and how it ends (`DialAnswer` or `DialFailure`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum

from .wire import Claim


class DialRank(IntEnum):
    """Which of the sessions that wait for one target dials first."""

    #: A client is attached to a session that was connected before.
    RESUMES = 0
    #: A client waits for the first dial of its session.
    OPENS = 1
    #: A client is attached to a session whose first dial has failed.
    RETRIES = 2
    #: No client is attached.
    ABSENT = 3


@dataclass(slots=True)
class DialRequest:
    """One attempt to reach an upstream: where, and what the request says about the session."""

    url: str
    # None: the upstream's first message will bring the id.
    session_id: str | None
    # The session was connected before: X-Reconnect and X-Reconnect-Id are sent.
    redial: bool
    # How many `u2c` messages were received so far.
    received: int
    # What the session has agreed on. None before it has: then the client's own offers are sent.
    subprotocol: str | None

    @property
    def claim(self) -> Claim:
        """What the request claims (PROTOCOL.md section 3): a new session at first, the same one on a redial."""
        new, known = (None, self.session_id) if self.redial else (self.session_id, None)
        return Claim(new, known, self.received)


@dataclass(slots=True)
class DialAnswer:
    """An upstream's 101."""

    # The count of an aware upstream; None from any other.
    received: int | None = None
    subprotocol: str | None = None
    # End-to-end headers for the client's 101.
    headers: Sequence[tuple[str, str]] = ()


#: Why a session ends whose aware upstream does not know it any more, or knows another history of it.
SESSION_LOST = "upstream lost the session"


@dataclass(slots=True)
class DialFailure:
    """A dial that failed. `status` is 0 if no HTTP answer came, other than a 101.

    | what came | `rejected` | `incurable` | `final` | `answered` |
    | --- | --- | --- | --- | --- |
    | nothing, or what is not HTTP | | | | |
    | a status from 500 on | | | | yes |
    | a status below 500 | yes | | yes | yes |
    | a 101 that violates RFC 6455 | | yes | yes | yes |
    """

    detail: str
    status: int = 0
    # The whole answer if it is below 500, for the clients that wait: a matter between the dialler and the listener.
    answer: object = None
    # A server took the connection, even if it failed afterwards.
    taken: bool = False
    # It was answered with a 101 that violates RFC 6455, or is malformed: the same server will answer the same again.
    incurable: bool = False

    @property
    def rejected(self) -> bool:
        """Whether the upstream is there and said no: an HTTP answer below 500."""
        return 0 < self.status < 500

    @property
    def final(self) -> bool:
        """Whether the client of a first dial is told at once. Any other failure may pass with time."""
        return self.rejected or self.incurable

    def ends_session(self, final_status: Collection[int], knew_it: bool) -> str | None:
        """Return why a redial that failed so is the last one; None: another may succeed.

        Args:
            final_status: the HTTP statuses that are configured to be final.
            knew_it: an aware upstream has had this session.
        """
        if knew_it and self.status in (409, 410):
            return SESSION_LOST
        if self.status in final_status:
            return f"upstream refused the session: {self.status}"
        return f"upstream cannot be redialled: {self.detail}" if self.incurable else None

    @property
    def answered(self) -> bool:
        """Whether an HTTP answer came, which proves that the upstream is there."""
        return self.status > 0 or self.incurable
