"""The processes of a run: they end when they are told to, and when the run is killed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from reconnect_harness.processes import child as processes
from reconnect_harness.processes.child import Actor, Child, ProcessFailed, Warden
from tests.reconnect_harness.leftovers import survivors
from tests.reconnect_harness.waiting import wait_until

#: A parent and a child of it, of which both hear no SIGTERM; the child's number is the first line of output.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    child = subprocess.Popen([sys.executable, __file__, "child"])
    print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def warden() -> Iterator[Warden]:
    """A warden."""
    with Warden() as made:
        yield made


async def _stubborn(folder: Path, warden: Warden) -> tuple[Child, psutil.Process]:
    """Start a process and its child that both ignore SIGTERM."""
    (folder / "stubborn.py").write_text(STUBBORN)
    command = [sys.executable, str(folder / "stubborn.py")]
    parent = await Child.start("the stubborn", command, folder / "log", warden)
    await asyncio.to_thread(wait_until, lambda: bool((folder / "log").read_text().strip()))
    return parent, psutil.Process(int((folder / "log").read_text()))


async def test_a_process_that_will_not_end_is_killed_with_its_children(
    tmp_path: Path, warden: Warden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGKILL after SIGTERM."""
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.1)
    parent, child = await _stubborn(tmp_path, warden)
    await parent.stop()
    assert parent.returncode == -signal.SIGKILL
    assert not await asyncio.to_thread(survivors, [child])
    await parent.stop()


async def test_a_process_that_was_stopped_by_a_fault_still_ends(tmp_path: Path, warden: Warden) -> None:
    """SIGCONT is sent before SIGTERM."""
    sleeper = await Child.start("a sleeper", ["sleep", "600"], tmp_path / "log", warden)
    sleeper.send_signal(signal.SIGSTOP)
    await sleeper.stop()
    assert sleeper.returncode == -signal.SIGTERM


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path, warden: Warden) -> None:
    """With the system's reason."""
    with pytest.raises(ProcessFailed, match=r"the proxy cannot be started: no-such-program: No such file"):
        await Child.start("the proxy", ["no-such-program"], tmp_path / "log", warden)


async def test_the_error_of_an_actor_that_dies_has_its_last_output(tmp_path: Path, warden: Warden) -> None:
    """Its traceback is in the error of the run."""
    actor = await Actor.launch(
        "the clients", "reconnect_harness.peers.clients", {"kind": "nobody"}, tmp_path / "log", warden
    )
    with pytest.raises(ProcessFailed, match=r"the clients ended with status 1\.(?s:.)*KeyError: 'history'"):
        await actor.hear()
    await actor.stop()


async def test_an_actor_that_does_not_answer_is_an_error(tmp_path: Path, warden: Warden) -> None:
    """The error says how long it has not answered."""
    mute = await Actor.start("the mute", ["sleep", "600"], tmp_path / "log", warden, piped=True)
    with pytest.raises(ProcessFailed, match=r"the mute has not answered for 0.05 s"):
        await mute.hear(within=0.05)
    mute.send_signal(signal.SIGKILL)
    await mute.stop()


def test_a_warden_kills_the_processes_of_a_killed_run(tmp_path: Path) -> None:
    """The run is killed with SIGKILL, and cannot stop them itself."""
    program = f"""
import asyncio, os, pathlib, signal
from reconnect_harness.processes.child import Child, Warden
async def main():
    with Warden() as warden:
        child = await Child.start("a sleeper", ["sleep", "600"], pathlib.Path({str(tmp_path / "log")!r}), warden)
        print(child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    with contextlib.suppress(psutil.NoSuchProcess):
        assert not survivors([psutil.Process(int(done.stdout))])


def test_a_warden_kills_nothing_after_a_run_that_ended() -> None:
    """The numbers of its processes may be those of other processes by then."""
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with Warden() as warden:
            warden._tell(str(bystander.pid))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
