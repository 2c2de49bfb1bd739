"""What is reported of a session that has ended: how many messages came, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator

from ..events import MessagesDropped, SessionEnded
from .ending import Ending
from .stream import Stream


def reports(
    session_id: str, ending: Ending, age: float, left: bool, c2u: Stream, u2c: Stream
) -> Iterator[MessagesDropped | SessionEnded]:
    """Yield the events of a session that has ended after `age` seconds; `left`: its client has closed it."""
    if c2u.dropped or u2c.dropped:
        yield MessagesDropped(session_id, c2u.dropped, u2c.dropped)
    undelivered = c2u.undelivered, u2c.undelivered
    uncertain = c2u.uncertain, u2c.uncertain
    received = (*c2u.volume, *u2c.volume)
    yield SessionEnded(session_id, ending.code, ending.reason, age, *undelivered, *received, left, *uncertain)
