"""A worker is given up after so many questions without an answer, and not after so much time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from reconnect_proxy.workers.watchdog import Watchdog

#: Whether each question is answered; the last one for all that follow.
Answers = list[bool]


def asked(answers: Answers) -> tuple[Callable[[float], object], list[float]]:
    """Return what asks a worker that answers so, and for how long each question was to wait."""
    waits: list[float] = []
    given: Iterator[bool] = iter(answers)

    async def ask(within: float) -> None:
        waits.append(within)
        await asyncio.sleep(0)
        if not next(given):
            raise TimeoutError

    return ask, waits


@pytest.mark.parametrize(("bound", "questions", "step"), [(0.04, 4, 0.01), (4.0, 4, 1.0), (15.0, 15, 1.0)])
async def test_it_is_given_up_after_the_timeout(bound: float, questions: int, step: float) -> None:
    """The questions in a row that have no answer make up that time."""
    ask, waits = asked([False] * 99)
    watchdog = Watchdog(bound)
    await watchdog.run(ask)
    assert waits == [step] * questions
    assert watchdog.silence.is_set()


async def test_one_answer_begins_the_time_again() -> None:
    """While it is out the worker counts as silent."""
    ask, waits = asked([False] * 3 + [True] + [False] * 4)
    watchdog = Watchdog(0.04)
    running = asyncio.create_task(watchdog.run(ask))
    await watchdog.silence.wait()
    while watchdog.silence.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0)
    await running
    assert len(waits) == 8


async def test_another_error_ends_the_watch() -> None:
    """The worker has ended."""

    async def ask(within: float) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await Watchdog(1.0).run(ask)
