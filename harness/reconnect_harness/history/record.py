"""One record of a history: what an end saw of a message, or of its link; and how that is written, a JSON object a line.

Times are `time.monotonic()` seconds, which is one clock for all processes of a machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from reconnect_harness.history.message import Direction, Kind


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
    kind: Kind
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
        Kind(fields["kind"]),
        fields.get("wrong"),
    )


def link_of(fields: dict[str, Any]) -> LinkEvent:
    """Return what became of a link, of a record of that. Raises KeyError, TypeError or ValueError if it is none."""
    return LinkEvent(**{**fields, "end": End(fields["end"])})
