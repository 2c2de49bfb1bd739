"""Whole runs against correct and broken proxies: the verdict is right, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.history.record import End
from reconnect_harness.processes.child import Actor, ProcessFailed, Warden
from reconnect_harness.processes.loops import run_to_end
from reconnect_harness.report import summary
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.results_folder import write_run
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.sut.choose import folder_name, system_under_test
from reconnect_harness.toxiproxy.server import ToxiproxyServer
from tests.reconnect_harness.leftovers import descendants, survivors
from tests.reconnect_harness.waiting import wait_until

BROKEN_PROXY = Path(__file__).parents[1] / "broken_proxy.py"
RELAY = f"{shlex.quote(sys.executable)} {shlex.quote(str(BROKEN_PROXY))} {{listen}} {{upstream}}"

#: 2,400 messages in each direction, and no fault.
PEACE: dict[str, Any] = {
    "name": "peace",
    "summary": "Nothing goes wrong.",
    "upstream": {"kind": "push", "push": "300/s", "size": [200, 600]},
    "clients": {"kind": "plain", "count": 4, "send": "300/s", "size": [200, 600], "for": "2s"},
    "expect": {"lost": 0, "reordered": 0, "duplicated": 0, "client_disconnects": 0},
    "settle": "1s",
}


def _scenario(**changes: Any) -> Scenario:
    return parse_scenario({**PEACE, **changes}, "test")


async def _run(
    folder: Path, chosen: Scenario, system: str = RELAY, toxiproxy: ToxiproxyServer | None = None
) -> RunResult:
    done = await ScenarioRunner(chosen, system_under_test(system), toxiproxy, 1, folder).run()
    write_run(done)
    return done


async def test_a_correct_relay_is_valid_where_there_is_no_fault(tmp_path: Path) -> None:
    """Both directions are complete, and the files say so."""
    done = await _run(tmp_path, _scenario())
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["verdict"] == "valid"
    assert results["messages"]["c2u"]["arrived"] == results["messages"]["c2u"]["sent"] > 1000
    assert results["messages"]["u2c"]["arrived"] == results["messages"]["u2c"]["sent"] > 1000
    events = [json.loads(line)["event"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert events.count("sent") == events.count("received") == len(done.history.messages) / 2


@pytest.mark.parametrize(
    ("flag", "check"),
    [
        ("--drop 1000", "lost"),
        ("--swap 1000", "reordered"),
        ("--repeat 1000", "duplicated"),
        ("--truncate 1000", "corrupted"),
        ("--retype 1000", "corrupted"),
    ],
)
async def test_a_proxy_that_harms_one_message_in_a_thousand_is_invalid(tmp_path: Path, flag: str, check: str) -> None:
    """The check that it fails names the messages, and what is printed has them."""
    done = await _run(tmp_path, _scenario(), f"{RELAY} {flag}")
    assert done.judgement.verdict is Verdict.INVALID
    failed = [result for result in done.judgement.results if result.verdict is Verdict.INVALID]
    assert {result.check for result in failed} == {check}
    assert 1 <= sum(len(result.violations) for result in failed) <= 6
    printed = "\n".join(summary.reasons(done))
    assert all(violation.what in printed for result in failed for violation in result.violations)
    assert " number " in printed


async def test_a_relay_that_keeps_nothing_is_invalid_when_its_link_is_cut(
    tmp_path: Path, server: ToxiproxyServer
) -> None:
    """Its clients are disconnected, and the printed lines name the fault that was on."""
    fault = {"at": "500ms", "link": "upstream", "do": "down", "for": "300ms"}
    done = await _run(tmp_path, _scenario(faults=[fault]), toxiproxy=server)
    assert done.judgement.verdict is Verdict.INVALID
    (disconnects,) = (r for r in done.judgement.results if r.check == "client_disconnects")
    assert disconnects.value == 4
    assert "[down upstream 0." in "\n".join(summary.reasons(done))
    (record,) = done.history.faults
    assert record.took_hold is not None
    assert record.cleared is not None
    assert record.cleared - record.took_hold >= 0.3


async def test_aware_ends_lose_nothing_over_a_link_that_is_cut(tmp_path: Path, server: ToxiproxyServer) -> None:
    """The aware upstream and the aware client, which share no code, carry each other over cuts in mid-frame."""
    chosen = _scenario(
        upstream={"kind": "aware", "push": "200/s"},
        clients={"kind": "aware", "count": 4, "send": "200/s", "for": "3s"},
        faults=[
            {"at": "300ms..1s", "link": "client", "do": "cut", "for": "200ms"},
            {"at": "1500ms", "link": "client", "do": "reset"},
            {"at": "2200ms", "link": "client", "do": "down", "for": "200ms"},
        ],
        settle="5s",
    )
    done = await _run(tmp_path, chosen, "direct", server)
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))
    assert [fault.name for fault in done.history.faults] == ["cut", "reset", "down"]


async def test_processes_can_be_stopped_and_go_on(tmp_path: Path) -> None:
    """A relay and an upstream that stand still for a while lose nothing, and the stream recovers when they go on."""
    chosen = _scenario(
        faults=[
            {"at": "300ms", "process": "proxy", "do": "stop", "for": "300ms"},
            {"at": "1s", "process": "upstream", "do": "stop", "for": "300ms"},
        ],
        expect={"lost": 0, "reordered": 0, "duplicated": 0, "client_disconnects": 0, "recovery_max": "30s"},
    )
    done = await _run(tmp_path, chosen)
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))
    assert all(fault.took_hold is not None and fault.cleared is not None for fault in done.history.faults)
    stopped = next(fault for fault in done.history.faults if fault.target == "upstream")
    assert stopped.took_hold is not None
    still = [e for e in done.history.messages if e.end is End.UPSTREAM and 0 <= e.t - stopped.took_hold < 0.3]
    assert not still


async def test_an_upstream_that_echoes_is_judged_in_both_directions(tmp_path: Path) -> None:
    """What was sent to it has to come back."""
    done = await _run(tmp_path, _scenario(upstream={"kind": "echo"}), f"{RELAY} --drop 101")
    assert {r.label for r in done.judgement.results if r.verdict is Verdict.INVALID} == {"lost c2u", "lost u2c"}


async def test_a_run_in_which_nothing_arrives_is_unknown(tmp_path: Path) -> None:
    """Where only repeats are forbidden, a proxy that passes nothing on repeats nothing, and has proven nothing."""
    chosen = _scenario(upstream={"kind": "record"}, expect={"duplicated": 0})
    done = await _run(tmp_path, chosen, f"{RELAY} --drop 1")
    assert done.judgement.verdict is Verdict.UNKNOWN
    assert list(done.judgement.doubts) == ["no message arrived c2u"]


async def test_a_system_that_dies_of_itself_is_not_valid(tmp_path: Path) -> None:
    """The doubt has its exit status."""
    done = await _run(tmp_path, _scenario(), f"{RELAY} --exit 500")
    assert done.judgement.verdict is Verdict.INVALID
    assert any("with status 3" in doubt for doubt in done.judgement.doubts)


async def test_a_system_that_does_not_start_shows_its_last_lines(tmp_path: Path) -> None:
    """The error has its output."""
    broken = f"{sys.executable} -c 'import sys; sys.exit(\"no such colour: {{listen}} {{upstream}}\")'"
    with pytest.raises(ProcessFailed, match=r"ended with status 1(?s:.)*no such colour: 127"):
        await _run(tmp_path, _scenario(), broken)


async def test_a_system_that_is_no_program_is_named(tmp_path: Path) -> None:
    """The error says which program was not there."""
    with pytest.raises(ProcessFailed, match=r"no-such-proxy: No such file"):
        await _run(tmp_path, _scenario(), "no-such-proxy {listen} {upstream}")


async def test_a_service_with_its_own_upstream_takes_echo_scenarios_only(tmp_path: Path) -> None:
    """What it is asked for and cannot show is refused before anything starts."""
    with pytest.raises(ScenarioError, match="must be of kind echo"):
        await _run(tmp_path / "run", _scenario(), "ws://127.0.0.1:1/")
    assert not (tmp_path / "run").exists()


async def test_a_service_that_echoes_is_judged_by_what_comes_back(tmp_path: Path) -> None:
    """The mock upstream stands for a service that the run neither starts nor stops."""
    spec = {"kind": "echo", "name": "service", "load": {}, "seed": "1", "history": str(tmp_path / "service")}
    with Warden() as warden:
        service = await Actor.launch(
            "a service", "reconnect_harness.peers.upstreams", spec, tmp_path / "service.log", warden
        )
        port = (await service.hear())["ready"]
        done = await _run(tmp_path / "run", _scenario(upstream={"kind": "echo"}), f"ws://127.0.0.1:{port}/")
        assert service.returncode is None
        await service.stop()
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))
    assert {r.direction for r in done.judgement.results if r.direction} == {"u2c"}


def _mentions(file: Path, text: str) -> bool:
    return file.exists() and text in file.read_text()


async def test_nothing_is_left_when_a_run_is_cancelled(tmp_path: Path, server: ToxiproxyServer) -> None:
    """In the middle of a fault, all processes of the run end and its link is taken down."""
    before = descendants()
    proxies = server.api.get("/proxies")
    fault = {"at": "100ms", "link": "upstream", "do": "down", "for": "20s"}
    running = asyncio.create_task(_run(tmp_path, _scenario(faults=[fault]), toxiproxy=server))
    await asyncio.to_thread(wait_until, lambda: _mentions(tmp_path / "clients.jsonl", '"sent"'))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert descendants() == before
    assert server.api.get("/proxies") == proxies


CLI = ["reconnect_harness.cli", "run"]
PYTEST = ["pytest", "-p", "no:cacheprovider", "--scenario"]


@pytest.mark.parametrize(
    ("program", "number"),
    [
        (CLI, signal.SIGKILL),
        (CLI, signal.SIGTERM),
        (CLI, signal.SIGINT),
        (PYTEST, signal.SIGTERM),
        (PYTEST, signal.SIGINT),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else value[0],
)
def test_nothing_is_left_when_the_test_itself_is_ended(
    tmp_path: Path, program: list[str], number: signal.Signals
) -> None:
    """Killed, terminated or interrupted: the processes of a run go with it, and its port is free again."""
    (tmp_path / "mine.yaml").write_text(json.dumps({**PEACE, "clients": {**PEACE["clients"], "for": "60s"}}))
    out = "--scenario-out" if program is PYTEST else "--out"
    command = [sys.executable, "-m", *program, "mine.yaml", "--sut", RELAY, out, "out"]
    test = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    wait_until(lambda: _mentions(tmp_path / "out" / f"peace-{folder_name(RELAY)}-1" / "clients.jsonl", '"received"'))
    started = psutil.Process(test.pid).children(recursive=True)
    assert len(started) >= 4
    os.kill(test.pid, number)
    test.wait()
    assert not survivors(started)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancellation_that_the_run_swallows_still_ends_it(number: signal.Signals) -> None:
    """What the run waits for may finish at the same moment as the signal comes."""

    async def deaf() -> str:
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "as if nothing had happened"
        raise AssertionError("the signal did not come")

    with pytest.raises(KeyboardInterrupt):
        run_to_end(deaf())
