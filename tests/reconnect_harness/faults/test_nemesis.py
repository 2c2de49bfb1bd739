"""The nemesis: faults begin and end at their times on real links and processes, and all targets are healed at the
end."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from reconnect_harness.faults.fault import Fault
from reconnect_harness.faults.link_faults import LINK_FAULTS
from reconnect_harness.faults.nemesis import Nemesis
from reconnect_harness.faults.process_faults import PROCESS_FAULTS, ProcessTarget
from reconnect_harness.history.record import FaultRecord
from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.server import ToxiproxyError
from tests.reconnect_harness.toxiproxy.wires import (
    Wires,
    eventually,
    exchange,
    hears_nothing,
    is_faster_than,
    kill,
    startable_or_skip,
)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def refuses(link: ToxiproxyLink, wires: Wires) -> bool:
    """Return whether the link refuses connections."""
    try:
        wires.connect(link)
    except ConnectionRefusedError:
        return True
    return False


async def until(what: Callable[[], bool]) -> None:
    """Wait until `what` is true, in a thread."""
    assert await asyncio.to_thread(eventually, what)


async def run(link: ToxiproxyLink, *faults: Fault) -> list[FaultRecord]:
    """Run the faults on the link `wire` and return the records."""
    records: list[FaultRecord] = []
    await Nemesis(faults, {"wire": link}, records.append, rng=random.Random(1)).run()
    return records


async def test_a_fault_is_recorded_with_its_times(wires: Wires) -> None:
    """When each occurrence was asked for, took hold and was cleared, in this order and at its distance."""
    start = time.monotonic()
    records = await run(wires.link(), Fault(LINK_FAULTS["down"], "wire", 0.1, lasts=0.2, times=3, every=0.5))
    assert len(records) == 3
    for index, record in enumerate(records):
        assert record.took_hold is not None
        assert record.cleared is not None
        assert (record.name, record.target, record.problem) == ("down", "wire", None)
        assert start + 0.1 + 0.5 * index <= record.asked <= record.took_hold
        assert record.cleared - record.took_hold >= 0.2


async def test_a_fault_is_asked_for_before_its_first_effect(wires: Wires) -> None:
    """A fault that waits for an earlier one of its target is asked for when it is its turn."""
    link = wires.link()
    called: list[float] = []
    down = link.down

    def slowly() -> None:
        called.append(time.monotonic())
        down()

    link.down = slowly  # type: ignore[method-assign]
    faults = Fault(LINK_FAULTS["down"], "wire", 0.0, lasts=0.2, times=2, every=0.01)
    records = await run(link, faults)
    assert len(called) == 2
    for moment, record in zip(called, records, strict=True):
        assert record.took_hold is not None
        assert record.asked <= moment < record.took_hold
        assert moment - record.asked < 0.05


async def test_a_link_is_down_for_as_long_as_its_fault(wires: Wires) -> None:
    """Between took_hold and cleared it refuses connections, afterwards it accepts them."""
    link = wires.link()
    going = asyncio.create_task(run(link, Fault(LINK_FAULTS["down"], "wire", 0.0, lasts=0.5)))
    await until(lambda: link.is_down)
    assert refuses(link, wires)
    assert len(await going) == 1
    exchange(*wires.connect(link))


async def test_overlapping_downs_end_with_the_last(wires: Wires) -> None:
    """The end of one `down` does not bring up a link that another holds down."""
    link = wires.link()
    records: list[FaultRecord] = []
    faults = [Fault(LINK_FAULTS["down"], "wire", 0.0, lasts=0.2), Fault(LINK_FAULTS["down"], "wire", 0.1, lasts=1.0)]
    going = asyncio.create_task(Nemesis(faults, {"wire": link}, records.append).run())
    await until(lambda: len(records) == 1)
    assert link.is_down
    assert refuses(link, wires)
    await going
    assert len(records) == 2
    assert not link.is_down


async def test_a_reset_does_not_end_a_down(wires: Wires) -> None:
    """A reset during a `down` leaves the link down."""
    link = wires.link(resets=True)
    records: list[FaultRecord] = []
    faults = [Fault(LINK_FAULTS["down"], "wire", 0.0, lasts=2.0), Fault(LINK_FAULTS["reset"], "wire", 0.2)]
    going = asyncio.create_task(Nemesis(faults, {"wire": link}, records.append).run())
    await until(lambda: len(records) == 1)
    assert records[0].name == "reset"
    assert records[0].took_hold == records[0].cleared
    assert refuses(link, wires)
    await going


async def test_overlapping_toxics_add_up_and_end_one_by_one(wires: Wires) -> None:
    """Two delays at once add up, and each ends by itself."""
    link = wires.link()
    ends = wires.connect(link)
    records: list[FaultRecord] = []
    faults = [
        Fault(LINK_FAULTS["latency"], "wire", 0.0, lasts=2.5, stream="upstream", attributes={"latency": 100}),
        Fault(LINK_FAULTS["latency"], "wire", 0.0, lasts=1.5, stream="upstream", attributes={"latency": 150}),
    ]
    nemesis = Nemesis(faults, {"wire": link}, records.append)
    going = asyncio.create_task(nemesis.run())
    api, path = link._api, f"{link._path}/toxics"
    await until(lambda: len(api.get(path)) == 2)
    assert await asyncio.to_thread(exchange, *ends) >= 0.25
    await until(lambda: len(records) == 1)
    assert [toxic["attributes"]["latency"] for toxic in api.get(path)] == [100]
    await going
    assert is_faster_than(0.1, *ends)


@pytest.mark.parametrize(
    ("do", "attributes"),
    [
        ("silence", {}),
        ("cut", {}),
        ("latency", {"latency": 5, "jitter": 2}),
        ("bandwidth", {"rate": 10}),
        ("slow_close", {"delay": 50}),
        ("timeout", {"timeout": 20}),
        ("reset_peer", {"timeout": 0}),
        ("slicer", {"average_size": 10, "size_variation": 2, "delay": 10}),
        ("limit_data", {"bytes": (1, 100)}),
    ],
)
async def test_each_fault_of_a_link_takes_hold_and_is_cleared(
    wires: Wires, do: str, attributes: dict[str, int]
) -> None:
    """Every fault can be done twice, and the link works afterwards."""
    link = wires.link(resets=True)
    fault = Fault(LINK_FAULTS[do], "wire", 0.0, lasts=0.05, times=2, every=0.02, attributes=attributes)
    records = await run(link, fault)
    assert [record.problem for record in records] == [None, None]
    assert all(record.took_hold is not None and record.cleared is not None for record in records)
    exchange(*wires.connect(link))


async def test_a_cancelled_run_heals_and_records_all(wires: Wires) -> None:
    """The link is healed, faults that were on are cleared, and faults that had not begun never took hold."""
    link = wires.link()
    records: list[FaultRecord] = []
    faults = [
        Fault(LINK_FAULTS["down"], "wire", 0.0, lasts=100.0),
        Fault(LINK_FAULTS["silence"], "wire", 0.0, lasts=100.0),
        Fault(LINK_FAULTS["timeout"], "wire", 90.0, lasts=1.0),
    ]
    going = asyncio.create_task(Nemesis(faults, {"wire": link}, records.append).run())
    api, path = link._api, f"{link._path}/toxics"
    await until(lambda: link.is_down and len(api.get(path)) == 4)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    exchange(*wires.connect(link))
    outcome = {record.name: record for record in records}
    assert len(outcome) == len(records) == 3
    assert outcome["down"].cleared is not None
    assert outcome["silence"].cleared is not None
    assert outcome["timeout"][3:] == (None, None, "the run ended before its time came")


async def test_a_fault_that_does_not_take_hold_is_recorded(wires: Wires) -> None:
    """A reset on a link that cannot do it has no took_hold, and a reason; the other faults are done."""
    faults = [Fault(LINK_FAULTS["reset"], "wire", 0.0), Fault(LINK_FAULTS["down"], "wire", 0.1, lasts=0.1)]
    failed, done = await run(wires.link(), *faults)
    assert failed.took_hold is None
    assert failed.cleared is None
    assert "resets=True" in (failed.problem or "")
    assert done.cleared is not None


async def test_a_link_that_cannot_be_healed_is_an_error() -> None:
    """If Toxiproxy has ended, the run fails."""
    records: list[FaultRecord] = []
    with startable_or_skip().server() as server:
        link = ToxiproxyLink(server, "wire", "127.0.0.1:1")
        kill(server)
        nemesis = Nemesis([Fault(LINK_FAULTS["down"], "wire", 0.0, lasts=0.1)], {"wire": link}, records.append)
        with pytest.raises(ExceptionGroup) as failed:
            await nemesis.run()
        assert "did not answer" in str(failed.value.exceptions[0])
        assert records[0].took_hold is None
        with pytest.raises(ToxiproxyError, match="did not answer DELETE"):
            link.close()


async def test_silence_then_death(wires: Wires) -> None:
    """In a silence that overlaps a `down` the link is silent first, and then the connection ends."""
    link = wires.link()
    client, upstream = wires.connect(link)
    faults = [Fault(LINK_FAULTS["silence"], "wire", 0.0, lasts=1.5), Fault(LINK_FAULTS["down"], "wire", 1.0, lasts=0.2)]
    going = asyncio.create_task(run(link, *faults))
    api, path = link._api, f"{link._path}/toxics"
    await until(lambda: len(api.get(path)) == 4)
    client.sendall(b"hello?")
    assert await asyncio.to_thread(hears_nothing, upstream)
    assert await asyncio.to_thread(upstream.recv, 1) == b""
    await going
    exchange(*wires.connect(link))


def test_a_target_that_does_not_exist_is_one_sentence(wires: Wires) -> None:
    """The error for an unknown link, or for a process where there are links only, names the targets."""
    link = wires.link()
    with pytest.raises(ValueError, match=r"reset is to be done to the link 'wier'; there is wire"):
        Nemesis([Fault(LINK_FAULTS["reset"], "wier", 0.0)], {"wire": link}, print)
    with pytest.raises(ValueError, match=r"kill is to be done to the process 'wire'; there is none"):
        Nemesis([Fault(PROCESS_FAULTS["kill"], "wire", 0.0)], {"wire": link}, print)


async def test_stop_stops_a_process_until_it_is_cleared(child: subprocess.Popen[bytes]) -> None:
    """From took_hold to cleared; overlapping stops to the last end."""
    records: list[FaultRecord] = []
    faults = [
        Fault(PROCESS_FAULTS["stop"], "child", 0.0, lasts=0.1),
        Fault(PROCESS_FAULTS["stop"], "child", 0.05, lasts=0.8),
    ]
    going = asyncio.create_task(Nemesis(faults, {}, records.append, processes={"child": child}).run())
    await until(lambda: len(records) == 1)
    assert psutil.Process(child.pid).status() == psutil.STATUS_STOPPED
    await going
    assert psutil.Process(child.pid).status() != psutil.STATUS_STOPPED
    assert all(record.took_hold is not None and record.cleared is not None for record in records)


async def test_cont_ends_a_stop_early(child: subprocess.Popen[bytes]) -> None:
    """Before its time is over."""
    records: list[FaultRecord] = []
    faults = [Fault(PROCESS_FAULTS["stop"], "child", 0.0, lasts=1.0), Fault(PROCESS_FAULTS["cont"], "child", 0.3)]
    going = asyncio.create_task(Nemesis(faults, {}, records.append, processes={"child": child}).run())
    await until(lambda: len(records) == 1)
    assert records[0].name == "cont"
    assert psutil.Process(child.pid).status() != psutil.STATUS_STOPPED
    await going


async def test_a_cancelled_run_continues_a_stopped_process(child: subprocess.Popen[bytes]) -> None:
    """It runs when the run has ended."""
    records: list[FaultRecord] = []
    nemesis = Nemesis(
        [Fault(PROCESS_FAULTS["stop"], "child", 0.0, lasts=99.0)], {}, records.append, processes={"child": child}
    )
    going = asyncio.create_task(nemesis.run())
    await until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert psutil.Process(child.pid).status() != psutil.STATUS_STOPPED
    assert records[0].cleared is not None


async def test_kill_ends_a_process_and_cannot_be_done_twice(child: subprocess.Popen[bytes]) -> None:
    """It is dead when the fault took hold; a dead process cannot be killed again."""
    records: list[FaultRecord] = []
    nemesis = Nemesis([Fault(PROCESS_FAULTS["kill"], "child", 0.0)], {}, records.append, processes={"child": child})
    await nemesis.run()
    assert child.poll() == -9
    await nemesis.run()
    assert [record.took_hold is None for record in records] == [False, True]
    assert "has ended already" in (records[1].problem or "")


class Reborn:
    """A process that can be started again, and writes to its pipe when SIGTERM ends it."""

    PROGRAM = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit({status})); sys.stdin.read()"

    def __init__(self, status: int = 0) -> None:
        self._command = [sys.executable, "-c", self.PROGRAM.format(status=status)]
        self.all: list[subprocess.Popen[bytes]] = []
        self.restart()

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self.all[-1].pid

    @property
    def returncode(self) -> int | None:
        """The exit status of the running process."""
        return self.all[-1].poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.all[-1].send_signal(number)

    def restart(self) -> None:
        """Start it again."""
        self.all.append(subprocess.Popen(self._command, stdin=subprocess.PIPE))

    def close(self) -> None:
        """End all."""
        for process in self.all:
            process.kill()
            process.communicate()


@pytest.fixture
def reborn() -> Iterator[Reborn]:
    """A process that can be started again."""
    made = Reborn()
    yield made
    made.close()


async def _suffer(process: ProcessTarget, *faults: Fault) -> list[FaultRecord]:
    records: list[FaultRecord] = []
    await Nemesis(faults, {}, records.append, processes={"it": process}).run()
    return records


async def test_a_killed_process_runs_again_when_its_fault_is_cleared(reborn: Reborn) -> None:
    """It does not run for as long as the fault lasts, each time."""
    records = await _suffer(reborn, Fault(PROCESS_FAULTS["kill"], "it", 0.1, lasts=0.2, times=2, every=0.6))
    assert [process.poll() for process in reborn.all] == [-9, -9, None]
    assert all(r.took_hold and r.cleared and r.cleared - r.took_hold >= 0.2 and not r.problem for r in records)


async def test_a_terminated_process_is_waited_for(reborn: Reborn) -> None:
    """The fault takes hold when SIGTERM is sent, and without `for` it is cleared when the process has ended."""
    (record,) = await _suffer(reborn, Fault(PROCESS_FAULTS["terminate"], "it", 0.3))
    assert [process.wait() for process in reborn.all] == [0]
    assert record.problem is None
    assert record.took_hold is not None
    assert record.cleared is not None
    assert record.cleared > record.took_hold


async def test_a_terminated_process_can_be_started_again(reborn: Reborn) -> None:
    """With `for`."""
    (record,) = await _suffer(reborn, Fault(PROCESS_FAULTS["terminate"], "it", 0.3, lasts=0.2))
    assert [process.poll() for process in reborn.all] == [0, None]
    assert record.problem is None


async def test_a_process_that_is_killed_while_stopped_is_started_again(reborn: Reborn) -> None:
    """The end of the stop does not affect the new process."""
    stop, kill = (
        Fault(PROCESS_FAULTS["stop"], "it", 0.0, lasts=0.6),
        Fault(PROCESS_FAULTS["kill"], "it", 0.2, lasts=0.1),
    )
    records = await _suffer(reborn, stop, kill)
    assert [process.poll() for process in reborn.all] == [-9, None]
    assert [record.problem for record in records] == [None, None]


async def test_a_process_that_cannot_be_started_again_is_a_problem(child: subprocess.Popen[bytes]) -> None:
    """The fault has taken hold, and the record says why it was not undone."""
    (record,) = await _suffer(child, Fault(PROCESS_FAULTS["kill"], "it", 0.0, lasts=0.1))
    assert child.poll() == -9
    assert record.took_hold is not None
    assert record.problem == "process it cannot be started again"


class Keeper(Reborn):
    """A process with two workers, which replaces a dead worker, and writes a line when all run."""

    PROGRAM = """
import subprocess, sys, threading
def keep():
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    while True:
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        worker.stdout.readline()
        print(worker.pid, flush=True)
        worker.wait()
for _ in range(2):
    threading.Thread(target=keep, daemon=True).start()
sys.stdin.read()
"""

    def restart(self) -> None:
        """Start it, and wait for its workers."""
        command = [sys.executable, "-c", self.PROGRAM]
        keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.all.append(keeper)
        assert keeper.stdout is not None
        self.workers = [int(keeper.stdout.readline()) for _ in range(2)]


async def test_a_worker_is_killed_and_its_keeper_is_not() -> None:
    """The fault has taken hold when one of them is dead."""
    keeper = Keeper()
    try:
        (record,) = await _suffer(keeper, Fault(PROCESS_FAULTS["kill-worker"], "it", 0.0))
        assert keeper.all[0].stdout is not None
        another = int(keeper.all[0].stdout.readline())
        assert (record.problem, keeper.returncode) == (None, None)
        assert record.took_hold == record.cleared
        now = {worker.pid for worker in psutil.Process(keeper.pid).children()}
        assert len(now) == 2
        assert another in now
        assert len(now & set(keeper.workers)) == 1
    finally:
        keeper.close()


async def test_kill_worker_needs_a_process_with_workers(reborn: Reborn) -> None:
    """The record has the reason."""
    (record,) = await _suffer(reborn, Fault(PROCESS_FAULTS["kill-worker"], "it", 0.0))
    assert record.problem == "process it has no workers: it has no child process that runs"
    assert reborn.returncode is None
