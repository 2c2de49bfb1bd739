"""A session that several clients share, as those of a receiver do: who is owed which message of the upstream.

Each message is owed to somebody: where no client is there, to the first one that comes. And it is owed to every client
that is there when it is sent, and stays long enough to get it.

    c01   came ├───────────── owed ─────────────┤ 1 s ┤ left
    c02                  came ├──── owed ────┤ 1 s ┤ left
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from reconnect_harness.history.history import History, MessageStream
from reconnect_harness.history.record import End, MessageEvent

#: How long before a client leaves it need not get what is sent any more, in seconds: that may still be under way.
UNDER_WAY_SECONDS = 1.0


def owed_to_all(history: History, stream: MessageStream) -> Iterator[tuple[str, list[MessageEvent]]]:
    """Yield what of a stream of the upstream is owed: to anybody (``""``), and to each client by name."""
    owed = list(stream.owed)
    yield "", owed
    # What nobody got is wrong once, and not once for each client as well.
    arrived = stream.numbers()
    for client, spans in attendance(history).items():
        yield (
            client,
            [event for event in owed if event.number in arrived and any(came <= event.t < to for came, to in spans)],
        )


def attendance(history: History) -> dict[str, list[tuple[float, float]]]:
    """Return for each client the spans of time in which what is sent is owed to it, `time.monotonic` seconds."""
    spans: dict[str, list[tuple[float, float]]] = {}
    came: dict[str, float] = {}
    for event in history.links:
        if event.end is not End.CLIENT:
            continue
        if event.event == "connected":
            came[event.name] = event.t
        elif event.event == "disconnected" and event.name in came:
            spans.setdefault(event.name, []).append((came.pop(event.name), event.t - UNDER_WAY_SECONDS))
    for name, t in came.items():
        spans.setdefault(name, []).append((t, math.inf))
    return spans
