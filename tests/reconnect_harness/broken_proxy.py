"""A WebSocket relay that is right, or wrong in the way that it is told: what the checkers are tested against.

    python broken_proxy.py LISTEN UPSTREAM [--drop N] [--swap N] … [--only text|large|pressed|…] [--flaw NAME] [--keep]

Each of `mutants.harms.HARMS` is done to every Nth message of the whole process, or of those that `--only` leaves;
--flaw names one of `mutants.relay.FLAWS`. --leak keeps something of each connection that is over. --in-step sends to
one client at a time, so that a slow one holds up all. Without a flag it is an ordinary relay that keeps nothing: when
one side is lost, so is the other. With --keep it dials the upstream again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

# It is started as a program, from any folder.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.reconnect_harness.mutants.harms import HARMS, ONLY
from tests.reconnect_harness.mutants.relay import FLAWS, Relay, RelayOptions


async def main() -> None:
    """Relay until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("listen")
    parser.add_argument("upstream")
    for harm in HARMS:
        parser.add_argument(f"--{harm}", type=int)
    parser.add_argument("--only", choices=ONLY, action="append", default=[])
    parser.add_argument("--flaw", choices=FLAWS, default="")
    parser.add_argument("--leak", choices=("socket", "thread", "process", "memory"), default="")
    parser.add_argument("--in-step", action="store_true")
    parser.add_argument("--keep", action="store_true")
    told = parser.parse_args()
    every = {harm: n for harm in HARMS if (n := getattr(told, harm))}
    options = RelayOptions(told.keep, told.in_step, told.flaw, told.leak)
    await Relay(told.upstream, every, told.only, options).run(told.listen)


if __name__ == "__main__":
    asyncio.run(main())
