"""Load runs of several processes: their counts are added up, and a worker that dies takes its accounts with it."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.reconnect_harness.leftovers import survivors
from tests.reconnect_harness.load.locust_run import FLAP, echo_server, ended, free_port, locust, running, said
from tests.reconnect_harness.waiting import wait_until

#: A locustfile with a greenlet that nearly always runs.
BUSY = """
import time

import gevent
from locust import events

from reconnect_harness.load import AwareUser


def work():
    try:
        while True:
            until = time.monotonic() + 0.05
            while time.monotonic() < until:
                pass
            gevent.sleep(0.005)
    except KeyboardInterrupt:
        print("Ctrl-C has reached the wrong one", flush=True)
        raise


@events.init.add_listener
def begin(**_):
    gevent.spawn(work)
"""


def _processes() -> tuple[str, ...]:
    """Return the options of a run in two processes; its port is not that of others on this machine."""
    port = str(free_port())
    return "--processes", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port


def _of_group(group: int) -> list[psutil.Process]:
    """Return the processes of a group that still run."""
    return [found for found in psutil.process_iter() if _group_of(found) == group]


def _group_of(process: psutil.Process) -> int | None:
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        if process.status() != psutil.STATUS_ZOMBIE:
            return os.getpgid(process.pid)
    return None


def test_two_processes_are_one_run(tmp_path: Path) -> None:
    """The master sums up what its workers counted."""
    scenario = tmp_path / "short-flap.yaml"
    scenario.write_text(FLAP)
    run = locust("-u", "20", "-r", "20", "-t", "5s", "--scenario", str(scenario), *_processes())
    assert run.code == 0, run.text
    assert run.total("users") == 20
    assert run.total("sent") == run.total("answered") > 0
    assert run.text.count("generator, ") == 2


def test_a_run_that_is_refused_leaves_no_workers_behind() -> None:
    """locust has started them by then, and tells them at the end of a run only."""
    with running("--headless", "-u", "1", "-t", "1s", "--scenario", "upstream-flop", *_processes()) as process:
        run = ended(process)
        assert run.code == 2, run.text
        assert "there is no scenario 'upstream-flop'" in run.text
        wait_until(lambda: not _of_group(process.pid))


def test_a_worker_that_dies_makes_the_run_unknown() -> None:
    """What became of its users' messages is unknown, and the exit code is 1."""
    options = ("-u", "10", "-r", "10", "-t", "6s", *_processes())
    with running("--headless", "--only-summary", *options) as process:
        wait_until(lambda: "All users spawned" in said(process))
        (worker, *_) = (
            child
            for child in psutil.Process(process.pid).children()
            if "reconnect_harness.load.testbed_process" not in child.cmdline()
        )
        worker.kill()
        run = ended(process)
    assert run.code == 1, run.text
    assert "verdict: UNKNOWN" in run.text
    assert "what became of their messages is unknown" in run.text


def test_a_master_and_a_worker_that_has_an_address_of_its_own(tmp_path: Path) -> None:
    """As on two machines: locustfile and host come from the master, how it connects is for the worker to say."""
    seen: list[tuple[str, str]] = []
    bind = ("--master-bind-host", "127.0.0.1", "--master-bind-port", str(free_port()))
    options = ("--expect-workers", "1", "-u", "4", "-r", "4", "-t", "3s")
    worker_options = ("--worker", "--master-port", bind[3], "--source-address", "127.0.0.4", "-f", "-")
    with echo_server(seen) as port, running(*worker_options, folder=tmp_path) as worker:
        host = f"ws://127.0.0.1:{port}"
        run = locust("--master", *bind, *options, "--host", host)
        assert ended(worker).code == 0
    assert run.code == 0, run.text
    assert run.total("sent") == run.total("answered") > 0
    assert seen == [("127.0.0.4", "/")] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_awaits_what_is_in_flight_and_leaves_nothing_behind(number: signal.Signals) -> None:
    """Ctrl-C reaches all processes at a terminal; SIGTERM the first one."""
    with running("--headless", "-u", "10", "-r", "10", "--rate", "10/s", *_processes()) as process:
        wait_until(lambda: "round trip" in said(process))
        started = psutil.Process(process.pid).children(recursive=True)
        if number is signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        run = ended(process)
    assert run.code == 0, run.text
    assert "verdict: valid" in run.text
    assert len(started) > 4
    assert survivors(started) == []


def test_another_interrupt_while_everything_is_stopped_takes_nothing_from_the_end() -> None:
    """The summary is told, and nothing is left behind."""
    with running("--headless", "-u", "4", "-r", "4", "--rate", "10/s") as process:
        wait_until(lambda: "round trip" in said(process))
        started = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        wait_until(lambda: not all(child.is_running() for child in started))
        os.killpg(process.pid, signal.SIGINT)
        run = ended(process)
    assert "verdict: valid" in run.text, run.text
    assert "Traceback" not in run.text
    assert survivors(started) == []


def test_ctrl_c_ends_the_run_and_not_the_running_greenlet(tmp_path: Path) -> None:
    """When the signal comes, the greenlet of a master that hears the workers may be running."""
    (tmp_path / "busy.py").write_text(BUSY)
    with running("--headless", "-u", "2", "-r", "2", "-f", "busy.py", folder=tmp_path) as process:
        wait_until(lambda: "round trip" in said(process))
        process.send_signal(signal.SIGINT)
        run = ended(process)
    assert "verdict: " in run.text
    assert "Ctrl-C has reached the wrong one" not in run.text
