"""The tally: what all users of a process have sent and received, by their class; and of all processes of a run.

Sums travel from the workers to the master; the accounts of single users stay where they are. A worker always reports
its whole tally, so a report that arrives twice, or not at all, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from reconnect_harness.checks.stream_account import Flaw

#: How many violations are kept in words.
EXAMPLES = 5

#: What a flaw is called in locust's statistics, in the summary and in `Sums`.
FLAW_NAMES: Mapping[Flaw, str] = {
    Flaw.LOST: "lost",
    Flaw.DUPLICATED: "repeated",
    Flaw.REORDERED: "reordered",
    Flaw.CORRUPTED: "damaged",
}


@dataclass(slots=True)
class Sums:
    """The sums of one class of users."""

    users: int = 0
    sent: int = 0
    answered: int = 0
    pushed: int = 0
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    damaged: int = 0
    in_flight: int = 0
    """Messages that have not arrived and are not lost yet."""
    connects: int = 0
    refused: int = 0
    """First connections that failed."""
    dropped: int = 0
    """Links that ended though the user had not asked for it."""
    reconnects: int = 0
    ended: int = 0
    """Conversations that ended though the user had not asked for it: their sessions are lost."""
    exactly_once: bool = False
    """Whether no message may arrive twice: the users of this class speak the reconnect protocol."""

    def add(self, other: Sums) -> None:
        """Add the sums of another process."""
        for each in fields(self):
            name = each.name
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, mine or theirs if name == "exactly_once" else mine + theirs)

    def count(self, flaw: Flaw, number: int = 1) -> None:
        """Count messages with a flaw."""
        name = FLAW_NAMES[flaw]
        setattr(self, name, getattr(self, name) + number)

    @property
    def flowed(self) -> bool:
        """Whether a message has arrived."""
        return self.answered + self.pushed > 0


@dataclass(slots=True)
class Tally:
    """The sums by class of users, and examples of violations."""

    sums: dict[str, Sums] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def of(self, users: str) -> Sums:
        """Return the sums of a class of users, by its name."""
        if users not in self.sums:
            self.sums[users] = Sums()
        return self.sums[users]

    def example(self, line: str) -> None:
        """Keep a line about a violation, if it is one of the first."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(line)

    @property
    def total(self) -> Sums:
        """The sums of all classes."""
        total = Sums()
        for sums in self.sums.values():
            total.add(sums)
        return total

    def breaches(self) -> list[str]:
        """Return what breaks the guarantees, one sentence each."""
        total = self.total
        twice = sum(sums.repeated for sums in self.sums.values() if sums.exactly_once)
        found = {
            f"{total.lost:,} messages were lost": total.lost,
            f"{total.reordered:,} messages came out of order": total.reordered,
            f"{total.damaged:,} messages came damaged": total.damaged,
            f"{twice:,} messages came twice to users who count": twice,
        }
        return [sentence for sentence, count in found.items() if count]

    @classmethod
    def merge(cls, tallies: Iterable[Tally]) -> Self:
        """Add up the tallies of several processes."""
        merged = cls()
        for tally in tallies:
            for users, sums in tally.sums.items():
                merged.of(users).add(sums)
            for line in tally.examples:
                merged.example(line)
        return merged

    def to_report(self) -> dict[str, Any]:
        """Return the tally as a worker reports it."""
        return {"sums": {users: asdict(sums) for users, sums in self.sums.items()}, "examples": list(self.examples)}

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Self:
        """Read what `to_report` has written."""
        return cls({users: Sums(**sums) for users, sums in report["sums"].items()}, list(report["examples"]))
