"""The history of a run: what each end sent and received, when its links were made and lost, and which faults were on.

`History.merge` merges what the processes of a run have written (`history.recorder`); the checkers read it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

from reconnect_harness.history.audience import Audience
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import (
    End,
    FaultRecord,
    Footprint,
    LinkEvent,
    MessageEvent,
    line_of,
    link_of,
    message_of,
    read_lines,
)


@dataclass(slots=True)
class MessageStream:
    """The messages of one stream, as its sender and its receivers recorded them.

    `received` is by receiver, in order of arrival: each client by its name; all upstreams are one receiver, because
    several of them may serve one session in turn.
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
        """Return the numbers of the messages that a receiver has received, or without a name those that any has."""
        lists = [self.received.get(receiver, [])] if receiver else self.received.values()
        return {event.number for events in lists for event in events}


@dataclass
class History:
    """Everything that was recorded in a run, in order of time. `start` is the time from which it is counted."""

    start: float = 0.0
    messages: list[MessageEvent] = field(default_factory=list)
    links: list[LinkEvent] = field(default_factory=list)
    faults: list[FaultRecord] = field(default_factory=list)
    #: Whether the clients talk to a server that is not part of the harness: what they sent has to come back.
    echoed: bool = False
    #: Whether clients share a session: every attached client gets each message of its upstream.
    shared: bool = False
    #: Which clients have to receive what a client sends, if they talk to an application of the user's own.
    audience: Audience | None = None
    #: The resources of the system under test before, during and after the traffic, if they were measured.
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
        audience: Audience | None = None,
    ) -> Self:
        """Merge the records of several processes.

        The last line of a process that was killed while it wrote is ignored; any other line that cannot be read raises
        ValueError.
        """
        messages: list[MessageEvent] = []
        links: list[LinkEvent] = []
        for path in paths:
            for fields in read_lines(path):
                if "stream" in fields:
                    messages.append(message_of(fields))
                else:
                    links.append(link_of(fields))
        messages.sort(key=lambda event: event.t)
        links.sort(key=lambda event: event.t)
        return cls(start, messages, links, sorted(faults, key=lambda fault: fault.asked), echoed, shared, audience)

    def write(self, path: Path) -> None:
        """Write the whole history to one file, in order of time, times counted from `start`."""
        start = self.start
        rows = [(event.t, line_of(event, event.t - start)) for event in self.messages]
        others: list[tuple[float, dict[str, Any]]] = [(event.t, event._asdict()) for event in self.links]
        others += [(fault.asked, {"event": "fault", **fault._asdict()}) for fault in self.faults]
        others += [(found.t, {"event": "footprint", **found._asdict()}) for found in self.footprints]
        for moment, fields in others:
            for key in ("t", "asked", "took_hold", "cleared"):
                if isinstance(fields.get(key), float):
                    fields[key] = round(fields[key] - start, 6)
            rows.append((moment, json.dumps(fields, separators=(",", ":"))))
        rows.sort(key=itemgetter(0))
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for _, line in rows)

    @classmethod
    def read(cls, path: Path, *, echoed: bool = False, shared: bool = False, audience: Audience | None = None) -> Self:
        """Read what `write` has written; its times are counted from 0.

        Raises:
            ValueError: a line is not one that `write` writes.

        """
        history = cls(echoed=echoed, shared=shared, audience=audience)
        for number, fields in enumerate(read_lines(path), 1):
            try:
                event = fields["event"]
                if event == "fault":
                    history.faults.append(FaultRecord(**{k: v for k, v in fields.items() if k != "event"}))
                elif event == "footprint":
                    history.footprints.append(Footprint(**{k: v for k, v in fields.items() if k != "event"}))
                elif "stream" in fields:
                    history.messages.append(message_of(fields))
                else:
                    history.links.append(link_of(fields))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: it is not an event of a history: {error!r}") from None
        return history

    @cached_property
    def streams(self) -> dict[Direction, list[MessageStream]]:
        """The streams of each direction, in order of their first message."""
        found: dict[tuple[Direction, str], MessageStream] = {}
        for event in self.messages:
            direction = event.direction
            if self.echoed:
                direction = Direction.U2C
            stream = found.get((direction, event.stream))
            if stream is None:
                stream = found[direction, event.stream] = MessageStream(event.stream, direction)
            if event.event == "sent":
                stream.sent[event.number] = event
            elif event.event == "refused":
                stream.refused.add(event.number)
            else:
                receiver = event.name if event.end is End.CLIENT else End.UPSTREAM
                stream.received.setdefault(receiver, []).append(event)
        by_direction: dict[Direction, list[MessageStream]] = {direction: [] for direction in Direction}
        for stream in found.values():
            by_direction[stream.direction].append(stream)
        return by_direction

    @cached_property
    def speakers(self) -> set[str]:
        """The names of the clients' streams, which a server that echoes sends back."""
        return {stream.name for stream in self.streams[Direction.C2U] if stream.sent}

    @cached_property
    def owners(self) -> dict[str, str]:
        """The client of each session of an upstream: the one that most of the messages which arrived there are from."""
        found: dict[str, Counter[str]] = {}
        for stream in self.streams[Direction.C2U]:
            for event in (each for events in stream.received.values() for each in events if stream.sent):
                if event.session:
                    found.setdefault(event.session, Counter())[stream.name] += 1
        return {session: streams.most_common(1)[0][0] for session, streams in found.items()}

    @cached_property
    def latencies(self) -> list[tuple[float, MessageEvent]]:
        """The seconds from the sending of each message to its first arrival, and the message as sent, sorted.

        Messages that never arrived are not included.
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
        """Count the messages that were `sent` or `received` in one direction, including repeats."""
        return sum(1 for message in self.messages if message.event == event and message.direction == direction)

    def faults_on(self, t: float) -> list[FaultRecord]:
        """Return the faults that were on at `t` or up to a second before: their consequences show late."""
        return [
            fault
            for fault in self.faults
            if fault.took_hold is not None
            # It takes effect before Toxiproxy has confirmed it.
            and fault.asked <= t
            and (fault.cleared is None or t <= fault.cleared + 1)
        ]
