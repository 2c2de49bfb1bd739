"""The summary of a run: a table, the faults, whether the generator was the limit, and the verdict."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconnect_harness.load.generator_load import GeneratorReading
from reconnect_harness.load.tally import Sums, Tally
from reconnect_harness.load.testbed import FaultTimes

#: The logger of locust's own tables, so that the summary goes where they go.
_console = logging.getLogger("locust.stats_logger")

#: The columns of the table: a field of `Sums`, and its title.
COLUMNS: Sequence[tuple[str, str]] = (
    ("users", "users"),
    ("sent", "sent"),
    ("answered", "answered"),
    ("pushed", "pushed"),
    ("lost", "lost"),
    ("repeated", "repeated"),
    ("reordered", "reordered"),
    ("damaged", "damaged"),
    ("misdelivered", "misdelivered"),
    ("dropped", "drops"),
    ("reconnects", "reconnects"),
    ("ended", "ended"),
)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of a run.

    Attributes:
        target: what the users talked to.
        tally: what they sent and received.
        readings: how busy each generator was.
        unfinished: the workers that ended without a final report, and how many users each had.
        faults: the faults that were done.
        troubles: what else keeps the verdict from being known, one sentence each.

    """

    target: str
    tally: Tally
    readings: Mapping[str, GeneratorReading]
    unfinished: Mapping[str, int]
    faults: Sequence[FaultTimes]
    troubles: Sequence[str]

    @property
    def unknowns(self) -> list[str]:
        """Return why the verdict cannot be known, one sentence each."""
        found = [
            f"worker {worker} was lost with the accounts of {users:,} users: what became of their messages is unknown"
            for worker, users in self.unfinished.items()
        ]
        if not self.tally.total.flowed:
            found.append("no message came through")
        held = [fault for fault in self.faults if fault.took_hold is not None]
        if self.faults and not held:
            found.append(f"no fault took hold: {self.faults[0]}: {self.faults[0].problem}")
        found += [f"{fault} was not cleared: {fault.problem}" for fault in held if fault.cleared is None]
        return [*found, *self.troubles]

    @property
    def wrong(self) -> list[str]:
        """Return what makes the run fail, one sentence each."""
        return [*self.tally.breaches(), *self.unknowns]

    @property
    def limits(self) -> list[str]:
        """Return why the generator, and not the target, was the limit; nothing if it kept up."""
        return [f"{name}: {limit}" for name, reading in self.readings.items() for limit in reading.limits()]

    def print(self) -> None:
        """Write the summary where locust writes its tables."""
        for line in self.lines():
            _console.info(line)

    def lines(self) -> Iterator[str]:
        yield ""
        yield f"WebSocket load against {self.target}"
        yield from self._table()
        for line in self.tally.examples:
            yield f"  {line}"
        if self.faults:
            held = sum(fault.took_hold is not None for fault in self.faults)
            yield f"faults: {held} of {len(self.faults)} took hold"
        yield from self._generator()
        yield from self._verdict()
        yield ""

    def _table(self) -> Iterator[str]:
        rows = [*self.tally.sums.items(), ("total", self.tally.total)]
        wide = max(len(name) for name, _ in rows)
        yield " ".join(["".ljust(wide), *(title.rjust(10) for _, title in COLUMNS)])
        for name, sums in rows:
            yield " ".join([name.ljust(wide), *(_cell(sums, field) for field, _ in COLUMNS)])

    def _generator(self) -> Iterator[str]:
        for name, reading in self.readings.items():
            late = f"{reading.late:,} of {reading.sends:,} sends late" if reading.sends else "no planned sends"
            yield (
                f"generator, {name}: CPU {reading.cpu_mean:.0%} of a core, {reading.cpu:.0%} in its busiest seconds, "
                f"machine {reading.machine:.0%}; "
                f"lag p99 {reading.lag_p99 * 1000:.0f} ms; {late}"
            )
        if self.limits:
            yield "THE GENERATOR WAS THE LIMIT, not the target; the numbers show its own lateness:"
            yield from (f"  {limit}" for limit in self.limits)

    def _verdict(self) -> Iterator[str]:
        breaches, unknowns = self.tally.breaches(), self.unknowns
        if breaches:
            yield f"verdict: INVALID: {'; '.join(breaches)}"
        elif unknowns:
            yield "verdict: UNKNOWN"
        else:
            total = self.tally.total
            twice = f", {total.repeated:,} repeated" if total.repeated else ""
            yield f"verdict: valid: nothing lost of {total.sent:,} sent and {total.pushed:,} pushed messages{twice}"
        yield from (f"  {sentence}" for sentence in unknowns)


def _cell(sums: Sums, field: str) -> str:
    return f"{getattr(sums, field):,}".rjust(10)
