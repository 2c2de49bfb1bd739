"""Clients whose sessions are contended for, against the mock upstreams: they report the answers that they get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.history.record import End
from reconnect_harness.report import summary
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.results_folder import write_run
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.sut.choose import system_under_test

TALK: dict[str, Any] = {
    "name": "claims",
    "summary": "A client makes a claim.",
    "upstream": {"kind": "aware", "push": "200/s", "size": [40, 400]},
    "expect": {"lost": 0, "reordered": 0, "duplicated": 0, "client_disconnects": 0},
    "settle": "1s",
}


async def _run(folder: Path, kind: str, expect: dict[str, Any], **changes: Any) -> RunResult:
    clients = {"kind": kind, "count": 2, "send": "100/s", "size": [40, 400], "for": "1500ms"}
    said = {**TALK, **changes, "clients": {**clients, **changes.get("clients", {})}}
    said["expect"] = {**TALK["expect"], **expect}
    done = await ScenarioRunner(parse_scenario(said, "test"), system_under_test("direct"), None, 1, folder).run()
    write_run(done)
    return done


async def test_a_half_open_client_takes_its_session_over_and_loses_nothing(tmp_path: Path) -> None:
    """It states its count, resends what was not received, and reports that the old link was aborted."""
    expect = {"client_close": {"old": 1006}}
    done = await _run(tmp_path, "half-open", expect, clients={"absence": {"after": "500ms"}})
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))
    connected = [e.name for e in done.history.links if e.end is End.CLIENT and e.event == "connected"]
    assert sorted(connected) == ["c01", "c01", "c02", "c02"]


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("wrong-ids", {"unknown": 410, "malformed": 400}),
        ("stale-counts", {"future": 409, "past": 409}),
    ],
)
async def test_an_aware_upstream_refuses_contenders(tmp_path: Path, kind: str, refused: dict[str, int]) -> None:
    """Each attempt with its own status, while the owners send and receive."""
    done = await _run(tmp_path, kind, {"handshake": refused}, clients={"for": "2500ms"})
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))


@pytest.mark.parametrize(
    ("kind", "label"), [("wrong-ids", "unknown"), ("robbed", "thief"), ("stale-counts", "past"), ("vanishing", "late")]
)
async def test_an_ordinary_server_accepts_contenders(tmp_path: Path, kind: str, label: str) -> None:
    """And the client reports it."""
    absence = {"absence": {"after": "300ms", "for": "100ms"}} if kind == "vanishing" else {}
    done = await _run(
        tmp_path,
        kind,
        {"handshake": {label: 410}},
        upstream={"kind": "push", "push": "200/s", "size": [40, 400]},
        clients={"for": "2s", **absence},
    )
    assert done.judgement.verdict is Verdict.INVALID
    (result,) = (r for r in done.judgement.results if r.check == "handshake")
    assert any(f"c01.{label} was let in" in violation.what for violation in result.violations)


async def test_a_vanishing_client_closes_with_its_own_code(tmp_path: Path) -> None:
    """The upstream receives the code, and the client has asked for the end."""
    absence = {"absence": {"after": "300ms", "for": "100ms"}}
    quiet = {"kind": "record"}
    done = await _run(tmp_path, "vanishing", {}, upstream=quiet, clients=absence)
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))
    closed = [(e.code, e.reason) for e in done.history.links if e.end is End.UPSTREAM and e.event == "disconnected"]
    assert closed.count((4321, "vanished")) == 2
