"""The history of a run: what each end sent and received, when its links came and went, and which faults were on.

Each process of a run appends its own records to a file of its own, one JSON object a line, written at once so that a
process that is killed loses none. `History.merge` puts them together. Times are `time.monotonic()` seconds, which is
one clock for all processes of a machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from harness.footprint import Footprint
from harness.message import Direction, Kind, Reading

if TYPE_CHECKING:
    # Not at run time: the actors record histories too, and have nothing to do with Toxiproxy.
    from harness.nemesis import FaultRecord


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
    answered a handshake with an HTTP error), `rude` (it did on purpose what `reason` says, see `harness.rude`) and
    `breach` (it saw what the protocol forbids). `asked` tells whether the end that records it wanted it so; `code` is
    the close code, RFC 6455 section 7.4, or the HTTP status. `name` is the client, or `c01.LABEL` for a link which
    client c01 made for a purpose of its own (`harness.claims`); at an upstream it is the stream, or the upstream.
    """

    t: float
    end: End
    name: str
    event: str
    asked: bool
    code: int | None = None
    reason: str = ""


class Witness(Protocol):
    """What an end tells of all that it sees: to a `Recorder`, or where a run has no end to `harness.soak.ledger`."""

    @property
    def said(self) -> Mapping[str, int]:
        """For each stream that was sent before this process was there, the number of its last message."""

    def sent(self, name: str, direction: Direction, message: Reading) -> None:
        """Take note of a message that is about to be sent."""

    def refused(self, name: str, direction: Direction, message: Reading) -> None:
        """Take note that the socket did not take a message that was told of as sent."""

    def received(self, name: str, direction: Direction, message: Reading) -> None:
        """Take note of a message that arrived. `direction` is the way it came, whatever it says itself."""

    def arrived(self, name: str) -> int:
        """Return how many messages, repeats left out, arrived at one client or upstream."""

    def link(self, name: str, event: str, *, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Take note that a link came or went; the arguments are those of `LinkEvent`."""


class Recorder:
    """Appends the records of one process to its file.

    A file that is there already is that of a process which was ended by a fault, and in whose place this one is: its
    counts go on.

    Args:
        path: the file; it is made where it does not exist.
        end: which end of the conversation this process is.

    Attributes:
        said: for each stream that was sent before, the number of its last message.

    """

    def __init__(self, path: Path, end: End) -> None:
        self._end = end
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._sent = 0
        self._arrived: dict[tuple[str, str], set[int]] = {}
        self.said: dict[str, int] = {}
        self._go_on(path)

    def _go_on(self, path: Path) -> None:
        """Take up the counts of a process that has written here before."""
        written = path.read_bytes()
        # Its last line may have been cut when it was killed, and would be in the middle of the file soon.
        os.ftruncate(self._file, written.rfind(b"\n") + 1)
        for fields in _lines(path):
            if "stream" not in fields:
                continue
            event = _message_event(fields)
            if event.event == "received":
                self._arrived.setdefault((event.name, event.stream), set()).add(event.number)
            else:
                self._sent += 1 if event.event == "sent" else -1
                self.said[event.stream] = max(event.number, self.said.get(event.stream, 0))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def sent(self, name: str, direction: Direction, message: Reading) -> None:
        """Record a message that is about to be sent."""
        self._sent += 1
        self._message(name, "sent", direction, message)

    def refused(self, name: str, direction: Direction, message: Reading) -> None:
        """Record that the socket did not take a message that was recorded as sent."""
        self._sent -= 1
        self._message(name, "refused", direction, message)

    def received(self, name: str, direction: Direction, message: Reading) -> None:
        """Record a message that arrived. `direction` is the way it came, whatever it says itself."""
        self._arrived.setdefault((name, message.stream), set()).add(message.number)
        self._message(name, "received", direction, message)

    def counts(self) -> dict[str, int]:
        """Return how many messages were `sent` and, repeats left out, how many `arrived`.

        `distinct` counts what arrived at several receivers once.
        """
        streams: dict[str, set[int]] = {}
        for (_, stream), numbers in self._arrived.items():
            streams[stream] = streams[stream] | numbers if stream in streams else numbers
        return {
            "sent": self._sent,
            "arrived": sum(map(len, self._arrived.values())),
            "distinct": sum(map(len, streams.values())),
        }

    def arrived(self, name: str) -> int:
        """Return how many messages, repeats left out, arrived at one client or upstream."""
        return sum(len(numbers) for (receiver, _), numbers in self._arrived.items() if receiver == name)

    def link(self, name: str, event: str, *, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Record that a link came or went; the arguments are those of `LinkEvent`."""
        self._write(LinkEvent(time.monotonic(), self._end, name, event, asked, code, reason)._asdict())

    def _message(self, name: str, event: str, direction: Direction, message: Reading) -> None:
        moment = time.monotonic()
        seen = (self._end, name, event, message.stream, direction, message.number, message.size, message.kind)
        os.write(self._file, f"{_line(MessageEvent(moment, *seen, message.wrong or None), moment)}\n".encode())

    def _write(self, fields: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(fields, separators=(",", ":")).encode() + b"\n")


class Unrecorded(Recorder):
    """A recorder that keeps nothing: in a load run whoever sends the load keeps the account."""

    def __init__(self) -> None:
        self.said = {}

    def close(self) -> None:
        """Do nothing: there is no file."""

    def sent(self, name: str, direction: Direction, message: Reading) -> None:
        """Take no note of it."""

    def refused(self, name: str, direction: Direction, message: Reading) -> None:
        """Take no note of it."""

    def received(self, name: str, direction: Direction, message: Reading) -> None:
        """Take no note of it."""

    def counts(self) -> dict[str, int]:
        """Return that nothing was seen."""
        return {"sent": 0, "arrived": 0, "distinct": 0}

    def arrived(self, name: str) -> int:
        """Return that nothing was seen."""
        return 0

    def link(self, name: str, event: str, *, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Take no note of it."""


def _line(event: MessageEvent, moment: float) -> str:
    """Return the line of a message, as seen at `moment`."""
    # By hand: json.dumps of a dictionary costs four times as much, several times for every message of a run.
    wrong = f',"wrong":{json.dumps(event.wrong)}' if event.wrong else ""
    return (
        f'{{"t":{moment:.6f},"end":"{event.end}","name":"{event.name}","event":"{event.event}",'
        f'"stream":{json.dumps(event.stream)},"direction":"{event.direction}","number":{event.number},'
        f'"size":{event.size},"kind":"{event.kind}"{wrong}}}'
    )


@dataclass(slots=True)
class Stream:
    """The messages of one stream, as its sender and its receivers saw them.

    `received` is by receiver, in order of arrival: each client by its name; all upstreams are one receiver, since one
    session may be served by several in turn.
    """

    name: str
    direction: Direction
    sent: dict[int, MessageEvent] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    received: dict[str, list[MessageEvent]] = field(default_factory=dict)

    @property
    def owed(self) -> Iterator[MessageEvent]:
        """The messages that have to arrive: those that were sent and not refused."""
        return (event for number, event in self.sent.items() if number not in self.refused)

    def numbers(self, receiver: str = "") -> set[int]:
        """Return the numbers of the messages that a receiver has got, or without one those that anybody has."""
        lists = [self.received.get(receiver, [])] if receiver else self.received.values()
        return {event.number for events in lists for event in events}


@dataclass
class History:
    """Everything that was recorded in a run, in order of time. `start` is the moment that its times count from."""

    start: float = 0.0
    messages: list[MessageEvent] = field(default_factory=list)
    links: list[LinkEvent] = field(default_factory=list)
    faults: list[FaultRecord] = field(default_factory=list)
    #: Where the clients talk to a server that is not ours: what they sent is what has to come back.
    echoed: bool = False
    #: Where clients share a session: every client that is there gets each message of its upstream.
    shared: bool = False
    #: What the system under test held before the clients came and after they had left, where that was measured.
    footprints: list[Footprint] = field(default_factory=list)

    @classmethod
    def merge(
        cls,
        paths: Iterable[Path],
        faults: Iterable[FaultRecord] = (),
        *,
        start: float = 0.0,
        echoed: bool = False,
        shared: bool = False,
    ) -> Self:
        """Put the records of several processes together.

        The last line of a process that was killed while it wrote is left out; any other line that cannot be read raises
        ValueError.
        """
        messages: list[MessageEvent] = []
        links: list[LinkEvent] = []
        for path in paths:
            for fields in _lines(path):
                if "stream" in fields:
                    messages.append(_message_event(fields))
                else:
                    links.append(LinkEvent(**{**fields, "end": End(fields["end"])}))
        messages.sort(key=lambda event: event.t)
        links.sort(key=lambda event: event.t)
        return cls(start, messages, links, sorted(faults, key=lambda fault: fault.asked), echoed, shared)

    def write(self, path: Path) -> None:
        """Write the whole history to one file, in order of time, times counted from `start`."""
        start = self.start
        rows = [(event.t, _line(event, event.t - start)) for event in self.messages]
        others: list[tuple[float, dict[str, Any]]] = [(event.t, event._asdict()) for event in self.links]
        others += [(fault.asked, {"event": "fault", **fault._asdict()}) for fault in self.faults]
        others += [(found.t, {"event": "footprint", **found._asdict()}) for found in self.footprints]
        for moment, fields in others:
            for key in ("t", "asked", "took_hold", "cleared"):
                if isinstance(fields.get(key), float):
                    fields[key] = round(fields[key] - start, 6)
            rows.append((moment, json.dumps(fields, separators=(",", ":"))))
        rows.sort(key=itemgetter(0))
        with path.open("w") as file:
            file.writelines(f"{line}\n" for _, line in rows)

    @classmethod
    def read(cls, path: Path, *, echoed: bool = False, shared: bool = False) -> Self:
        """Read what `write` has written; its times count from 0.

        Raises:
            ValueError: a line is none that `write` writes.

        """
        # Here, since the actors record histories too, and have nothing to do with Toxiproxy.
        from harness.nemesis import FaultRecord

        history = cls(echoed=echoed, shared=shared)
        for number, fields in enumerate(_lines(path), 1):
            try:
                event = fields["event"]
                if event == "fault":
                    history.faults.append(FaultRecord(**{k: v for k, v in fields.items() if k != "event"}))
                elif event == "footprint":
                    history.footprints.append(Footprint(**{k: v for k, v in fields.items() if k != "event"}))
                elif "stream" in fields:
                    history.messages.append(_message_event(fields))
                else:
                    history.links.append(LinkEvent(**{**fields, "end": End(fields["end"])}))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: it is no event of a history: {error!r}") from None
        return history

    @cached_property
    def streams(self) -> dict[Direction, list[Stream]]:
        """The streams of each direction, in order of their first message."""
        found: dict[tuple[Direction, str], Stream] = {}
        for event in self.messages:
            direction = event.direction
            if self.echoed:
                direction = Direction.U2C
            stream = found.get((direction, event.stream))
            if stream is None:
                stream = found[direction, event.stream] = Stream(event.stream, direction)
            if event.event == "sent":
                stream.sent[event.number] = event
            elif event.event == "refused":
                stream.refused.add(event.number)
            else:
                receiver = event.name if event.end is End.CLIENT else End.UPSTREAM
                stream.received.setdefault(receiver, []).append(event)
        by_direction: dict[Direction, list[Stream]] = {direction: [] for direction in Direction}
        for stream in found.values():
            by_direction[stream.direction].append(stream)
        return by_direction

    @cached_property
    def latencies(self) -> list[tuple[float, MessageEvent]]:
        """The seconds from each message's sending to its first arrival, and the message as it was sent, sorted.

        One that never arrived is not among them.
        """
        found: list[tuple[float, MessageEvent]] = []
        for stream in (stream for streams in self.streams.values() for stream in streams):
            first: dict[int, float] = {}
            for events in stream.received.values():
                for event in events:
                    first[event.number] = min(event.t, first.get(event.number, event.t))
            found += [(first[number] - event.t, event) for number, event in stream.sent.items() if number in first]
        return sorted(found, key=lambda measured: measured[0])

    def count(self, event: str, direction: Direction) -> int:
        """Count the messages that were `sent` or `received` in one direction, repeats among them."""
        return sum(1 for message in self.messages if message.event == event and message.direction == direction)

    def faults_on(self, t: float) -> list[FaultRecord]:
        """Return the faults that were on at `t` or had just been (one second: what they broke shows late)."""
        return [
            fault
            for fault in self.faults
            if fault.took_hold is not None
            # It is felt before Toxiproxy has confirmed it.
            and fault.asked <= t
            and (fault.cleared is None or t <= fault.cleared + 1)
        ]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
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


def _message_event(fields: dict[str, Any]) -> MessageEvent:
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
