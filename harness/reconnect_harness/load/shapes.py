"""How the load goes on over time: the shapes that `--shape` chooses from. `steady` is locust's own way.

    ramp  ___/‾‾‾      spike  __|‾|__      reconnect-storm  ‾‾|‾‾|‾‾   all links dropped at once, at each |

They go by -u and -r, and end with -t. Without -t a ramp grows for 40 s, and a spike comes every minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from locust import LoadTestShape
from locust.runners import Runner

from reconnect_harness.values import seconds

#: The message with which users are told to lose their links.
STORM = "reconnect-storm"

#: How long a cycle is where the run has no end, in seconds.
CYCLE_SECONDS = 60.0

#: In how many steps a ramp grows.
STEPS = 20


class Shape(LoadTestShape):
    """A shape that goes by locust's options for users, spawn rate and run time."""

    abstract = True
    use_common_options = True

    def __init__(self, options: argparse.Namespace, runner: Runner) -> None:
        super().__init__()
        self.runner = runner
        self._options = options

    @property
    def users(self) -> int:
        """The most users that there are to be."""
        return int(self._options.num_users or 1)

    @property
    def cycle(self) -> float:
        """How long it takes from the begin to the end of the shape, in seconds."""
        return float(self._options.run_time or CYCLE_SECONDS)

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are to be now, and how fast they come; None at the end."""
        now = self.get_run_time()
        if self._options.run_time and now >= self._options.run_time:
            return None
        return self.at(now), float(self._options.spawn_rate or self.users)

    def at(self, now: float) -> int:
        """Return how many users there are to be, so many seconds after the begin."""
        raise NotImplementedError


class Ramp(Shape):
    """Grows evenly for two thirds of the run, then stays."""

    abstract = False

    def at(self, now: float) -> int:
        """Return the height of the ramp."""
        done = min(1.0, now / (self.cycle * 2 / 3))
        step = 1 + int(done * (STEPS - 1))
        return max(1, self.users * step // STEPS)


class Spike(Shape):
    """A fifth of the users, and all of them in the middle third."""

    abstract = False

    def at(self, now: float) -> int:
        """Return the height, on or beside the spike."""
        spike = 1 / 3 <= now % self.cycle / self.cycle < 2 / 3
        return self.users if spike else max(1, self.users // 5)


class ReconnectStorm(Shape):
    """All users, whose links are dropped at once, again and again."""

    abstract = False

    def __init__(self, options: argparse.Namespace, runner: Runner) -> None:
        super().__init__(options, runner)
        self._storms = 0

    def reset_time(self) -> None:
        """Begin anew."""
        super().reset_time()
        self._storms = 0

    def tick(self) -> tuple[int, float] | None:
        """Say how many users there are to be, and let a storm loose when one is due."""
        wanted = super().tick()
        every = seconds(self._options.storm_every)
        # Times count from when everybody is there.
        due = int(max(0.0, self.get_run_time() - self.users / float(self._options.spawn_rate or self.users)) / every)
        if wanted is not None and due > self._storms:
            self._storms = due
            assert self.runner is not None
            self.runner.send_message(STORM)
        return wanted

    def at(self, now: float) -> int:
        """Return all of them."""
        return self.users


SHAPES: Mapping[str, type[Shape]] = {"ramp": Ramp, "spike": Spike, "reconnect-storm": ReconnectStorm}


def shape_of(options: argparse.Namespace, runner: Runner) -> Shape | None:
    """Return the shape that was chosen, None for a steady load."""
    chosen = SHAPES.get(options.shape)
    return chosen(options, runner) if chosen else None
