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


#: How soon a program must be told that its connection has ended, in seconds: not at once only if the machine is busy.
TOLD_SECONDS = 10.0


async def cut_and_come_back(link: Relay, program: Program, stream: str) -> None:
    """Cut a link in each way; wait each time until the program was told, is connected again, and works."""
    await program.further(stream)
    for number, fault in enumerate(Fault, start=1):
        await cut(link, fault)
        await told_and_back(program, stream, number)


async def told(program: Program, times: int = 1) -> None:
    """Wait until a program was told so many times that its connection has ended."""
    await program.until(lambda _: program.count("lost") >= times, "it is told that the connection ended", TOLD_SECONDS)


async def told_and_back(program: Program, stream: str, times: int = 1) -> None:
    """Wait until a program was told so many times that its connection has ended, is back, and works again."""
    await told(program, times)
    await program.until(lambda _: program.count("back") >= times, "it is connected again")
    await program.further(stream)


async def cut_while_it_works(link: Relay, program: Program, stream: str, faults: Sequence[Fault] = CUTS) -> None:
    """Cut a link again and again, and wait in between until more messages of `stream` have arrived."""
    await program.further(stream)
    for fault in faults:
        accepted = link.accepted
        await cut(link, fault)
        await link.reaches(accepted + 1)
        await program.further(stream)
