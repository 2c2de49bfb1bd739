"""Histories made by hand, for the tests of checkers and reports."""

from __future__ import annotations

from collections.abc import Iterable

from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction, MessageKind
from reconnect_harness.history.record import End, FaultRecord, LinkEvent, MessageEvent


def message(
    event: str,
    number: int,
    t: float,
    *,
    direction: Direction = Direction.C2U,
    stream: str = "c01",
    name: str | None = None,
    wrong: str | None = None,
    session: str = "",
) -> MessageEvent:
    """Make one message event, at the end where it belongs by its direction."""
    at_client = (direction is Direction.C2U) == (event != "received")
    end = End.CLIENT if at_client else End.UPSTREAM
    name = name or ("c01" if at_client else "u1")
    return MessageEvent(t, end, name, event, stream, direction, number, 100, MessageKind.TEXT, wrong, session)


def conversation(
    arrivals: Iterable[int], sent: int = 10, direction: Direction = Direction.C2U, **changes: str
) -> list[MessageEvent]:
    """Make the events of a stream: `sent` messages, one a second, of which those of `arrivals` come, in that order."""
    events = [message("sent", number, float(number), direction=direction, **changes) for number in range(1, sent + 1)]
    events += [
        message("received", number, index + 1.5, direction=direction, **changes)
        for index, number in enumerate(arrivals)
    ]
    return sorted(events, key=lambda event: event.t)


def history(
    *events: MessageEvent,
    faults: Iterable[FaultRecord] = (),
    links: Iterable[LinkEvent] = (),
    echoed: bool = False,
    shared: bool = False,
) -> History:
    """Make a history of events."""
    return History(0.0, sorted(events, key=lambda event: event.t), list(links), list(faults), echoed, shared)


def connected(*clients: str) -> list[LinkEvent]:
    """Make the event of each client's link at the start."""
    return [LinkEvent(0.0, End.CLIENT, client, "connected", True) for client in clients]


def fault(took_hold: float | None = 4.0, cleared: float | None = 5.0, problem: str | None = None) -> FaultRecord:
    """Make the record of a fault that was asked for a moment before it took hold."""
    return FaultRecord("down", "upstream", (took_hold or 4.0) - 0.01, took_hold, cleared, problem)
