"""Every message of a history at every receiver that it was for, with its flaws by the rules of `checks.stream_account`.

The checkers count these, and the report draws them (`checks.traces`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from reconnect_harness.checks.shared_session import owed_to_all
from reconnect_harness.checks.stream_account import Flaw, StreamAccount
from reconnect_harness.history.history import History, MessageStream
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import MessageEvent


class JudgedMessage(NamedTuple):
    """One arrival of a message at one receiver, or a message that never arrived there.

    Attributes:
        stream: the stream that the message names.
        receiver: the client that received it, or was to; "" where no client is known.
        event: the arrival; of a lost message the sending.
        sending: None where no such message was sent.
        flaws: what is wrong with it.
        furthest: the highest number of the stream that had arrived there before.

    """

    stream: MessageStream
    receiver: str
    event: MessageEvent
    sending: MessageEvent | None
    flaws: tuple[Flaw, ...] = ()
    furthest: int = 0


def judged(history: History, direction: Direction) -> Iterator[JudgedMessage]:
    """Yield the messages of one direction, stream by stream and receiver by receiver."""
    for stream in history.streams[direction]:
        for receiver, owed in _owed(history, stream):
            yield from _at_receiver(stream, receiver, owed)


def _owed(history: History, stream: MessageStream) -> Iterator[tuple[str, Sequence[MessageEvent]]]:
    """Yield each receiver of a stream, and the messages that have to arrive there."""
    if history.shared and stream.direction is Direction.U2C:
        yield from owed_to_all(history, stream)
        return
    # A stream that nothing of arrived is lost once, and not once for each client.
    for receiver in stream.received or [""]:
        yield receiver, list(stream.owed)


def _at_receiver(stream: MessageStream, receiver: str, owed: Sequence[MessageEvent]) -> Iterator[JudgedMessage]:
    account = StreamAccount()
    for number in stream.sent:
        account.owe(number)
    for event in stream.received.get(receiver, ()):
        flaws = []
        furthest = account.furthest
        sending = stream.sent.get(event.number)
        if sending is not None and (flaw := account.take(event.number).flaw) is not None:
            flaws.append(flaw)
        if sending is None or event.wrong:
            flaws.append(Flaw.CORRUPTED)
        yield JudgedMessage(stream, receiver, event, sending, tuple(flaws), furthest)
    missing = frozenset(account.close())
    for event in owed:
        if event.number in missing:
            yield JudgedMessage(stream, receiver, event, event, (Flaw.LOST,), account.furthest)
