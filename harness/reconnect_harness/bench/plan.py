"""Plans: which cases a run measures, how often, and with which contenders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconnect_harness.bench.cases import FLIGHT_BYTES, KEEPING, Case, Shape
from reconnect_harness.sut.base import DIRECT, OWN
from reconnect_harness.sut.choose import PRESETS

#: The contenders if the user names none.
CONTENDERS = (DIRECT, OWN, "nginx", "haproxy", "websockets", "fastify")

#: Contenders that take a millisecond to open a session.
SLOW = ("websockets", "fastify")

#: How long a trial takes beyond the time that is measured, in seconds; and how long shapes without such a time take.
_AROUND = 0.35
_TAKES: Mapping[Shape, float] = {Shape.RECOVER: 4.0, Shape.BURST: 1.5, Shape.DRAIN: 2.0}
#: How many sessions are opened in a second, roughly.
_A_SECOND = 1000

_KIB = 1024


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What a run measures, how often, and for how long steady traffic is measured each time, after a warm-up."""

    cases: Sequence[Case]
    rounds: int
    seconds: float
    #: How often cases with hundreds of new sessions are measured.
    session_rounds: int = 1
    #: The largest crowd in which contenders that are slow at opening sessions take part. Crowds of at least this size
    #: are measured once.
    slow: int = 1000

    def trials(self, contenders: Sequence[str]) -> Iterator[tuple[int, Case, str]]:
        """Yield round, case and contender of each trial, in order.

        A round has all cases and contenders, so that other load on the machine affects all alike. The contender that is
        measured first changes from round to round.
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
            # Sessions of the presets do not outlive their upstream; a command may be any proxy.
            return name not in PRESETS and name != DIRECT
        return name not in SLOW or case.shape is not Shape.CROWD or case.count <= self.slow

    def estimate(self, contenders: Sequence[str]) -> float:
        """Return how long the run will take, in seconds, roughly."""
        return sum(self._takes(case) for _, case, _ in self.trials(contenders))

    def _takes(self, case: Case) -> float:
        if case.shape in _TAKES:
            return _TAKES[case.shape]
        opening = case.count / _A_SECOND
        return _AROUND + opening + (0.0 if case.shape is Shape.OPEN else self.seconds)


_HEAVY = frozenset({Shape.OPEN, Shape.CROWD, Shape.RECOVER, Shape.BURST, Shape.DRAIN})


def _of_sessions(sessions: int, messages: int, *crowds: int) -> list[Case]:
    """Return the cases about sessions: how many are opened and recovered, how many messages at once, the crowds."""
    return [
        Case(Shape.OPEN, count=sessions),
        Case(Shape.RECOVER, count=sessions),
        Case(Shape.BURST, count=messages),
        Case(Shape.DRAIN, count=messages),
        *(Case(Shape.CROWD, count=crowd) for crowd in crowds),
    ]


QUICK = BenchPlan(
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

STANDARD = BenchPlan(
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

FULL = BenchPlan(
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

#: The plans by the option that asks for them.
NAMED = {None: STANDARD, "quick": QUICK, "full": FULL}
