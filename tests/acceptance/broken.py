"""The proxy with one of its rules made wrong: what a test of that rule must fail against.

python broken.py HARM … serve [options of `reconnect-proxy serve`]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconnect_proxy.cli import main
from reconnect_proxy.core import silence, timers
from reconnect_proxy.core.confirmation import Pongs
from reconnect_proxy.core.silence import Action, Judgement, Silence
from reconnect_proxy.net import compressed_input


def with_harm(harm: str) -> tuple[str, ...]:
    """Return the `prefix` with which a proxy does this harm."""
    assert harm in HARMS
    return (sys.executable, str(Path(__file__)), harm)


def _mute_at_once() -> None:
    """Call a peer mute when its first Ping is late, however much room there is."""
    judge = Silence.judge

    def wrong(self: Silence, now: float, heard_at: float, **state: Any) -> Judgement:
        confirmation = state["confirmation"]
        late = [ping for ping in confirmation.in_flight if heard_at >= ping.since + self._policy.ping_timeout]
        if late and confirmation.pongs is not Pongs.MUTE:
            return Judgement(Action.MUTE, self._policy.ping_interval)
        return judge(self, now, heard_at, **state)

    Silence.judge = wrong  # type: ignore[method-assign, assignment]


def _judge_frozen_peers() -> None:
    """Count the time in which the process was stopped as silence of its peers, and judge before reading."""
    silence.LATE = timers.LATE = math.inf


def _inflate_at_once() -> None:
    """Let no compressed message wait, however much time inflating takes."""
    compressed_input.BURST = math.inf


HARMS: dict[str, Callable[[], None]] = {
    "mute-at-once": _mute_at_once,
    "judge-frozen-peers": _judge_frozen_peers,
    "inflate-at-once": _inflate_at_once,
}

if __name__ == "__main__":
    HARMS[sys.argv[1]]()
    sys.exit(main(sys.argv[sys.argv.index("serve") :]))
