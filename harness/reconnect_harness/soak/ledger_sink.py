"""Judges the messages of a soak as they arrive, and counts them in a ledger. Nothing grows with the time that it lasts.

Streams of a soak are gapless: what arrives of one is `1, 2, 3 …`, up to where its sender stopped, or its connection
ended. So the last number is all that has to be remembered of a stream, and that is in the ledger; the account of a
stream (`checks.stream_account`) is kept only while some of its numbers are lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconnect_harness.checks.stream_account import Flaw, StreamAccount
from reconnect_harness.history.message import Direction, MessageLabel
from reconnect_harness.soak.ledger import Counted, Ledger, LedgerRow, StreamMarks

#: How many lost numbers of a stream are remembered, to tell messages that arrive late from those that arrive again.
REMEMBERED = 1000

#: How many streams a `RecentStreams` remembers.
RECENT = 16

_COUNTS: Mapping[Flaw, Counted] = {
    Flaw.LOST: Counted.LOST,
    Flaw.DUPLICATED: Counted.REPEATED,
    Flaw.REORDERED: Counted.REORDERED,
    Flaw.CORRUPTED: Counted.CORRUPTED,
    Flaw.MISDELIVERED: Counted.MISDELIVERED,
}


class RecentStreams:
    """The last numbers of the `RECENT` latest streams, as `StreamMarks` has them. `latest` is the last of these."""

    def __init__(self) -> None:
        self.latest: str | None = None
        self._last: dict[str, int] = {}

    def last(self, stream: str) -> int:
        return self._last.get(stream, 0)

    def set(self, stream: str, number: int) -> None:
        self.latest = stream
        self._last[stream] = number
        if len(self._last) > RECENT:
            del self._last[next(iter(self._last))]


class LedgerSink:
    """What one peer, or several of a kind, report to a ledger: a `history.recorder.EventSink`.

    It keeps the last numbers of the streams that arrive, and of those that are sent, where they matter. `once` is
    whether a message may arrive once only, and `per_link` whether each outgoing stream ends with its link, which has
    the same name.
    """

    def __init__(
        self,
        ledger: Ledger,
        row: LedgerRow,
        incoming: StreamMarks | RecentStreams,
        outgoing: StreamMarks | None = None,
        *,
        once: bool = False,
        per_link: bool = False,
    ) -> None:
        self.said: Mapping[str, int] = {}
        self.ledger = ledger
        self.row = row
        self.incoming = incoming
        self.outgoing = outgoing
        self._once = once
        self._per_link = per_link
        # The accounts of streams of which numbers are lost.
        self._accounts: dict[str, StreamAccount] = {}
        # The client of each session with a link, at an upstream.
        self._clients: dict[str, str] = {}

    def sent(self, name: str, direction: Direction, message: MessageLabel) -> None:
        self.row.add(Counted.SENT)
        if self.outgoing is not None:
            self.outgoing.set(message.stream, message.number)

    def refused(self, name: str, direction: Direction, message: MessageLabel) -> None:
        """Counted a message as not sent: the socket did not take it. Its stream ends here."""
        self.row.add(Counted.SENT, -1)

    def received(self, name: str, direction: Direction, message: MessageLabel, session: str = "") -> None:
        """Counted a message that arrived, and judge it."""
        self.row.add(Counted.ARRIVED)
        wrong = message.wrong
        if wrong is not None:
            self._count(Flaw.CORRUPTED, name, message, f"is wrong: {wrong}")
            return
        if message.direction != direction:
            self._count(Flaw.MISDELIVERED, name, message, f"was misdelivered: it came {direction}")
            return
        stream = message.stream
        if (elsewhere := self._elsewhere(stream, session)) is not None:
            self._count(Flaw.MISDELIVERED, name, message, f"was misdelivered: {elsewhere}")
            return
        last = self.incoming.last(stream)
        account = self._accounts.get(stream)
        if account is None:
            account = StreamAccount(last, gapless=True, remembered=REMEMBERED)
        arrival = account.take(message.number)
        if account.furthest > last:
            self.incoming.set(stream, account.furthest)
        if arrival.was_lost:
            self.row.add(Counted.LOST, -1)
        if arrival.skipped:
            # A connection delivers in order, so what was overtaken need not be waited for.
            account.write_off()
            self._count(Flaw.LOST, name, message, f"came after number {last}", arrival.skipped)
        elif arrival.flaw is Flaw.REORDERED:
            self._count(Flaw.REORDERED, name, message, f"came after number {last}")
        elif arrival.flaw is Flaw.DUPLICATED and self._once:
            self._count(Flaw.DUPLICATED, name, message, "came again")
        elif arrival.flaw is Flaw.DUPLICATED:
            self.row.add(Counted.REPEATED)
        if account.has_lost:
            self._accounts[stream] = account
        else:
            self._accounts.pop(stream, None)

    def arrived(self, name: str) -> int:
        """Return how many messages have arrived at all peers of the row."""
        return self.row.counts()[Counted.ARRIVED]

    def link(self, name: str, event: str, *, asked: bool, code: int | None = None, reason: str = "") -> None:
        if event == "connected":
            self.row.add(Counted.LINKS)
        elif event == "disconnected":
            self._clients.pop(name, None)
            if not asked:
                self.row.add(Counted.CUT)
            if self._per_link and self.outgoing is not None:
                self.outgoing.remove(name)

    def _elsewhere(self, stream: str, session: str) -> str | None:
        """Return in words where a message has arrived, if it is of another session or for another client."""
        client = stream.partition(".")[0]
        if session and session not in self._clients:
            self._clients[session] = client
            self.row.owners.set_owner(session, stream)
        owner = self._clients.get(session, client)
        return None if owner == client else f"it came in the session of {owner}"

    def _count(self, flaw: Flaw, name: str, message: MessageLabel, what: str, number: int = 1) -> None:
        count = _COUNTS[flaw]
        self.row.add(count, number)
        described = f"{message.direction} {message.stream} number {message.number} {what}"
        self.ledger.describe(described, count=count, name=name)
