"""Whose a thing is, and whether its owner is dead."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reconnect_harness.containers import owner as ownership

OWNER = """
import sys
from reconnect_harness.containers import owner as ownership
print(ownership.mine(), flush=True)
sys.stdin.read()
"""


def test_an_owner_is_alive_until_it_is_not() -> None:
    """Another process is an owner while it runs, and dead when it has been killed, even before it is waited for."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        assert not ownership.is_dead(owner)
        process.kill()
        # Its end of the pipe is closed by its death.
        assert process.stdout.read() == ""
    assert ownership.is_dead(owner)


def test_this_process_is_alive() -> None:
    """And says the same of itself each time."""
    assert ownership.mine() == ownership.mine()
    assert not ownership.is_dead(ownership.mine())


def test_a_number_that_came_again_is_somebody_else() -> None:
    """A process with the owner's number that was started at another time is not the owner."""
    place, pid, start = ownership.mine().rsplit(" ", 2)
    assert ownership.is_dead(f"{place} {pid} {float(start) - 60:.1f}")


@pytest.mark.parametrize("owner", ["", "somebody", "elsewhere/1 1 0.0", "elsewhere/1 999999999 0.0", "a b c"])
def test_of_others_nothing_is_said(owner: str) -> None:
    """A process of another machine, or a line that is none of ours, is not called dead."""
    assert not ownership.is_dead(owner)
