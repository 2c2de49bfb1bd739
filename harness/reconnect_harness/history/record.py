"""One record of a history: what an end saw of a message, or of its link; and how that is written, a JSON object a line.

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

#: Threads that may be there in the end and were not at first. A Python program's default pool grows with the number of
#: names that are looked up at a time and keeps its threads; this is its limit (concurrent.futures.ThreadPoolExecutor).
THREADS = min(32, (os.cpu_count() or 1) + 4)

#: Bytes of memory that may be there in the end and were not at first: allocators keep what they were once given.
MEMORY = 64 * 1024**2


class End(StrEnum):
    """Where something was seen."""

    CLIENT = "client"
    UPSTREAM = "upstream"


class MessageEvent(NamedTuple):
    """One message at one end.

    `event` is `sent` (recorded before it is handed to the socket), `refused` (the socket would not take it: it may or
    may not arrive) or `received`. `name` is the client or upstream that saw it; `wrong` says how it differs from what
    was sent.
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


class LinkEvent(NamedTuple):
    """One end's link came or went.

    `event` is `connected`, `disconnected`, or `unreachable` (the handshake failed); at an upstream also `refused` (it
    answered a handshake with an HTTP error), `rude` (it did what `reason` says on purpose: `peers.misbehaviour`) and
    `breach` (it saw what the protocol forbids). `asked` tells whether the end that records it wanted it so; `code` is
    the close code, RFC 6455 section 7.4, or the HTTP status. `name` is the client, or `c01.LABEL` for a link which
    client c01 made for a purpose of its own (`peers.contenders`); at an upstream it is the stream, or the upstream.
    """

    t: float
    end: End
    name: str
    event: str
    asked: bool
    code: int | None = None
    reason: str = ""


class FaultRecord(NamedTuple):
    """What became of one occurrence. Times are those of `time.monotonic`."""

    name: str
    target: str
    asked: float
    """When it was begun, or was to begin."""
    took_hold: float | None
    """When the target confirmed it; None if it never did."""
    cleared: float | None
    """When the target confirmed its end; the same as `took_hold` for a thing of a moment; None if it never
    did."""
    problem: str | None = None
    """Why it did not take hold, or was not cleared in time."""


class Footprint(NamedTuple):
    """What a system under test holds at the moment `t`; `sessions` is None where it does not say.

    `when` is `before`, `during` or `after` the clients; `files`, `threads`, `children` and `sessions` are counts,
    `memory` is resident bytes of all its processes together.
    """

    t: float
    when: str
    files: int
    threads: int
    children: int
    memory: int
    sessions: int | None = None

    def leaks(self, before: Footprint) -> Iterator[tuple[int, str]]:
        """Yield how much more there is of each thing than `before`, and that in words."""
        for count, was, allowed, name in (
            (self.files, before.files, 0, "open files and sockets"),
            (self.threads, before.threads, THREADS, "threads"),
            (self.children, before.children, 0, "processes beside the first"),
        ):
            if count > was + allowed:
                yield count - was, f"{count} {name}, and {was} before they came"
        if self.sessions:
            yield self.sessions, f"{self.sessions} sessions, and there is no client any more"
        if self.memory > before.memory + MEMORY:
            megabytes = round((self.memory - before.memory) / 1e6)
            yield (
                megabytes,
                f"{self.memory / 1e6:,.0f} MB of memory, and {before.memory / 1e6:,.0f} MB before they came",
            )


def line_of(event: MessageEvent, moment: float) -> str:
    """Return the line of a message, as seen at `moment`."""
    # By hand: json.dumps of a dictionary costs four times as much, several times for every message of a run.
    wrong = f',"wrong":{json.dumps(event.wrong)}' if event.wrong else ""
    return (
        f'{{"t":{moment:.6f},"end":"{event.end}","name":"{event.name}","event":"{event.event}",'
        f'"stream":{json.dumps(event.stream)},"direction":"{event.direction}","number":{event.number},'
        f'"size":{event.size},"kind":"{event.kind}"{wrong}}}'
    )


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read the records of a file, each as its fields; a last line that a kill has cut is left out.

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
            # Only the very last line may have been cut by a kill: it has no newline behind it.
            if index == len(lines) - 1:
                return
            raise ValueError(f"{path}, line {index + 1}: it is not JSON: {error}") from None
        yield fields


def message_of(fields: dict[str, Any]) -> MessageEvent:
    """Return the message of a record that has a `stream`. Raises KeyError or ValueError if it is none."""
    return MessageEvent(
        fields["t"],
        End(fields["end"]),
        fields["name"],
        fields["event"],
        fields["stream"],
        Direction(fields["direction"]),
        fields["number"],
        fields["size"],
        MessageKind(fields["kind"]),
        fields.get("wrong"),
    )


def link_of(fields: dict[str, Any]) -> LinkEvent:
    """Return what became of a link, of a record of that. Raises KeyError, TypeError or ValueError if it is none."""
    return LinkEvent(**{**fields, "end": End(fields["end"])})
