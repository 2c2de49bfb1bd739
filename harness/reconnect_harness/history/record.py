"""The records of a history, and how they are written, one JSON object a line.

Times are `time.monotonic()` seconds, which is one clock for all processes of a machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from reconnect_harness.history.message import Direction, MessageKind

#: How many threads more at the end are not a leak. The default pool of a Python program grows with the number of
#: concurrent name lookups and keeps its threads; this is its limit (concurrent.futures.ThreadPoolExecutor).
THREADS_KEPT = min(32, (os.cpu_count() or 1) + 4)

#: How many bytes of memory more at the end are not a leak: allocators keep memory that they once had.
MEMORY_KEPT = 64 * 1024**2


class End(StrEnum):
    """The end of the conversation that recorded something."""

    CLIENT = "client"
    UPSTREAM = "upstream"


class MessageEvent(NamedTuple):
    """One message at one end.

    `event` is `sent` (recorded before it is given to the socket), `refused` (the socket did not take it: it may or may
    not arrive) or `received`. `name` is the client or upstream that recorded it; `wrong` says how it differs from what
    was sent. `session` is the session, or connection without one, in which it arrived at an upstream.
    """

    t: float
    end: End
    name: str
    event: str
    stream: str
    direction: Direction
    number: int
    size: int
    kind: MessageKind
    wrong: str | None = None
    session: str = ""


class LinkEvent(NamedTuple):
    """The link of one end was made or lost.

    `event` is `connected`, `disconnected`, `unreachable` (the handshake failed) or `handshake` (what it asked for, or
    what arrived of that, in JSON: `peers.handshake`); at a client also `left` (it is closing with this code), and at an
    upstream `refused` (it answered a handshake with an HTTP error), `rude` (it did what `reason` says on purpose:
    `peers.misbehaviour`) and `breach` (it saw what the protocol forbids). `asked` is whether the recording end caused
    it; `code` is the close code, RFC 6455 section 7.4, or the HTTP status. `name` is the client, or `c01.LABEL` for a
    link that contends for the session of client c01 (`peers.contenders`); at an upstream it is the stream, or the
    upstream.
    """

    t: float
    end: End
    name: str
    event: str
    asked: bool
    code: int | None = None
    reason: str = ""


class FaultRecord(NamedTuple):
    """What happened with one occurrence of a fault. Times are those of `time.monotonic`."""

    name: str
    target: str
    asked: float
    """When it was begun, or should have begun."""
    took_hold: float | None
    """When the target confirmed it; None if it never did."""
    cleared: float | None
    """When the target confirmed its end; the same as `took_hold` for a fault that is over at once; None if it never
    did."""
    problem: str | None = None
    """Why it did not take hold, or was not cleared in time."""

    def shifted(self, seconds: float) -> FaultRecord:
        """Return it with each of its moments so many seconds later."""
        took_hold, cleared = (None if t is None else t + seconds for t in (self.took_hold, self.cleared))
        return self._replace(asked=self.asked + seconds, took_hold=took_hold, cleared=cleared)


class Footprint(NamedTuple):
    """The resources of a system under test at the time `t`; `sessions` is None if it does not report them.

    `when` is `before`, `during` or `after` the traffic; `files`, `threads`, `children` and `sessions` are counts,
    `memory` is the resident bytes of all its processes together.
    """

    t: float
    when: str
    files: int
    threads: int
    children: int
    memory: int
    sessions: int | None = None

    def leaks(self, before: Footprint) -> Iterator[tuple[int, str]]:
        """Yield how much more there is of each resource than `before`, and the same in words."""
        for count, was, allowed, name in (
            (self.files, before.files, 0, "open files and sockets"),
            (self.threads, before.threads, THREADS_KEPT, "threads"),
            (self.children, before.children, 0, "processes other than the first"),
        ):
            if count > was + allowed:
                yield count - was, f"{count} {name}, {was} before the clients connected"
        if self.sessions:
            yield self.sessions, f"{self.sessions} sessions, and no client is connected any more"
        if self.memory > before.memory + MEMORY_KEPT:
            megabytes = round((self.memory - before.memory) / 1e6)
            yield (
                megabytes,
                f"{self.memory / 1e6:,.0f} MB of memory, {before.memory / 1e6:,.0f} MB before the clients connected",
            )


def line_of(event: MessageEvent, moment: float) -> str:
    """Return the line of a message that was recorded at `moment`."""
    # Not json.dumps of a dictionary: that takes four times as long, several times for every message of a run.
    more = f',"wrong":{json.dumps(event.wrong)}' if event.wrong else ""
    if event.session:
        more += f',"session":"{event.session}"'
    return (
        f'{{"t":{moment:.6f},"end":"{event.end}","name":"{event.name}","event":"{event.event}",'
        f'"stream":{json.dumps(event.stream)},"direction":"{event.direction}","number":{event.number},'
        f'"size":{event.size},"kind":"{event.kind}"{more}}}'
    )


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read the records of a file, each as its fields; a last line that is cut off by a kill is ignored.

    Raises:
        ValueError: any other line is not JSON.

    """
    lines = path.read_bytes().split(b"\n")
    for index, line in enumerate(lines):
        if not line:
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            # Only the last line may be cut off by a kill: it has no newline.
            if index == len(lines) - 1:
                return
            raise ValueError(f"{path}, line {index + 1}: it is not JSON: {error}") from None
        yield fields


def message_of(fields: dict[str, Any]) -> MessageEvent:
    """Return the message of a record that has a `stream`. Raises what `link_of` raises."""
    kinds = {
        "end": End(fields["end"]),
        "direction": Direction(fields["direction"]),
        "kind": MessageKind(fields["kind"]),
    }
    return MessageEvent(**(fields | kinds))


def link_of(fields: dict[str, Any]) -> LinkEvent:
    """Return the link event of a record. Raises KeyError, TypeError or ValueError if it is malformed."""
    return LinkEvent(**{**fields, "end": End(fields["end"])})
