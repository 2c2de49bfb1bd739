"""The processes of a run: they end when they are told to, and when they are not."""

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
    """A warden that has nobody left when it goes."""
    with Warden() as made:
        yield made


async def _stubborn(folder: Path, warden: Warden) -> tuple[Child, psutil.Process]:
    """Start the stubborn pair."""
    (folder / "stubborn.py").write_text(STUBBORN)
    command = [sys.executable, str(folder / "stubborn.py")]
    parent = await Child.start("the stubborn", command, folder / "log", warden)
    await asyncio.to_thread(wait_until, lambda: bool((folder / "log").read_text().strip()))
    return parent, psutil.Process(int((folder / "log").read_text()))


async def test_a_process_that_will_not_end_is_killed_with_its_children(
    tmp_path: Path, warden: Warden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM is a request; what comes behind it is not."""
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.1)
    parent, child = await _stubborn(tmp_path, warden)
    await parent.stop()
    assert parent.returncode == -signal.SIGKILL
    assert not await asyncio.to_thread(survivors, [child])
    await parent.stop()


async def test_a_process_that_was_stopped_by_a_fault_still_ends(tmp_path: Path, warden: Warden) -> None:
    """SIGSTOP does not keep it."""
    sleeper = await Child.start("a sleeper", ["sleep", "600"], tmp_path / "log", warden)
    sleeper.send_signal(signal.SIGSTOP)
    await sleeper.stop()
    assert sleeper.returncode == -signal.SIGTERM


async def test_a_program_that_is_not_there_is_named(tmp_path: Path, warden: Warden) -> None:
    """With what the system says about it."""
    with pytest.raises(ProcessFailed, match=r"the proxy cannot be started: no-such-program: No such file"):
        await Child.start("the proxy", ["no-such-program"], tmp_path / "log", warden)


async def test_an_actor_that_dies_shows_its_last_words(tmp_path: Path, warden: Warden) -> None:
    """An error in it reaches the one who reads the test's output."""
    actor = await Actor.launch(
        "the clients", "reconnect_harness.peers.clients", {"kind": "nobody"}, tmp_path / "log", warden
    )
    with pytest.raises(ProcessFailed, match=r"the clients ended with status 1\.(?s:.)*KeyError: 'history'"):
        await actor.hear()
    await actor.stop()


async def test_an_actor_that_says_nothing_is_not_awaited_forever(tmp_path: Path, warden: Warden) -> None:
    """The error says how long it was silent."""
    mute = await Actor.start("the mute", ["sleep", "600"], tmp_path / "log", warden, piped=True)
    with pytest.raises(ProcessFailed, match=r"the mute has not answered for 0.05 s"):
        await mute.hear(within=0.05)
    mute.send_signal(signal.SIGKILL)
    await mute.stop()


def test_a_warden_ends_what_its_master_left(tmp_path: Path) -> None:
    """The master is killed with SIGKILL, and can do nothing itself."""
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


def test_a_warden_that_is_dismissed_ends_nobody() -> None:
    """After a run that ended well its process numbers may be somebody else's."""
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with Warden() as warden:
            warden._tell(str(bystander.pid))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
