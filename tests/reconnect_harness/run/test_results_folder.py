"""The files and the summary of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from reconnect_harness.checks.checkers import judge
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.report import summary
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.results_folder import write_run
from reconnect_harness.scenario.find import parse_scenario
from tests.reconnect_harness.histories import conversation, fault, history

U2C = Direction.U2C


def _run(folder: Path, found: History, expect: dict[str, object] | None = None) -> RunResult:
    chosen = parse_scenario(
        {
            "name": "mine",
            "summary": "It holds.",
            "upstream": {"kind": "push", "push": "1/s"},
            "clients": {"kind": "plain", "send": "1/s", "for": "10s"},
            "expect": expect or {"lost": 0, "reordered": 0, "recovery_p99": "2s"},
        },
        "test",
    )
    judgement = judge(found, chosen.expect, chosen.directions)
    return RunResult(chosen, 1, "a proxy", "a Toxiproxy", folder, found, judgement, 12.0)


def _found(arrivals: Iterable[int]) -> History:
    up = conversation(arrivals)
    return history(*up, *conversation(range(1, 11), direction=U2C, stream="u1.1"), faults=[fault(4.0, 4.9)])


def test_a_valid_run_is_told_in_one_sentence(tmp_path: Path) -> None:
    """The clients, the faults, and the counts of messages."""
    done = _run(tmp_path, _found(range(1, 11)))
    assert summary.sentence(done) == (
        "1 plain client, down upstream x 1; "
        "10 messages c2u: 0 lost, 0 reordered and (only reported) 0 repeated; "
        "10 messages u2c: 0 lost, 0 reordered and (only reported) 0 repeated; "
        "0 client disconnects; recovery p50 0.600 s, p99 0.600 s, max 0.600 s"
    )
    assert list(summary.reasons(done)) == []


def test_an_invalid_run_names_the_first_messages_and_the_fault_that_was_on(tmp_path: Path) -> None:
    """Five of them, and how many more there are."""
    lines = list(summary.reasons(_run(tmp_path, _found([1, 2, 3]))))
    assert lines[0] == "lost c2u: 7, and may be 0"
    assert lines[1] == (
        "    at 4.000 s: c2u c01 number 4 (text, 100 bytes) was sent and never arrived "
        "[down upstream 3.990 s to 4.900 s]"
    )
    assert lines[6] == "    … and 2 more"


def test_a_doubt_is_told(tmp_path: Path) -> None:
    """The summary says why nothing is proven."""
    lines = list(summary.reasons(_run(tmp_path, history(*conversation(range(1, 11))))))
    assert "nothing is proven: no message was sent u2c" in lines
    assert "nothing is proven: recovery_p99 had nothing to measure" in lines


def test_the_results_can_be_read_by_any_json_reader(tmp_path: Path) -> None:
    """JSON has no infinity: a stream that never recovered has a word."""
    found = _found([1, 2, 3])
    done = _run(tmp_path, found, {"recovery_max": "1s"})
    assert {result.check: result.value for result in done.judgement.results}["recovery_max"] == math.inf
    write_run(done)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    results = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert {check["check"]: check["value"] for check in results["checks"]}["recovery_max"] == "never"
    assert (results["scenario"], results["seed"], results["verdict"]) == ("mine", 1, "invalid")
    assert results["messages"]["c2u"] == {"sent": 10, "arrived": 3}
    assert results["faults"][0]["took_hold"] == 4.0
    lost = next(check for check in results["checks"] if check["check"] == "lost")
    assert (lost["value"], lost["bound"], len(lost["wrong"])) == (7, None, 7)
    assert (tmp_path / "history.jsonl").read_text().count("\n") == len(found.messages) + 1
