"""A session whose messages pass through a filter of the embedding program, which may replace or drop them.

It is a class of its own so that every other session does not even ask whether there is a filter. A message is shown to
the filter once, when it is received, and what the filter makes of it is what the stream consists of: a resend after a
lost link repeats that and asks nobody. Control messages (PROTOCOL.md section 5) are no data and are not shown.

Towards the peer that sent it a dropped message was received: the proxy has taken responsibility for it, so it is in
the count of `X-Reconnect-Received` (`received_from_client`, `received_from_upstream`). Towards the peer at the
other end it never existed, and the numbers of the stream go on without it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from ..events import LegName, MessagesDropped, Observe
from .budget import MemoryBudget
from .clock import Clock
from .context import Context, SessionState
from .link import Link
from .outbox import Message
from .policy import Policy
from .pool import Pool
from .upstream import Dialler


class Direction(StrEnum):
    """The two streams of a session, PROTOCOL.md section 1: from the client to the upstream, and back."""

    C2U = "c2u"
    U2C = "u2c"


#: Returns what takes the place of a message: the same one, another, or None to drop it. It must not raise, and must not
#: call the session.
Filter = Callable[[Direction, Message], Message | None]


class FilteredContext(Context):
    """A session that shows each message it receives to a `Filter`."""

    #: For mypyc: what is deleted at the end.
    __deletable__ = ["_filter"]  # noqa: RUF012 - mypyc wants a list

    __slots__ = ("_filter", "dropped_c2u", "dropped_u2c")

    def __init__(
        self,
        session_id: str | None,
        pool: Pool,
        dialler: Dialler,
        clock: Clock,
        policy: Policy,
        observe: Observe,
        on_ended: Callable[[Context], None],
        message_filter: Filter,
        budget: MemoryBudget | None = None,
    ) -> None:
        """Make a session as `Context` does; `message_filter` sees what it receives."""
        super().__init__(session_id, pool, dialler, clock, policy, observe, on_ended, budget)
        self._filter = message_filter
        # Messages that were received and are no part of the stream.
        self.dropped_c2u = self.dropped_u2c = 0

    @property
    def received_from_client(self) -> int:
        """How many `c2u` messages were received so far, with those that went no further: they had their Pong."""
        return self.uncounted_c2u.received(self.c2u) + self.dropped_c2u

    @property
    def received_from_upstream(self) -> int:
        """How many `u2c` messages were received so far, with those that went no further: they had their Pong."""
        return self.uncounted_u2c.received(self.u2c) + self.dropped_u2c

    def client_message(self, link: Link | None, opcode: int, payload: bytes) -> None:
        """Take a data message of a client, if the filter lets it pass."""
        if self._owed_to is LegName.CLIENT:
            # Nobody is left to deliver it to: nothing to decide.
            super().client_message(link, opcode, payload)
            return
        message = self._filter(Direction.C2U, (opcode, payload))
        if message is None:
            self.dropped_c2u += 1
        else:
            opcode, payload = message
            super().client_message(link, opcode, payload)

    def upstream_message(self, link: Link | None, opcode: int, payload: bytes) -> None:
        """Take a data message of the upstream, if the filter lets it pass."""
        if self._owed_to is LegName.UPSTREAM:
            super().upstream_message(link, opcode, payload)
            return
        message = self._filter(Direction.U2C, (opcode, payload))
        if message is None:
            self.dropped_u2c += 1
        else:
            opcode, payload = message
            super().upstream_message(link, opcode, payload)

    def _finish(self, code: int, reason: str) -> None:
        if self.state is SessionState.ENDED:
            return
        if self.dropped_c2u or self.dropped_u2c:
            self._tell(MessagesDropped(self.session_id or "", self.dropped_c2u, self.dropped_u2c))
        super()._finish(code, reason)
        # Nothing is received any more, and whoever filters may refer to this.
        del self._filter
