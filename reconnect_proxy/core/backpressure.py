"""Which legs of a session are read: the rule of backpressure, and where it does not hold.

**The rule.** A full outbox stops the reading of the leg that feeds it, until it has emptied. TCP holds that peer back,
and nothing is lost.

**Pongs are the exception.** What empties an outbox are Pongs, and they arrive on the leg that the other outbox may have
stopped. With both full, neither would ever empty:

    client   not read, for c2u is full     its Pongs, which would empty u2c, wait in its socket
    upstream not read, for u2c is full     its Pongs, which would empty c2u, wait in its socket

So a client that has been sent everything it is owed is read although `c2u` is full, for its Pongs alone. The messages
that come with them let `c2u` grow past its mark. `ReadForPongs` limits that: past the limit the session ends.

**Several clients.** A full outbox of one holds the upstream back for all of them, for a second at most: see
`slow_client`.
"""

from __future__ import annotations

from .clients import Clients
from .outbox import Outbox
from .stream import Stream
from .upstream import Upstream

#: How far the `c2u` outbox may pass its high-water mark while the client is read for its Pongs alone, as a factor.
HARD_LIMIT = 2


def regulate(c2u: Stream, u2c: Stream, clients: Clients, upstream: Upstream) -> bool:
    """Stop reading the legs that feed a full outbox, and read them again once that outbox has emptied.

    Returns whether a client is read for its Pongs alone.
    """
    stop_upstream = u2c.holds_back
    if stop_upstream and len(u2c.receivers) > 1:
        clients.compare()
    if upstream.link is not None:
        # A gate opens with a message, so a gated link is read in any case.
        upstream.link.regulate(stop_upstream and upstream.link.open)
    rates = clients.rates
    if not c2u.holds_back:
        for client in u2c.receivers:
            client.regulate(rates is not None and rates.too_fast(client))
        return False
    for_pongs = False
    for client in u2c.receivers:
        waits_for_pong = client.outbox.full and not client.outbox.pending
        client.regulate(not waits_for_pong or (rates is not None and rates.too_fast(client)))
        for_pongs = for_pongs or waits_for_pong
    return for_pongs


class ReadForPongs:
    """How much a full outbox has grown since its client is read for Pongs alone."""

    __slots__ = ("_held_at_first", "_outbox", "_slack")

    def __init__(self, outbox: Outbox, slack: int) -> None:
        """Begin. `slack` is what the sockets may hold in front of a Pong, in bytes."""
        self._outbox = outbox
        self._slack = slack
        self._held_at_first = outbox.bytes_held

    @property
    def exceeded(self) -> bool:
        """Whether it has grown too far.

        It may reach HARD_LIMIT times its mark, or pass the mark by what sockets may hold in front of a Pong. While all
        sessions together hold too much, it may also grow by no more than the budget allows.
        """
        held, mark, slack = self._outbox.bytes_held, self._outbox.high_water, self._slack
        too_much = held > max(HARD_LIMIT * mark, mark + slack)
        return too_much or held - self._held_at_first > self._outbox.allowance(slack)
