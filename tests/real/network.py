"""Cuts of a link, each of 400 ms, while a program works."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum

from ..acceptance.relay import Cut, Relay
from .program import Program

#: How long a cut lasts, in seconds.
CUT_SECONDS = 0.4


class Fault(StrEnum):
    """What happens to the connections of a link."""

    RESET = "reset"
    """They end with RST, and further ones are refused."""
    FINISH = "finish"
    """They end with FIN, and further ones are refused."""
    SILENCE = "silence"
    """Nothing gets through and nothing is told; what is sent meanwhile is gone. Then they end with RST."""


#: Each kind twice, in turn.
CUTS = (Fault.RESET, Fault.FINISH, Fault.SILENCE) * 2


async def cut(link: Relay, fault: Fault) -> None:
    """Cut a link for `CUT_SECONDS`."""
    if fault is Fault.SILENCE:
        link.silence()
        await asyncio.sleep(CUT_SECONDS)
        link.cut(Cut.RESET)
    else:
        await link.refuse(Cut(fault.value))
        await asyncio.sleep(CUT_SECONDS)
        await link.heal()


async def cut_while_it_works(link: Relay, program: Program, stream: str, faults: Sequence[Fault] = CUTS) -> None:
    """Cut a link again and again, and wait in between until more messages of `stream` have arrived."""
    await program.further(stream)
    for fault in faults:
        accepted = link.accepted
        await cut(link, fault)
        await link.reaches(accepted + 1)
        await program.further(stream)
