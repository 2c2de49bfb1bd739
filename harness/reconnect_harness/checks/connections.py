"""What is lost or late within one connection: what no fault explains, as TCP delivers a beginning of what was sent.

    sent on one connection     1 2 3 4 5 6 7        the connection is lost
    arrived                    1 2   4 5            6 and 7 may be lost with it; 3 was lost while it was connected

A system that is transparent loses connections, with what is under way. It may still not lose a message of which a later
one arrives, nor change the order within a connection. `client_disconnects` and `lost` cannot tell that, and this can.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from reconnect_harness.checks.judgement import Finding, Violation
from reconnect_harness.history.history import History, MessageStream
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, MessageEvent


def within_connection(history: History) -> Finding:
    """Find the messages that never arrived, or arrived later, though one that was sent later on their connection did.

    What is sent while an end has two connections under one name belongs to no known one, and is left out.
    """
    if history.shared or history.audience is not None:
        return Finding(None)
    epochs = _epochs(history)
    return Finding.counted(
        violation
        for direction in Direction
        for stream in history.streams[direction]
        for violation in _of_stream(stream, epochs)
    )


class _Epochs:
    """The spans of time in which an end has one connection under a name."""

    def __init__(self) -> None:
        self._moments: list[float] = []
        self._open: list[int] = [0]

    def add(self, moment: float, change: int) -> None:
        self._moments.append(moment)
        self._open.append(max(0, self._open[-1] + change))

    def at(self, moment: float) -> int | None:
        """Return which span a moment is in; None if there are several connections then, or none."""
        index = bisect.bisect_right(self._moments, moment)
        return index if self._open[index] == 1 else None


def _epochs(history: History) -> dict[tuple[End, str], _Epochs]:
    found: dict[tuple[End, str], _Epochs] = {}
    for event in history.links:
        if event.event in ("connected", "disconnected"):
            change = 1 if event.event == "connected" else -1
            found.setdefault((event.end, event.name), _Epochs()).add(event.t, change)
    return found


def _of_stream(stream: MessageStream, epochs: dict[tuple[End, str], _Epochs]) -> Iterator[Violation]:
    by_epoch: dict[int, list[MessageEvent]] = {}
    for event in stream.owed:
        spans = epochs.get((event.end, stream.name))
        epoch = None if spans is None else spans.at(event.t)
        if epoch is not None:
            by_epoch.setdefault(epoch, []).append(event)
    first: dict[int, float] = {}
    for event in sorted(event for events in stream.received.values() for event in events):
        first.setdefault(event.number, event.t)
    for sent in by_epoch.values():
        yield from _of_connection(sent, first)


def _of_connection(sent: list[MessageEvent], first: dict[int, float]) -> Iterator[Violation]:
    """Yield what is wrong with the messages of one connection, in order of number; `first` has when each arrived."""
    earliest: tuple[float, int] | None = None
    for event in reversed(sent):
        arrived = first.get(event.number)
        if earliest is not None and (arrived is None or arrived > earliest[0]):
            how = "never arrived" if arrived is None else "arrived later"
            what = f"{event.direction} {event.stream} number {event.number} ({event.kind}, {event.size} bytes)"
            why = f"number {earliest[1]}, which was sent after it on the same connection, did"
            yield Violation(event.t if arrived is None else arrived, f"{what} {how}, though {why}")
        if arrived is not None and (earliest is None or arrived < earliest[0]):
            earliest = arrived, event.number
