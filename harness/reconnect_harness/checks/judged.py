"""Every message of a history at every receiver that it was for, with its flaws by the rules of `checks.stream_account`.

The checkers count these, and the report draws them (`checks.traces`).

In a session that several clients share, as those of a receiver do, each message of the upstream has to arrive at one
client at least: where no client is connected, at the first one that comes. It also has to arrive at every client that
is connected when it is sent, and stays connected long enough to receive it.

    c01   connected ├──────── owed ────────┤ 1 s ┤ disconnected
    c02            connected ├──── owed ────┤ 1 s ┤ disconnected

Where clients talk to an application of the user's own, the audience of a message (`history.audience`) has to receive
it: its sender all that it sent, another client what was sent while it was connected. Elsewhere it is misdelivered.

Elsewhere a stream belongs to one client. A session of an upstream is that of the client from which most of its messages
are (`History.owners`); where no message arrived in it, that of the client at which most of them arrived. A message that
arrives in the session of another client, at another client, or at the end that sent it, is misdelivered. A wrong
receiver is owed nothing; the right one still is.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from reconnect_harness.checks.stream_account import Flaw, StreamAccount
from reconnect_harness.history.audience import Audience
from reconnect_harness.history.history import History, MessageStream
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, MessageEvent

#: What is sent less than this long before a client disconnects need not arrive at that client, in seconds.
UNDER_WAY_SECONDS = 1.0


class JudgedMessage(NamedTuple):
    """One arrival of a message at one receiver, or a message that never arrived there."""

    stream: MessageStream
    receiver: str
    """The client that received it, or was to; "" where no client is known."""
    event: MessageEvent
    """The arrival; of a lost message the sending."""
    sending: MessageEvent | None
    """None where no such message was sent."""
    flaws: tuple[Flaw, ...] = ()
    furthest: int = 0
    """The highest number of the stream that had arrived there before."""
    session_of: str = ""
    """The client in whose session a misdelivered message arrived; "" where that is not known."""


def judged(history: History, direction: Direction) -> Iterator[JudgedMessage]:
    """Yield the messages of one direction, stream by stream and receiver by receiver."""
    audience = history.audience
    back = {stream.name: stream for stream in history.streams[direction.opposite]}
    for stream in history.streams[direction]:
        if not stream.sent and (sender := back.get(stream.name)) is not None and sender.sent:
            yield from _returned(stream, sender)
            continue
        if audience is None and not history.shared:
            yield from _of_one_client(history, stream)
            continue
        for receiver, owed in _owed(history, stream):
            if audience is None or not receiver or audience.includes(stream.name, receiver):
                yield from _at_receiver(stream, receiver, owed)
                continue
            for event in stream.received.get(receiver, ()):
                yield JudgedMessage(stream, receiver, event, stream.sent.get(event.number), (Flaw.MISDELIVERED,))


def _returned(stream: MessageStream, sender: MessageStream) -> Iterator[JudgedMessage]:
    """Yield the messages of a stream of the other direction: they came back to the end that sent them."""
    for receiver, events in stream.received.items():
        for event in events:
            yield JudgedMessage(stream, receiver, event, sender.sent.get(event.number), (Flaw.MISDELIVERED,))


def _of_one_client(history: History, stream: MessageStream) -> Iterator[JudgedMessage]:
    """Yield the messages of a stream that belongs to one client."""
    owner = owner_of(history, stream)
    right: dict[str, list[MessageEvent]] = {}
    for receiver, events in stream.received.items():
        for event in events:
            client = history.owners.get(event.session, owner) if receiver == End.UPSTREAM else receiver
            # A link of c01 with a label is c01.LABEL.
            if not stream.sent or client.partition(".")[0] == owner:
                right.setdefault(receiver, []).append(event)
                continue
            flaws = (Flaw.MISDELIVERED, Flaw.CORRUPTED) if event.wrong else (Flaw.MISDELIVERED,)
            of = client if receiver == End.UPSTREAM else ""
            yield JudgedMessage(stream, receiver, event, stream.sent.get(event.number), flaws, session_of=of)
    rightly = MessageStream(stream.name, stream.direction, stream.sent, stream.refused, right)
    # A stream that nothing of arrived is lost once, and not once for each client.
    for receiver in right or [""]:
        yield from _at_receiver(rightly, receiver, list(stream.owed))


def owner_of(history: History, stream: MessageStream) -> str:
    """Return the client that a stream belongs to; "" where nothing of it arrived at any."""
    if any(event.end is End.CLIENT for event in stream.sent.values()) or stream.name in history.speakers:
        return stream.name
    if stream.name in history.owners:
        return history.owners[stream.name]
    return max(stream.received, key=lambda client: len(stream.received[client]), default="").partition(".")[0]


def _owed(history: History, stream: MessageStream) -> Iterator[tuple[str, Sequence[MessageEvent]]]:
    """Yield each receiver of a stream, and the messages that have to arrive there."""
    if history.shared and stream.direction is Direction.U2C:
        yield from _owed_to_all(history, stream)
        return
    if history.audience is not None:
        yield from _owed_to_audience(history, stream, history.audience)
        return
    for receiver in stream.received or [""]:
        yield receiver, list(stream.owed)


def _owed_to_all(history: History, stream: MessageStream) -> Iterator[tuple[str, list[MessageEvent]]]:
    """Yield each receiver of a stream of the upstream, and the messages that have to arrive there.

    A message that arrived nowhere is owed to the receiver "", which stands for any client, and to no other: it is lost
    once.
    """
    arrived = stream.numbers()
    owed = list(stream.owed)
    yield "", [event for event in owed if event.number not in arrived]
    spans = _attendance(history)
    for client in dict.fromkeys([*spans, *stream.received]):
        there = spans.get(client, [])
        yield (
            client,
            [event for event in owed if event.number in arrived and any(t0 <= event.t < t1 for t0, t1 in there)],
        )


def _owed_to_audience(
    history: History, stream: MessageStream, audience: Audience
) -> Iterator[tuple[str, list[MessageEvent]]]:
    """Yield each client, and the messages of a stream that have to arrive there."""
    owed = list(stream.owed)
    spans = _attendance(history)
    for client in dict.fromkeys([stream.name, *spans, *stream.received]):
        there = spans.get(client, [])
        if client == stream.name:
            yield client, owed if audience.includes(client, client) else []
        elif audience.includes(stream.name, client):
            # A client that has come back is a member of its room a moment later.
            late = [(t0 if t0 <= history.start else t0 + UNDER_WAY_SECONDS, t1) for t0, t1 in there]
            yield client, [event for event in owed if any(t0 <= event.t < t1 for t0, t1 in late)]
        elif client in stream.received:
            yield client, []


def _attendance(history: History) -> dict[str, list[tuple[float, float]]]:
    """Return for each client the spans of time in which what is sent is owed to it, in `time.monotonic` seconds."""
    spans: dict[str, list[tuple[float, float]]] = {}
    connected: dict[str, float] = {}
    for event in history.links:
        if event.end is not End.CLIENT:
            continue
        if event.event == "connected":
            connected[event.name] = event.t
        elif event.event == "disconnected" and event.name in connected:
            spans.setdefault(event.name, []).append((connected.pop(event.name), event.t - UNDER_WAY_SECONDS))
    for name, t in connected.items():
        spans.setdefault(name, []).append((t, math.inf))
    return spans


def _at_receiver(stream: MessageStream, receiver: str, owed: Sequence[MessageEvent]) -> Iterator[JudgedMessage]:
    account = StreamAccount()
    for number in stream.sent:
        account.owe(number)
    arrivals = stream.received.get(receiver, ())
    come = {event.number for event in arrivals if event.size}
    for event in arrivals:
        flaws = []
        furthest = account.furthest
        if not event.size:
            event = event._replace(number=_number_if_empty(stream, event.number, come))
        sending = stream.sent.get(event.number)
        if sending is not None and (flaw := account.take(event.number).flaw) is not None:
            flaws.append(flaw)
        if sending is not None and not event.size:
            event = event._replace(wrong=_wrong_if_empty(event, sending))
        if sending is None or event.wrong:
            flaws.append(Flaw.CORRUPTED)
        yield JudgedMessage(stream, receiver, event, sending, tuple(flaws), furthest)
    missing = frozenset(account.close())
    for event in owed:
        if event.number in missing:
            yield JudgedMessage(stream, receiver, event, event, (Flaw.LOST,), account.furthest)


def _number_if_empty(stream: MessageStream, number: int, come: Container[int]) -> int:
    """Return the number of an empty message, which was taken for the next one: those before it may have been lost."""
    following = number
    while following in stream.sent and stream.sent[following].size and following not in come:
        following += 1
    sending = stream.sent.get(following)
    return following if sending is not None and not sending.size else number


def _wrong_if_empty(event: MessageEvent, sending: MessageEvent) -> str | None:
    """Return what is wrong with an empty message, which counts as the next one of its stream."""
    if sending.size:
        return f"an empty message came, {sending.size} bytes were sent"
    return None if event.kind is sending.kind else f"sent as {sending.kind}, came as {event.kind}"
