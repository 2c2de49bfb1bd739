"""Writes a history: each process of a run appends its records to a file of its own.

A record is written at once, so that a process that is killed loses none. `history.history` merges the files.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from reconnect_harness.history.message import Direction, MessageLabel
from reconnect_harness.history.record import End, LinkEvent, MessageEvent, line_of, message_of, read_lines


class EventSink(Protocol):
    """What an end reports its messages and links to: a `Recorder`, or in a soak run a `soak.ledger`."""

    @property
    def said(self) -> Mapping[str, int]:
        """For each stream that began before this process started, the number of the last message sent, or 0."""

    def sent(self, name: str, direction: Direction, message: MessageLabel) -> None:
        """Report a message that is about to be sent."""

    def refused(self, name: str, direction: Direction, message: MessageLabel) -> None:
        """Report that the socket did not take a message that was reported as sent."""

    def received(self, name: str, direction: Direction, message: MessageLabel, session: str = "") -> None:
        """Report a message that arrived. `direction` is the one in which it came, which its label may contradict.

        `session` is that of an upstream in which it arrived.
        """

    def arrived(self, name: str) -> int:
        """Return how many distinct messages arrived at one client or upstream."""

    def link(self, name: str, event: str, *, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Report that a link was made or lost; the arguments are those of `LinkEvent`."""


class Recorder:
    """Appends the records of one process to its file.

    If the file exists, it is that of a process which was ended by a fault and is replaced by this one: its counts are
    continued.

    Args:
        path: the file; it is made if it does not exist.
        end: which end of the conversation this process is.

    Attributes:
        said: for each stream that began before, the number of the last message sent, or 0.

    """

    def __init__(self, path: Path, end: End) -> None:
        self._end = end
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._sent = 0
        self._arrived: dict[tuple[str, str], set[int]] = {}
        self.said: dict[str, int] = {}
        self._continue_counts(path)

    def _continue_counts(self, path: Path) -> None:
        """Continue the counts of a process that has written to the file before."""
        written = path.read_bytes()
        # Its last line may be cut off, and would soon be in the middle of the file.
        os.ftruncate(self._file, written.rfind(b"\n") + 1)
        for fields in read_lines(path):
            if "stream" not in fields:
                if fields["event"] == "connected":
                    self.said.setdefault(fields["name"], 0)
                continue
            event = message_of(fields)
            if event.event == "received":
                self._arrived.setdefault((event.name, event.stream), set()).add(event.number)
            else:
                self._sent += 1 if event.event == "sent" else -1
                self.said[event.stream] = max(event.number, self.said.get(event.stream, 0))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def sent(self, name: str, direction: Direction, message: MessageLabel) -> None:
        """Record a message that is about to be sent."""
        self._sent += 1
        self._message(name, "sent", direction, message)

    def refused(self, name: str, direction: Direction, message: MessageLabel) -> None:
        """Record that the socket did not take a message that was recorded as sent."""
        self._sent -= 1
        self._message(name, "refused", direction, message)

    def received(self, name: str, direction: Direction, message: MessageLabel, session: str = "") -> None:
        """Record a message that arrived, at an upstream in a session. `direction` is the one in which it came."""
        self._arrived.setdefault((name, message.stream), set()).add(message.number)
        self._message(name, "received", direction, message, session)

    def counts(self) -> dict[str, int]:
        """Return how many messages were `sent`, and how many distinct ones `arrived` at their receivers.

        `distinct` counts a message that arrived at several receivers once.
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
        """Return how many distinct messages arrived at one client or upstream."""
        return sum(len(numbers) for (receiver, _), numbers in self._arrived.items() if receiver == name)

    def link(self, name: str, event: str, *, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Record that a link was made or lost; the arguments are those of `LinkEvent`."""
        self._write(LinkEvent(time.monotonic(), self._end, name, event, asked, code, reason)._asdict())

    def _message(self, name: str, event: str, direction: Direction, message: MessageLabel, session: str = "") -> None:
        moment = time.monotonic()
        seen = (self._end, name, event, message.stream, direction, message.number, message.size, message.kind)
        recorded = MessageEvent(moment, *seen, message.wrong or None, session)
        os.write(self._file, f"{line_of(recorded, moment)}\n".encode())

    def _write(self, fields: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(fields, separators=(",", ":")).encode() + b"\n")


class NullRecorder(Recorder):
    """A recorder that keeps nothing: in a load run the generator counts the messages."""

    def __init__(self) -> None:
        self.said = {}

    def close(self) -> None:
        """Do nothing: there is no file."""

    def sent(self, name: str, direction: Direction, message: MessageLabel) -> None:
        """Do nothing."""

    def refused(self, name: str, direction: Direction, message: MessageLabel) -> None:
        """Do nothing."""

    def received(self, name: str, direction: Direction, message: MessageLabel, session: str = "") -> None:
        """Do nothing."""

    def counts(self) -> dict[str, int]:
        """Return counts of 0."""
        return {"sent": 0, "arrived": 0, "distinct": 0}

    def arrived(self, name: str) -> int:
        """Return 0."""
        return 0

    def link(self, name: str, event: str, *, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Do nothing."""
