"""The faults of a soak: phases of faults, drawn from a seed, with a quiet period after each.

    ~~ phase ~~  rest  quiet  ~~~~ phase ~~~~  rest  quiet  ~ phase ~ …
    1 to 3 faults      round trips are measured without faults

A phase is a timeline of the harness's nemesis, as a scenario has one. At the end everything is healed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from reconnect_harness.faults.fault import Fault
from reconnect_harness.faults.link_faults import LINK, LINK_FAULTS
from reconnect_harness.faults.nemesis import Nemesis
from reconnect_harness.faults.process_faults import PROCESS_FAULTS, ProcessTarget
from reconnect_harness.history.record import FaultRecord
from reconnect_harness.toxiproxy.link import ToxiproxyLink

#: What faults are done to.
CLIENT, UPSTREAM, PROXY, CLIENTS = "client", "upstream", "proxy", "clients"

#: Within how many seconds from the start of a phase its faults begin.
BEGIN_SECONDS = 2.5

#: How many seconds links and sessions have to recover after a phase, before the quiet period.
REST_SECONDS = 1.5

_FAULTS_IN_A_PHASE = (1, 1, 2, 3)

_LINKS = (CLIENT, UPSTREAM)


def _of_link(link: str) -> Iterator[tuple[int, Fault]]:
    # Silences of one direction are shorter than the Ping timeout: a proxy whose Pings are lost takes a peer that talks
    # for one that answers no Pings, and no longer waits for it (PROTOCOL.md section 4).
    yield 4, Fault(LINK_FAULTS["down"], link, 0.0, (0.1, 2.0))
    yield 3, Fault(LINK_FAULTS["down"], link, 0.0, (0.05, 0.3), times=4, every=(0.3, 0.8))
    yield 3, Fault(LINK_FAULTS["cut"], link, 0.0, (0.2, 1.0), toxicity=0.5)
    yield 2, Fault(LINK_FAULTS["silence"], link, 0.0, (0.5, 6.0))
    yield 1, Fault(LINK_FAULTS["silence"], link, 0.0, (0.3, 1.5), stream="upstream")
    yield 1, Fault(LINK_FAULTS["silence"], link, 0.0, (0.3, 1.5), stream="downstream")
    yield 2, Fault(LINK_FAULTS["latency"], link, 0.0, (1.0, 3.0), attributes={"latency": (20, 150), "jitter": (0, 50)})
    yield 1, Fault(LINK_FAULTS["bandwidth"], link, 0.0, (1.0, 3.0), attributes={"rate": (16, 64)})
    slices = {"average_size": (64, 512), "size_variation": (0, 60)}
    yield 1, Fault(LINK_FAULTS["slicer"], link, 0.0, (1.0, 3.0), attributes=slices)
    yield 1, Fault(LINK_FAULTS["slow_close"], link, 0.0, (1.0, 3.0), attributes={"delay": (100, 1000)})


#: The faults that are drawn, each with its weight.
FAULTS: Sequence[tuple[int, Fault]] = (
    *chain.from_iterable(map(_of_link, _LINKS)),
    (3, Fault(LINK_FAULTS["reset"], CLIENT, 0.0)),
    (2, Fault(PROCESS_FAULTS["stop"], UPSTREAM, 0.0, (0.2, 2.0))),
    (2, Fault(PROCESS_FAULTS["stop"], CLIENTS, 0.0, (0.2, 2.0))),
    (2, Fault(PROCESS_FAULTS["stop"], PROXY, 0.0, (0.1, 1.0))),
    (2, Fault(PROCESS_FAULTS["kill"], UPSTREAM, 0.0, (0.1, 1.0))),
    (1, Fault(PROCESS_FAULTS["terminate"], UPSTREAM, 0.0, (0.1, 1.0))),
)


def phases(draw: random.Random) -> Iterator[list[Fault]]:
    """Yield the faults of one phase after the other, without end. The same seed makes the same phases."""
    weights, faults = zip(*FAULTS, strict=True)
    while True:
        chosen = draw.choices(faults, weights, k=draw.choice(_FAULTS_IN_A_PHASE))
        # A process that is dead cannot be stopped, so a process has one fault at a time.
        once = {index if fault.kind.target_kind is LINK else fault.target: fault for index, fault in enumerate(chosen)}
        yield [replace(fault, at=draw.uniform(0, BEGIN_SECONDS)) for fault in once.values()]


@dataclass(slots=True)
class FaultPhases:
    """Runs phases of faults and quiet periods in turn.

    Attributes:
        links: what link faults are done to, by name; `processes` likewise.
        record: called with each fault when it is over.
        in_quiet: awaited in each quiet period, which ends when it returns. The first one is before the first phase.
        is_quiet: whether there is no fault, and the rest after the last one is over.

    """

    links: Mapping[str, ToxiproxyLink]
    processes: Mapping[str, ProcessTarget]
    record: Callable[[FaultRecord], None]
    in_quiet: Callable[[], Awaitable[None]]
    seed: int
    is_quiet: bool = True

    async def run(self) -> None:
        """Go on until cancelled; then everything is healed."""
        draw = random.Random(self.seed)
        for faults in phases(draw):
            await self.in_quiet()
            nemesis = Nemesis(faults, self.links, self.record, processes=self.processes, rng=draw)
            self.is_quiet = False
            await nemesis.run()
            await asyncio.sleep(REST_SECONDS)
            self.is_quiet = True
