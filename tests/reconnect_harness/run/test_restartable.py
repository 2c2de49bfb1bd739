"""Roles: an actor that a fault has ended is replaced, and its absence is no failure."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconnect_harness.faults.fault import FaultError
from reconnect_harness.processes.child import Actor, ProcessFailed, Warden
from reconnect_harness.run.restartable import Role

#: An actor that says how many there have been, and answers with that and how often it was asked.
PROGRAM = """
import pathlib, sys
file = pathlib.Path(sys.argv[1])
life = len(file.read_text()) if file.exists() else 0
if life > 1:
    sys.exit("no third")
file.write_text("x" * (life + 1))
print('{"ready": 1}', flush=True)
for asked, line in enumerate(sys.stdin, 1):
    print('{"life": %d, "asked": %d}' % (life + 1, asked), flush=True)
"""


@pytest.fixture
async def role(tmp_path: Path) -> AsyncIterator[Role]:
    """A role that two actors may have, one after the other."""
    (tmp_path / "actor.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "actor.py"), str(tmp_path / "lives")]
    with Warden() as warden:

        async def launch() -> Actor:
            actor = await Actor.start("the actor", command, tmp_path / "log", warden, piped=True)
            await actor.hear()
            return actor

        made = await Role.start(launch)
        yield made
        await made.stop()


async def test_an_actor_that_a_fault_has_ended_is_no_failure(role: Role) -> None:
    """While it is away its last answers are repeated; a new question has an empty answer."""
    assert await role.ask("count") == {"life": 1, "asked": 1}
    role.send_signal(signal.SIGKILL)
    assert role.away
    assert await role.ask("count") == {"life": 1, "asked": 1}
    assert await role.ask("other") == {}
    first = role.pid
    await asyncio.to_thread(role.restart)
    assert not role.away
    assert role.pid != first
    assert await role.ask("count") == {"life": 2, "asked": 1}


async def test_an_actor_that_dies_of_itself_is_a_failure(role: Role) -> None:
    """Only an end by a fault is expected."""
    role._actor.send_signal(signal.SIGKILL)
    with pytest.raises(ProcessFailed):
        await role.ask("count")


async def test_a_stopped_actor_is_still_there(role: Role) -> None:
    """A signal that does not end it leaves it in its role."""
    role.send_signal(signal.SIGSTOP)
    asking = asyncio.create_task(role.ask("count"))
    role.send_signal(signal.SIGCONT)
    assert (await asking)["life"] == 1


async def test_without_a_replacement_the_run_ends(role: Role) -> None:
    """The fault says why, and so does the next question to the role."""
    await role.ask("count")
    role.send_signal(signal.SIGKILL)
    await asyncio.to_thread(role.restart)
    role.send_signal(signal.SIGTERM)
    with pytest.raises(FaultError, match="no third"):
        await asyncio.to_thread(role.restart)
    with pytest.raises(ProcessFailed, match="no third"):
        await role.ask("count")
