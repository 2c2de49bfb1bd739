"""Which cores processes run on, and what CPU time and memory they have used."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from reconnect_harness.processes.cores import assign_cores, available, cpu_seconds, memory, pinned, tree

#: Starts a process, uses some CPU time, and says how much it was in all.
WORK = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
while time.process_time() < 0.3: pass
print(time.process_time(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("cores", "contender", "generator", "server", "load"),
    [([0], 0, 0, 0, 1), ([1, 0], 1, 0, 0, 1), ([4, 5, 6, 7], 7, 4, 6, 2)],
)
def test_the_contender_has_a_core_of_its_own_where_there_are_two(
    cores: list[int], contender: int, generator: int, server: int, load: int
) -> None:
    """With three cores the generator and the server have one each."""
    shared = assign_cores(cores)
    assert shared[:3] == ({contender}, {generator}, {server})
    assert shared.load == load
    assert ("competes" in shared.describe()) == (len(cores) == 1)


def test_without_affinity_nothing_is_pinned() -> None:
    """And the description says so."""
    shared = assign_cores([])
    with pinned(shared.contender):
        pass
    assert "nothing is pinned" in shared.describe()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no affinity elsewhere")
def test_a_process_that_is_started_while_pinned_stays_pinned() -> None:
    """This process is not pinned afterwards."""
    before = available()
    with pinned(frozenset(before[-1:])):
        assert available() == before[-1:]
        said = subprocess.run(
            [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"], capture_output=True, check=True
        )
    assert said.stdout.strip() == b"1"
    assert available() == before


def test_the_cpu_time_and_memory_of_a_tree_are_those_of_all_its_processes() -> None:
    """By the system's accounting, even for short times."""
    with subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        used = float(process.stdout.readline())
        pids = tree(process.pid)
        assert len(pids) == 2
        assert pids[0] == process.pid
        assert cpu_seconds(pids[:1]) >= used
        assert cpu_seconds(pids) > cpu_seconds(pids[:1])
        if sys.platform == "linux":
            assert 0 < (memory(pids[:1]) or 0) < (memory(pids) or 0)
        children = [psutil.Process(pid) for pid in pids]
    psutil.wait_procs(children, timeout=30)
    assert tree(process.pid) == []
    with pytest.raises(ProcessLookupError, match=f"the process {process.pid} has ended"):
        cpu_seconds([process.pid])
    assert cpu_seconds([os.getpid()]) > 0
