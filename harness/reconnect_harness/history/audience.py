"""Who has to receive what a client sends to an application: its sender, the other clients of its room, or all."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Self


class To(StrEnum):
    """Which clients of a room get a message."""

    SENDER = "sender"
    """It comes back: an echo."""

    OTHERS = "others"
    """All but its sender get it."""

    ALL = "all"
    """Its sender gets it too."""


class Audience(NamedTuple):
    """Which client has to receive a message of which. `rooms` has the room of each client; without it there is one."""

    to: To = To.SENDER
    rooms: Mapping[str, str] = {}

    @classmethod
    def from_spec(cls, fields: Mapping[str, Any] | None) -> Self | None:
        """Make it from what `_asdict` has returned, or from None."""
        return None if fields is None else cls(To(fields["to"]), fields["rooms"])

    def includes(self, sender: str, receiver: str) -> bool:
        """Whether `receiver` has to receive what `sender` sends."""
        if self.to is To.SENDER or sender == receiver:
            return sender == receiver and self.to is not To.OTHERS
        return self.rooms.get(sender) == self.rooms.get(receiver)

    def receivers(self, clients: int, rooms: int) -> float:
        """Return how many receivers a message has, of so many clients in so many rooms; a mean where rooms differ."""
        return 1 if self.to is To.SENDER else clients / rooms - (self.to is To.OTHERS)


def client_names(count: int) -> list[str]:
    """Return the names of the clients of a run: c01, c02 …"""
    width = max(2, len(str(count)))
    return [f"c{index:0{width}d}" for index in range(1, count + 1)]


def rooms_of(clients: list[str], rooms: int) -> dict[str, str]:
    """Return the room of each client, r1, r2 …: the clients are spread evenly."""
    return {client: f"r{index % rooms + 1}" for index, client in enumerate(clients)}
