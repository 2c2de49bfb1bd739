"""What an aware peer has sent and cannot forget yet: PROTOCOL.md section 4, written from its text.

    1 ... confirmed | confirmed+1 ... sent | sent+1 ... added
      forgotten       sent on this link,     not sent on this link
                      no Pong yet

It shares no code with the proxy. `reconnect_proxy.core` (outbox, confirmation, link) implements the same rules for the
proxy and for its clients (`reconnect_proxy.client.aware_session`), so that each implementation tests the other. Mock
upstreams, simulated ones and the servers of tests use this one. It does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

#: A Ping follows after so many messages, after so many characters or bytes of payload, or so many seconds after the
#: first message that no Ping covers; and not more than so many wait for their Pong.
PING_AFTER_MESSAGES = 64
PING_AFTER_BYTES = 256 * 1024
PING_AFTER_SECONDS = 0.1
PINGS_IN_FLIGHT = 4


class ImpossibleCount(ValueError):
    """The other side says that it has received less than it confirmed, or more than it was sent."""


class UnconfirmedMessages:
    """The messages of one stream that the other side has not confirmed; `time` returns the present time in seconds.

    Attributes:
        sent: how many messages were sent, on this link or before it.
        confirmed: how many the other side has said that it received.

    """

    def __init__(self, time: Callable[[], float]) -> None:
        self.sent = self.confirmed = self._added = 0
        self._time = time
        # The highest value of `sent` so far: a lost link may have carried more than this one has.
        self._furthest = 0
        self._kept: dict[int, str | bytes] = {}
        # The Pings of this link that wait for a Pong, the oldest first, and the last message that a Ping covers.
        self._pings: list[int] = []
        self._covered = 0
        # The size of what no Ping covers, and when the first of it was sent.
        self._size = 0
        self._since = 0.0

    def __len__(self) -> int:
        """Return how many messages are kept."""
        return len(self._kept)

    def add(self, message: str | bytes) -> None:
        """Keep a message, to be sent on this link or the next."""
        self._added += 1
        self._kept[self._added] = message

    def resume(self, count: int) -> None:
        """Begin a link to a peer that has received `count` messages; the others are due.

        Raises:
            ImpossibleCount: it confirmed more than that, or was never sent so many. Nothing changes.

        """
        if not self.confirmed <= count <= self._furthest:
            raise ImpossibleCount(
                f"{count} messages received? {self.confirmed} are confirmed, and {self._furthest} were sent"
            )
        self._confirm(count)
        self.sent = self._covered = count
        self._pings.clear()
        self._size = 0

    def due(self) -> Iterator[str | bytes | int]:
        """Yield what is to be sent now, and count it as sent: messages, and the number for each Ping between them."""
        while self.sent < self._added:
            if self.sent == self._covered:
                self._since = self._time()
            self.sent += 1
            self._furthest = max(self._furthest, self.sent)
            message = self._kept[self.sent]
            self._size += len(message)
            yield message
            yield from self._due_ping()
        yield from self._due_ping()

    def due_in(self) -> float | None:
        """Return in how many seconds a Ping is due if nothing else is sent; None if none is, or too many wait."""
        if self.sent == self._covered or len(self._pings) >= PINGS_IN_FLIGHT:
            return None
        if self.sent - self._covered >= PING_AFTER_MESSAGES or self._size >= PING_AFTER_BYTES:
            return 0.0
        return max(0.0, self._since + PING_AFTER_SECONDS - self._time())

    def pong(self, number: int) -> None:
        """Forget the messages up to `number`, for which a Pong has come. One that no Ping waits for is ignored.

        Raises:
            ImpossibleCount: no link was ever sent so many.

        """
        if number > self._furthest:
            raise ImpossibleCount(f"a Pong confirms {number} messages, and {self._furthest} were sent")
        if number in self._pings:
            self._pings = [ping for ping in self._pings if ping > number]
            self._confirm(number)

    def _due_ping(self) -> Iterator[int]:
        if self.due_in() == 0.0:
            self._pings.append(self.sent)
            self._covered = self.sent
            self._size = 0
            yield self.sent

    def _confirm(self, number: int) -> None:
        while self.confirmed < number:
            self.confirmed += 1
            del self._kept[self.confirmed]
