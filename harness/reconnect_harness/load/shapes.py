"""How the number of users changes over time: the shapes of `--shape`. `steady` is what locust does by itself.

    ramp  ___/‾‾‾      spike  __|‾|__      reconnect-storm  ‾‾|‾‾|‾‾   all links dropped at once, at each |

They use -u, -r and -t. Without -t a ramp grows for 40 s, and a spike comes every minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from locust import LoadTestShape
from locust.runners import Runner

from reconnect_harness.values import seconds

#: The message that makes users drop their links.
STORM = "reconnect-storm"

#: How long a cycle is if the run has no end, in seconds.
CYCLE_SECONDS = 60.0

#: In how many steps a ramp grows.
STEPS = 20


class LoadShape(LoadTestShape):
    """A shape that uses locust's options for users, spawn rate and run time."""

    abstract = True
    use_common_options = True

    def __init__(self, options: argparse.Namespace, runner: Runner) -> None:
        super().__init__()
        self.runner = runner
        self._options = options

    @property
    def users(self) -> int:
        """The highest number of users."""
        return int(self._options.num_users or 1)

    @property
    def cycle(self) -> float:
        """How long the shape takes, in seconds."""
        return float(self._options.run_time or CYCLE_SECONDS)

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there should be now, and how many may start a second; None at the end."""
        now = self.get_run_time()
        if self._options.run_time and now >= self._options.run_time:
            return None
        return self.at(now), float(self._options.spawn_rate or self.users)

    def at(self, now: float) -> int:
        """Return how many users there should be `now` seconds after the start."""
        raise NotImplementedError


class Ramp(LoadShape):
    """Grows evenly for two thirds of the run, then stays."""

    abstract = False

    def at(self, now: float) -> int:
        done = min(1.0, now / (self.cycle * 2 / 3))
        step = 1 + int(done * (STEPS - 1))
        return max(1, self.users * step // STEPS)


class Spike(LoadShape):
    """A fifth of the users, and all of them in the middle third."""

    abstract = False

    def at(self, now: float) -> int:
        """Return the number of users, in the spike or out of it."""
        spike = 1 / 3 <= now % self.cycle / self.cycle < 2 / 3
        return self.users if spike else max(1, self.users // 5)


class ReconnectStorm(LoadShape):
    """All users, whose links are dropped at once, again and again."""

    abstract = False

    def __init__(self, options: argparse.Namespace, runner: Runner) -> None:
        super().__init__(options, runner)
        self._storms = 0

    def reset_time(self) -> None:
        super().reset_time()
        self._storms = 0

    def tick(self) -> tuple[int, float] | None:
        """Return what `LoadShape.tick` does; when a storm is due, drop all links."""
        wanted = super().tick()
        every = seconds(self._options.storm_every)
        # Times count from the moment when all users have started.
        due = int(max(0.0, self.get_run_time() - self.users / float(self._options.spawn_rate or self.users)) / every)
        if wanted is not None and due > self._storms:
            self._storms = due
            assert self.runner is not None
            self.runner.send_message(STORM)
        return wanted

    def at(self, now: float) -> int:
        return self.users


SHAPES: Mapping[str, type[LoadShape]] = {"ramp": Ramp, "spike": Spike, "reconnect-storm": ReconnectStorm}


def shape_of(options: argparse.Namespace, runner: Runner) -> LoadShape | None:
    """Return the shape that was chosen, None for a steady load."""
    chosen = SHAPES.get(options.shape)
    return chosen(options, runner) if chosen else None
