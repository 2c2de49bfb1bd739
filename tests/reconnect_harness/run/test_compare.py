"""Several systems side by side: what the table shows of a run, and of a system that cannot be run."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reconnect_harness.checks.checkers import judge
from reconnect_harness.cli import main
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, LinkEvent, MessageEvent
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.compare import NOTHING, ComparedRun, Comparer, Comparison
from reconnect_harness.run.compare import ComparisonRow as Row
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.scenario.model import ScenarioError
from reconnect_harness.sut.presets import installed
from tests.reconnect_harness.histories import conversation, fault, history
from tests.reconnect_harness.run.test_runner import RELAY
from tests.reconnect_harness.test_plugin import MINE

C2U, U2C = Direction.C2U, Direction.U2C

RESULT = ComparedRun(
    verdict="invalid",
    said=0.596,
    sent={C2U: 9556, U2C: 0},
    lost={C2U: 28, U2C: 0},
    repeated=1955,
    reordered=1,
    disconnects=461,
    recovery=0.777,
)


def _result(events: Sequence[MessageEvent], *links: LinkEvent, **changes: Any) -> ComparedRun:
    clients = {"kind": "plain", "send": "1/s", "for": "10s"}
    chosen = parse_scenario(
        {
            "name": "mine",
            "summary": "It holds.",
            "upstream": {"kind": "push", "push": "1/s"},
            "clients": clients,
            "expect": {"lost": 0},
            **changes,
        },
        "test",
    )
    found = history(*events, links=links, faults=[fault(4.0, 4.9)])
    judgement = judge(found, chosen.expect, chosen.directions)
    return ComparedRun.of(RunResult(chosen, 1, "a proxy", None, Path(), found, judgement, 12.0))


def _comparison(*rows: Row) -> Comparison:
    return Comparison(rows, ["`nginx`: nginx 1.22.1", "Toxiproxy 2.12.0, seed 1"])


def test_a_result_counts_each_direction() -> None:
    """Sent and lost messages by direction; repeats in both directions together."""
    up = conversation([1, 2, 2, 3, 5, 4, 6, 7, 8])
    down = conversation([1, 1, *range(2, 11)], direction=U2C, stream="u1.1")
    gone = LinkEvent(5.0, End.CLIENT, "c01", "disconnected", asked=False, code=1006)
    left = LinkEvent(12.0, End.CLIENT, "c01", "disconnected", asked=True, code=1000)
    result = _result([*up, *down], gone, left)
    assert result.verdict == "invalid"
    assert result.sent == {C2U: 10, U2C: 10}
    assert result.lost == {C2U: 2, U2C: 0}
    assert (result.repeated, result.reordered, result.disconnects) == (2, 1, 1)
    assert result.recovery == pytest.approx(0.6)
    assert result.said == 1.0


def test_a_client_that_is_gone_has_not_said_all_it_had_to() -> None:
    """A client that stops sending loses nothing, which is not an achievement of the proxy."""
    result = _result(conversation(range(1, 4), sent=3))
    assert result.lost[C2U] == 0
    assert result.said == pytest.approx(0.3)


def test_clients_that_had_nothing_to_say_have_no_share() -> None:
    """If only the upstream sends, the column is empty."""
    result = _result(
        conversation(range(1, 11), direction=U2C, stream="u1.1"), clients={"kind": "plain", "count": 1, "for": "10s"}
    )
    assert result.said is None
    assert result.sent == {C2U: 0, U2C: 10}


def test_a_stream_that_stays_dead_never_recovers() -> None:
    """The row can still be made and shown."""
    result = _result(conversation([1, 2, 3]))
    assert result.recovery == math.inf
    assert "| never |" in _comparison(Row("mine", "nginx", result)).to_markdown("made")


def test_markdown_has_one_line_for_each_row() -> None:
    """Below are the command that made it, and the versions."""
    text = _comparison(
        Row("flap", "nginx", RESULT),
        Row("flap", "a | b", problem="it did not start. Its last lines:\n    oops"),
    ).to_markdown("reconnect-harness compare flap")
    assert text.splitlines() == [
        "| scenario | system under test | verdict | clients said | lost c2u | lost u2c | repeated | reordered "
        "| client disconnects | recovery p99 |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| flap | nginx | invalid | 60% | 28 of 9,556 | {NOTHING} | 1,955 | 1 | 461 | 0.78 s |",
        f"| flap | a \\| b | not run: it did not start. Its last lines: {''.join(f'| {NOTHING} ' for _ in range(7))}|",
        "",
        "Made by `reconnect-harness compare flap` with",
        "",
        "- `nginx`: nginx 1.22.1",
        "- Toxiproxy 2.12.0, seed 1",
    ]


def test_a_terminal_shows_the_same_table() -> None:
    """A scenario is named once, above its systems."""
    console = Console(width=160, file=io.StringIO(), record=True)
    rows = [
        Row("flap", "nginx", RESULT),
        Row("flap", "haproxy", RESULT),
        Row("peace", "nginx", RESULT),
    ]
    console.print(_comparison(*rows).table().terminal())
    said = console.export_text()
    assert said.count("flap") == 1
    assert said.count("28 of 9,556") == 3
    for heading in ("system under test", "clients said", "client disconnects", "recovery p99"):
        assert heading in said


def test_a_comparison_is_complete_when_every_row_has_a_result() -> None:
    """A system that loses messages has one."""
    assert _comparison(Row("flap", "nginx", RESULT)).complete
    assert not _comparison(Row("flap", "nginx", RESULT), Row("flap", "haproxy", problem="not installed")).complete


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """The path of a small scenario without faults."""
    (tmp_path / "mine.yaml").write_text(json.dumps(MINE))
    return str(tmp_path / "mine.yaml")


def test_a_system_that_loses_messages_is_a_result(
    mine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 0, and each system has a folder of its own for its runs."""
    systems = ["--sut", f"{RELAY} --drop 20", "--sut", "reconnect-proxy"]
    assert main(["compare", mine, *systems, "--scenario-seed", "3", "--scenario-out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    broken, ours = said.out.splitlines()[2:4]
    assert "| invalid |" in broken
    assert "| reconnect-proxy | valid |" in ours
    assert "| 0 of" in ours
    assert "mine, reconnect-proxy: valid" in said.err
    verdicts = {
        path.parent.name: json.loads(path.read_text())["verdict"]
        for path in (tmp_path / "out").glob("mine-*-3/results.json")
    }
    assert verdicts.pop("mine-reconnect-proxy-3") == "valid"
    assert list(verdicts.values()) == ["invalid"]


def test_a_system_that_is_not_installed_is_a_row(
    mine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are run all the same; the exit code is 1."""
    monkeypatch.setattr(installed, "find", lambda program: None)
    table = tmp_path / "table.md"
    arguments = ["compare", mine, "--sut", "nginx", "--sut", "direct", "--markdown", str(table)]
    assert main([*arguments, "--scenario-out", str(tmp_path / "out")]) == 1
    lines = table.read_text().splitlines()
    assert "| mine | nginx | not run: --sut nginx needs nginx, which is not installed: install it with" in lines[2]
    assert "| mine | direct | valid |" in lines[3]
    assert f"Made by `reconnect-harness compare {mine} --sut nginx --sut direct --scenario-seed 1` with" in lines
    assert "| mine | direct | valid |" in capsys.readouterr().out


def test_a_system_that_does_not_start_is_a_row_and_shows_its_last_lines(
    mine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row has the sentence; stderr has all lines."""
    system = "sh -c 'echo I cannot; exit 4' {listen} {upstream}"
    arguments = ["compare", mine, "--sut", system, "--markdown", "-", "--scenario-out", str(tmp_path / "out")]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "not run: the system under test did not start: it ended with status 4." in said.out
    assert "I cannot" in said.err


def test_what_cannot_be_asked_for_is_refused_before_anything_runs(mine: str, tmp_path: Path) -> None:
    """For all systems, so that a run of an hour does not fail at the last one."""
    with pytest.raises(ScenarioError, match="there is no system under test 'ngnix': did you mean nginx"):
        Comparer([mine], ["direct", "ngnix"], out=tmp_path / "out")
    with pytest.raises(ScenarioError, match="there is no scenario"):
        Comparer(["upstream-flop"], ["direct"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_scenario_is_compared_though_a_system_does_not_claim_it(tmp_path: Path) -> None:
    """What cannot be run at all is a row that says so."""
    late = {**MINE, "name": "late", "upstream": {**MINE["upstream"], "late": "100ms"}, "settle": "300ms"}
    for chosen in (late, {**MINE, "name": "secret", "tls": "client"}):
        (tmp_path / f"{chosen['name']}.yaml").write_text(json.dumps(chosen))
    compared = Comparer([str(tmp_path)], ["direct"], out=tmp_path / "out").run()
    assert [(row.scenario, row.result is not None, row.skipped) for row in compared.rows] == [
        ("late", True, False),
        ("secret", False, True),
    ]
    assert compared.complete


def test_the_notes_give_credit_to_ends_that_resume_by_themselves(tmp_path: Path) -> None:
    """Aware clients lose nothing to an aware upstream behind any proxy that passes their headers on."""
    aware = {**MINE, "name": "aware", "upstream": {"kind": "aware"}, "clients": {**MINE["clients"], "kind": "aware"}}
    for chosen in (MINE, aware):
        (tmp_path / f"{chosen['name']}.yaml").write_text(json.dumps(chosen))
    notes = Comparer([str(tmp_path)], ["direct"], out=tmp_path / "out").run().notes
    assert [note for note in notes if "resume by themselves" in note] == [note for note in notes if "aware: " in note]
    assert sum("aware: " in note for note in notes) == 1


def test_a_system_that_is_named_twice_is_run_once(mine: str, tmp_path: Path) -> None:
    """It would be the same row."""
    compared = Comparer([mine], ["direct", "direct"], out=tmp_path / "out").run()
    assert [(row.scenario, row.system) for row in compared.rows] == [("mine", "direct")]
