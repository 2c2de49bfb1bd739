"""The shipped scenarios against this proxy with one bug: each is invalid, by the check for that bug.

Relays, which keep no session, are tested in `mutants`.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.report import summary
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.results_folder import write_run
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.scenario.find import load_scenario, shipped_scenarios
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.sut.choose import system_under_test
from reconnect_harness.sut.own_proxy import flags
from reconnect_harness.toxiproxy.server import ToxiproxyServer

HERE = Path(__file__).parent
PYTHON = shlex.quote(sys.executable)


def _shipped(name: str) -> Scenario:
    return load_scenario(shipped_scenarios()[name])


def _keeper(harm: str, chosen: Scenario) -> str:
    options = shlex.join(flags(chosen.proxy))
    script = HERE / "broken_keeper.py"
    return f"{PYTHON} {script} {harm} serve --listen {{listen}} --upstream ws://{{upstream}} {options}"


async def _run(folder: Path, chosen: Scenario, system: str, toxiproxy: ToxiproxyServer | None) -> RunResult:
    done = await ScenarioRunner(chosen, system_under_test(system), toxiproxy, 1, folder).run()
    write_run(done)
    return done


def _failed(done: RunResult) -> set[str]:
    assert done.judgement.verdict is Verdict.INVALID, done.judgement
    return {result.check for result in done.judgement.results if result.verdict is Verdict.INVALID}


@pytest.mark.parametrize("system", ["websockets", "direct"])
async def test_a_system_that_passes_handshakes_on_is_valid(
    tmp_path: Path, server: ToxiproxyServer, system: str
) -> None:
    """Those that do not are `mutants.test_mutants.HANDSHAKES`."""
    done = await _run(tmp_path, _shipped("handshake-passes"), system, server)
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))


async def test_a_leak_of_no_system_is_no_doubt(tmp_path: Path) -> None:
    """Without a proxy there is nothing that could leak, and all that can be seen is as it should be."""
    done = await _run(tmp_path, _shipped("steady"), "direct", None)
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))


@pytest.mark.parametrize(
    ("harm", "name", "check"),
    [
        ("drop-on-redial", "upstream-rejects-again", "lost"),
        ("swap-on-redial", "upstream-rejects-again", "reordered"),
        ("truncate-on-redial", "upstream-close-retryable", "corrupted"),
        ("retype-on-redial", "upstream-close-retryable", "corrupted"),
        ("drop-on-return", "takeover-half-open", "lost"),
        ("repeat-on-return", "takeover-half-open", "duplicated"),
        ("lazy", "gate-first-message", "recovery_p99"),
        ("swallow-codes", "upstream-close-codes", "passed_on"),
        ("keep-sessions", "grace-over", "upstream_close"),
        ("keep-every-fourth", "steady", "leaks"),
        ("keep-lost-sockets", "leaks-after-faults", "leaks"),
        ("drop-on-redial", "leaks-after-faults", "lost"),
        ("drop-on-return", "leaks-after-faults", "lost"),
        ("repeat-on-redial", "leaks-after-faults", "duplicated"),
        ("hoard", "steady-large", "leaks"),
        ("take-over-quietly", "takeover-half-open", "client_close"),
        ("let-thieves-in", "stolen-id", "handshake"),
        ("take-any-count", "stale-counts", "handshake"),
        ("open-on-unknown-ids", "wrong-ids", "handshake"),
        ("take-rejections-for-final", "upstream-rejects-again", "client_disconnects"),
        ("take-no-rejection-for-final", "upstream-refuses-for-good", "client_close"),
        ("never-give-up", "retry-budget-over", "client_close"),
        ("begin-anew", "upstream-lost-session", "client_close"),
        ("tell-control", "gate-prefix", "corrupted"),
        ("forget-state", "gate-first-message", "breaches"),
        ("drop-mute", "upstream-mute", "duplicated"),
        ("drop-when-full", "upstream-stops-reading", "lost"),
        ("drop-while-down", "upstream-down-at-first", "lost"),
        ("drop-on-redial", "upstream-killed", "lost"),
        ("repeat-on-redial", "upstream-stopped", "duplicated"),
        ("drop-while-down", "upstream-restart-planned", "lost"),
        ("begin-anew", "upstream-killed-forgets", "client_close"),
        ("stop-at-once", "proxy-stopped-planned", "lost"),
        ("drop-while-alone", "client-killed", "lost"),
        ("drop-while-alone", "client-away", "lost"),
        ("cross-on-return", "client-away", "misdelivered"),
        ("drop-while-alone", "receiver-come-and-go", "lost"),
        ("leave-one-out", "receiver-fan-out", "lost"),
    ],
)
async def test_a_proxy_that_is_wrong_when_something_happens_is_invalid(
    tmp_path: Path, server: ToxiproxyServer, harm: str, name: str, check: str
) -> None:
    """It does everything else right, and fails the scenario in which that happens."""
    chosen = _shipped(name)
    chosen = chosen.model_copy(update={"settle": min(chosen.settle, 2.0)})
    assert check in _failed(await _run(tmp_path, chosen, _keeper(harm, chosen), server))
