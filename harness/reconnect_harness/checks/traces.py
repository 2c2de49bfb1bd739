"""Traces: the way of each message to each of its receivers, in seconds from the start of the traffic.

The report draws them. A message that arrives twice has two traces, and so has a message that goes to two clients. The
flaws are those of `checks.judged`, so the report shows what the checkers count.
"""

from __future__ import annotations

from typing import NamedTuple

from reconnect_harness.checks.judged import JudgedMessage, judged
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End


class Trace(NamedTuple):
    """The way of one message to one receiver; moments are seconds from the start of the traffic."""

    session: str
    """The client that it belongs to, or the stream where no client is known."""
    direction: Direction
    number: int
    size: int
    """Bytes as sent, or as received where it was never sent."""
    sent: float | None
    """None for a message that was never sent."""
    arrived: float | None
    """None for a message that never arrived."""
    flaws: tuple[Flaw, ...] = ()
    what: str = ""
    """How a corrupted message differs from what was sent."""

    @property
    def t(self) -> float:
        """The moment of its arrival, or of its sending where it never arrived."""
        moment = self.sent if self.arrived is None else self.arrived
        assert moment is not None, "a message was sent, or arrived, or both"
        return moment

    @property
    def first(self) -> bool:
        """Whether the message was sent, and this is its first arrival or it never arrived."""
        return self.sent is not None and Flaw.DUPLICATED not in self.flaws

    @property
    def travel(self) -> float | None:
        """Seconds from its sending to its first arrival; None if it never arrived, or this is a repeat."""
        if self.sent is None or self.arrived is None or not self.first:
            return None
        return max(0.0, self.arrived - self.sent)


def traces(history: History) -> list[Trace]:
    """Return the traces of a history, in order of `Trace.t`."""
    found = [_trace(message, history.start) for direction in Direction for message in judged(history, direction)]
    return sorted(found, key=lambda trace: trace.t)


def _problem(message: JudgedMessage) -> str:
    if Flaw.MISDELIVERED in message.flaws:
        return "it was misdelivered"
    return "it was never sent" if message.sending is None else ""


def _trace(message: JudgedMessage, start: float) -> Trace:
    stream, event, sending = message.stream, message.event, message.sending
    return Trace(
        session=stream.name if message.receiver in ("", End.UPSTREAM) else message.receiver,
        direction=stream.direction,
        number=event.number,
        size=event.size if sending is None else sending.size,
        sent=None if sending is None else sending.t - start,
        arrived=None if Flaw.LOST in message.flaws else event.t - start,
        flaws=message.flaws,
        what=event.wrong or _problem(message),
    )
