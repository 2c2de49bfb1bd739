"""The weather of a soak: spells of faults without end, drawn from a seed, with a calm after each.

    ~~ spell ~~  rest  calm  ~~~~ spell ~~~~  rest  calm  ~ spell ~ …
    1 to 3 kinds       what is measured now is measured in peace
    of fault at a time

A spell is a timeline of the harness's nemesis, as a scenario has one. In the end of it all is healed.
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
CLIENT, UPSTREAM, PROXY, GUESTS = "client", "upstream", "proxy", "guests"

#: Within how many seconds from the start of a spell its faults begin.
BEGIN_SECONDS = 2.5

#: How long what a spell has broken is given to come together again, in seconds, before the calm.
REST_SECONDS = 1.5

_KINDS = (1, 1, 2, 3)

_LINKS = (CLIENT, UPSTREAM)


def _of_link(link: str) -> Iterator[tuple[int, Fault]]:
    # One-way silences are shorter than the pings' patience: to a proxy whose Pings go nowhere a peer that talks is one
    # that answers none, and it then does not wait for it any more (PROTOCOL.md section 4).
    yield 4, Fault(LINK_FAULTS["down"], link, 0.0, (0.1, 2.0))
    yield 3, Fault(LINK_FAULTS["down"], link, 0.0, (0.05, 0.3), times=4, every=(0.3, 0.8))
    yield 3, Fault(LINK_FAULTS["cut"], link, 0.0, (0.2, 1.0), toxicity=0.5)
    yield 2, Fault(LINK_FAULTS["silence"], link, 0.0, (0.5, 6.0))
    yield 1, Fault(LINK_FAULTS["silence"], link, 0.0, (0.3, 1.5), stream="upstream")
    yield 1, Fault(LINK_FAULTS["silence"], link, 0.0, (0.3, 1.5), stream="downstream")
    yield 2, Fault(LINK_FAULTS["latency"], link, 0.0, (1.0, 3.0), attributes={"latency": (20, 150), "jitter": (0, 50)})
    yield 1, Fault(LINK_FAULTS["bandwidth"], link, 0.0, (1.0, 3.0), attributes={"rate": (16, 64)})
    yield (
        1,
        Fault(
            LINK_FAULTS["slicer"],
            link,
            0.0,
            (1.0, 3.0),
            attributes={"average_size": (64, 512), "size_variation": (0, 60)},
        ),
    )
    yield 1, Fault(LINK_FAULTS["slow_close"], link, 0.0, (1.0, 3.0), attributes={"delay": (100, 1000)})


#: What can happen, each with how often beside the others.
FAULTS: Sequence[tuple[int, Fault]] = (
    *chain.from_iterable(map(_of_link, _LINKS)),
    (3, Fault(LINK_FAULTS["reset"], CLIENT, 0.0)),
    (2, Fault(PROCESS_FAULTS["stop"], UPSTREAM, 0.0, (0.2, 2.0))),
    (2, Fault(PROCESS_FAULTS["stop"], GUESTS, 0.0, (0.2, 2.0))),
    (2, Fault(PROCESS_FAULTS["stop"], PROXY, 0.0, (0.1, 1.0))),
    (2, Fault(PROCESS_FAULTS["kill"], UPSTREAM, 0.0, (0.1, 1.0))),
    (1, Fault(PROCESS_FAULTS["terminate"], UPSTREAM, 0.0, (0.1, 1.0))),
)


def spells(draw: random.Random) -> Iterator[list[Fault]]:
    """Yield the faults of one spell after the other, without end. The same seed makes the same weather."""
    weights, faults = zip(*FAULTS, strict=True)
    while True:
        chosen = draw.choices(faults, weights, k=draw.choice(_KINDS))
        # Who is dead cannot be killed, so a process has one fault at a time.
        once = {index if fault.kind.target_kind is LINK else fault.target: fault for index, fault in enumerate(chosen)}
        yield [replace(fault, at=draw.uniform(0, BEGIN_SECONDS)) for fault in once.values()]


@dataclass(slots=True)
class Weather:
    """Makes the weather.

    Attributes:
        links: what link faults are done to, by name; `processes` likewise.
        record: is told of each fault when it is over.
        calm: is awaited in each calm, of which the first is before the first spell; its end is the calm's.
        fair: whether there is no fault, nor has just been one.

    """

    links: Mapping[str, ToxiproxyLink]
    processes: Mapping[str, ProcessTarget]
    record: Callable[[FaultRecord], None]
    calm: Callable[[], Awaitable[None]]
    seed: int
    fair: bool = True

    async def run(self) -> None:
        """Make weather until cancelled; then all is healed."""
        draw = random.Random(self.seed)
        for faults in spells(draw):
            await self.calm()
            nemesis = Nemesis(faults, self.links, self.record, processes=self.processes, rng=draw)
            self.fair = False
            await nemesis.run()
            await asyncio.sleep(REST_SECONDS)
            self.fair = True
