"""The line that identifies an owner, and whether that process is dead."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reconnect_harness.containers.owner import is_dead, this_process

OWNER = """
import sys
from reconnect_harness.containers.owner import this_process
print(this_process(), flush=True)
sys.stdin.read()
"""


def test_an_owner_is_alive_until_it_is_not() -> None:
    """Another process is an owner while it runs, and dead when it has been killed, even before it is waited for."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        assert not is_dead(owner)
        process.kill()
        # Its end of the pipe closes when it dies.
        assert process.stdout.read() == ""
    assert is_dead(owner)


def test_this_process_is_alive() -> None:
    """And its line is the same each time."""
    assert this_process() == this_process()
    assert not is_dead(this_process())


def test_a_number_that_is_used_again_is_another_process() -> None:
    """A process with the owner's number that was started at another time is not the owner."""
    place, pid, start = this_process().rsplit(" ", 2)
    assert is_dead(f"{place} {pid} {float(start) - 60:.1f}")


@pytest.mark.parametrize("owner", ["", "somebody", "elsewhere/1 1 0.0", "elsewhere/1 999999999 0.0", "a b c"])
def test_an_owner_elsewhere_is_not_called_dead(owner: str) -> None:
    """Neither a process of another machine nor a line of another form."""
    assert not is_dead(owner)
