"""Plans: which cases a run measures, how often, and who takes part in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconnect_harness.bench.cases import FLIGHT_BYTES, KEEPING, Case, Shape
from reconnect_harness.sut.base import DIRECT, OWN
from reconnect_harness.sut.choose import PRESETS

#: Who is measured where the user names nobody.
CONTENDERS = (DIRECT, OWN, "nginx", "haproxy", "websockets", "fastify")

#: Contenders that take a millisecond for each session.
SLOW = ("websockets", "fastify")

#: How long a trial takes beyond the time for which it is measured, in seconds; and how long shapes without one take.
_AROUND = 0.35
_TAKES: Mapping[Shape, float] = {Shape.RECOVER: 4.0, Shape.BURST: 1.5, Shape.DRAIN: 2.0}
#: Sessions that are opened in a second, more or less.
_A_SECOND = 1000

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        cases: what.
        rounds: how often; `session_rounds` times where sessions are opened by the hundred.
        seconds: for how long each time, after a warm-up.
        slow: the largest crowd of which contenders that are slow at opening sessions take part. From that size on
            crowds are measured once.

    """

    cases: Sequence[Case]
    rounds: int
    seconds: float
    session_rounds: int = 1
    slow: int = 1000

    def trials(self, contenders: Sequence[str]) -> Iterator[tuple[int, Case, str]]:
        """Yield round, case and contender of each trial, in the order in which they are made.

        Rounds go over everything in turn, so that what else the machine does meets all alike; who comes first changes.
        """
        for number in range(1, self.rounds + 1):
            for case in self.cases:
                if number > self._rounds(case):
                    continue
                turn = number % len(contenders)
                for name in [*contenders[turn:], *contenders[:turn]]:
                    if self.takes_part(name, case):
                        yield number, case, name

    def _rounds(self, case: Case) -> int:
        if case.shape not in _HEAVY:
            return self.rounds
        return 1 if case.shape is Shape.CROWD and case.count >= self.slow else self.session_rounds

    def takes_part(self, name: str, case: Case) -> bool:
        """Return whether a contender is measured in a case."""
        if case.shape in KEEPING:
            # Of the others it is known that they do not outlive their upstream; a command may be anything.
            return name not in PRESETS and name != DIRECT
        return name not in SLOW or case.shape is not Shape.CROWD or case.count <= self.slow

    def estimate(self, contenders: Sequence[str]) -> float:
        """Return how long it will take, in seconds, more or less."""
        return sum(self._takes(case) for _, case, _ in self.trials(contenders))

    def _takes(self, case: Case) -> float:
        if case.shape in _TAKES:
            return _TAKES[case.shape]
        opening = case.count / _A_SECOND
        return _AROUND + opening + (0.0 if case.shape is Shape.OPEN else self.seconds)


_HEAVY = frozenset({Shape.OPEN, Shape.CROWD, Shape.RECOVER, Shape.BURST, Shape.DRAIN})


def _of_sessions(sessions: int, messages: int, *crowds: int) -> list[Case]:
    """Return the cases about sessions: so many opened and recovered, so many messages at once, these crowds."""
    return [
        Case(Shape.OPEN, count=sessions),
        Case(Shape.RECOVER, count=sessions),
        Case(Shape.BURST, count=messages),
        Case(Shape.DRAIN, count=messages),
        *(Case(Shape.CROWD, count=crowd) for crowd in crowds),
    ]


QUICK = Plan(
    [
        Case(Shape.REQUEST_REPLY, count=1),
        Case(Shape.PIPELINED),
        Case(Shape.PIPELINED, 64 * _KIB),
        *_of_sessions(500, 20_000, 100, 1000),
    ],
    rounds=2,
    seconds=0.2,
    slow=500,
)

STANDARD = Plan(
    [
        Case(Shape.REQUEST_REPLY, count=1),
        Case(Shape.PACED, count=100),
        Case(Shape.REQUEST_REPLY, count=100),
        *(Case(Shape.PIPELINED, size) for size in (64, 128, _KIB, 64 * _KIB, _KIB**2)),
        Case(Shape.UP),
        Case(Shape.DOWN),
        Case(Shape.FAN_OUT, count=100),
        *_of_sessions(2000, 50_000, 100, 1000, 10_000),
    ],
    rounds=3,
    seconds=0.3,
    session_rounds=2,
)

FULL = Plan(
    [
        Case(Shape.PACED, count=1),
        Case(Shape.PACED, count=100),
        *(
            case
            for shape in (Shape.REQUEST_REPLY, Shape.PIPELINED, Shape.UP, Shape.DOWN, Shape.FAN_OUT)
            for size in (64, 128, _KIB, 64 * _KIB, _KIB**2)
            for count in (1, 16, 100, 1000)
            if (case := Case(shape, size, count)).flight <= FLIGHT_BYTES
        ),
        *_of_sessions(2000, 50_000, 100, 1000, 10_000),
    ],
    rounds=5,
    seconds=1.0,
    session_rounds=3,
    slow=10_001,
)
