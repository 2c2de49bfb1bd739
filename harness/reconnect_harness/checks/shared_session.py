"""A session that several clients share, as those of a receiver do: which message of the upstream is owed to whom.

Each message has to arrive at one client at least: where no client is connected, at the first one that comes. It also
has to arrive at every client that is connected when it is sent, and stays connected long enough to receive it.

    c01   connected ├──────── owed ────────┤ 1 s ┤ disconnected
    c02            connected ├──── owed ────┤ 1 s ┤ disconnected
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from reconnect_harness.history.history import History, MessageStream
from reconnect_harness.history.record import End, MessageEvent

#: What is sent less than this long before a client disconnects need not arrive at that client, in seconds.
UNDER_WAY_SECONDS = 1.0


def owed_to_all(history: History, stream: MessageStream) -> Iterator[tuple[str, list[MessageEvent]]]:
    """Yield each receiver of a stream of the upstream, and the messages that have to arrive there.

    A message that arrived nowhere is owed to the receiver "", which stands for any client, and to no other: it is lost
    once.
    """
    arrived = stream.numbers()
    owed = list(stream.owed)
    yield "", [event for event in owed if event.number not in arrived]
    spans = attendance(history)
    for client in dict.fromkeys([*spans, *stream.received]):
        there = spans.get(client, [])
        yield (
            client,
            [event for event in owed if event.number in arrived and any(t0 <= event.t < t1 for t0, t1 in there)],
        )


def attendance(history: History) -> dict[str, list[tuple[float, float]]]:
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
