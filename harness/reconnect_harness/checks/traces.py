"""Journeys: what became of each message on its way from one end to the other, with its flaws, if it has any.

A journey is one message to one receiver. What arrives again makes a journey of its own, and so does what nobody sent.
The flaws are those that `checks.checkers` counts, by the same rules; here each has its message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from reconnect_harness.history.history import History, MessageStream
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, MessageEvent


class Flaw(StrEnum):
    """What can be wrong with a journey, by the name of the checker that counts it."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    CORRUPTED = "corrupted"


class Journey(NamedTuple):
    """One message on its way to one receiver.

    `session` is the client it belongs to, or the stream where no client is known. `sent` and `arrived` are seconds from
    the start of the run's traffic; `sent` is None for what nobody sent, `arrived` for what never came. `size` is bytes
    as sent, or as received where nobody sent it. `what` says what is wrong in a corrupted one.
    """

    session: str
    direction: Direction
    number: int
    size: int
    sent: float | None
    arrived: float | None
    flaws: tuple[Flaw, ...] = ()
    what: str = ""

    @property
    def t(self) -> float:
        """When it is told of: the moment of its arrival, or of its sending where it never arrived."""
        moment = self.sent if self.arrived is None else self.arrived
        assert moment is not None, "a journey begins or ends"
        return moment

    @property
    def first(self) -> bool:
        """Whether a message was sent, and this is its first arrival or the want of one."""
        return self.sent is not None and Flaw.DUPLICATED not in self.flaws

    @property
    def travel(self) -> float | None:
        """How long a message was under way until it first arrived, in seconds; None if it never did."""
        if self.sent is None or self.arrived is None or not self.first:
            return None
        return max(0.0, self.arrived - self.sent)


def journeys(history: History) -> list[Journey]:
    """Return the journeys of a history, in order of `Journey.t`."""
    found: list[Journey] = []
    for streams in history.streams.values():
        for stream in streams:
            # A stream that reached nobody is lost once.
            for receiver, events in (stream.received or {"": []}).items():
                found += _journeys(stream, receiver, events, history.start)
    return sorted(found, key=lambda journey: journey.t)


def sessions(found: Iterable[Journey]) -> list[str]:
    """Return the names of the sessions of journeys, in order of name."""
    return sorted({journey.session for journey in found})


def _journeys(stream: MessageStream, receiver: str, events: Iterable[MessageEvent], start: float) -> Iterator[Journey]:
    session = stream.name if receiver in ("", End.UPSTREAM) else receiver
    seen: set[int] = set()
    latest = 0
    for event in events:
        flaws = []
        sent = stream.sent.get(event.number)
        # A message whose header cannot be read has the number 0, and neither a place nor a twin.
        if event.number:
            if event.number in seen:
                flaws.append(Flaw.DUPLICATED)
            elif event.number < latest:
                flaws.append(Flaw.REORDERED)
            seen.add(event.number)
            latest = max(latest, event.number)
        if event.wrong or sent is None:
            flaws.append(Flaw.CORRUPTED)
        yield Journey(
            session,
            stream.direction,
            event.number,
            event.size if sent is None else sent.size,
            None if sent is None else sent.t - start,
            event.t - start,
            tuple(flaws),
            event.wrong or ("" if sent is not None else "nobody sent it"),
        )
    for event in stream.owed:
        if event.number not in seen:
            yield Journey(session, stream.direction, event.number, event.size, event.t - start, None, (Flaw.LOST,))
