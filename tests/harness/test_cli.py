"""The command line of the harness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import scenario
from harness.cli import main
from tests.harness.test_plugin import MINE
from tests.harness.test_stack import RELAY


def test_list_has_every_shipped_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """In groups, with what it shows and how long it lasts."""
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "what it shows" in said
    lines = [line.split() for line in said.splitlines()]
    assert all(any(line[:1] == [name] and line[2:3] == ["s"] for line in lines) for name in scenario.shipped())
    groups = [group for line in said.splitlines() for group in scenario.GROUPS if line.startswith(f"  {group} ")]
    assert groups == [group for group in scenario.GROUPS if group != "other"]


def test_show_explains_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """Who talks to whom, what is done to them, what has to hold."""
    assert main(["show", "upstream-flap"]) == 0
    said = capsys.readouterr().out
    for line in (
        "clients    20 aware, each sends 100/s of 16 to 4KiB (mixed) for 8s",
        "upstream   aware, pushes 100/s of 16 to 4KiB (mixed) to each client",
        "fault      down upstream at 1s, for 400ms, 5 times, every 1.2s",
        "expect     lost c2u: at most 0",
        "expect     recovery_p99: at most 2s",
        "clients ------ proxy --[upstream link]-- upstream",
        "upstream down  .......###......###......###......###......###..............",
        "run it     pytest --scenario=upstream-flap",
    ):
        assert line in said


def test_show_draws_what_the_seed_draws(capsys: pytest.CaptureFixture[str]) -> None:
    """And says how to run just that."""
    charts = []
    for seed in ("1", "1", "2"):
        assert main(["show", "random-cuts", "--seed", seed]) == 0
        charts.append(capsys.readouterr().out)
    assert charts[0] == charts[1] != charts[2]
    assert "pytest --scenario=random-cuts --scenario-seed=2" in charts[2]
    assert "reconnect-harness run random-cuts --seed 2" in charts[2]


def test_the_embedded_toxiproxy_can_be_started_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """With the flags of the original."""
    assert main(["toxiproxy", "--version"]) == 0
    assert "2.12.0 (embedded)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["show", "upstream-flop"], 2, "there is no scenario 'upstream-flop': did you mean upstream-flap"),
        (["run"], 2, "Missing argument"),
        (["run", "upstream-flap", "--sut", "my-proxy --fast"], 2, "does not say where to listen"),
        (["run", "upstream-flap", "--toxiproxy", "no-such"], 1, "--toxiproxy names 'no-such'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, complaint: str
) -> None:
    """On stderr, with an exit code of its own."""
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert said.startswith("reconnect-harness: ")
    assert complaint in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("flags", "code", "verdict"), [("", 0, "valid"), (" --repeat 50", 1, "invalid")])
def test_run_says_what_was_proven_and_exits_by_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str, code: int, verdict: str
) -> None:
    """0 only when every scenario is valid."""
    (tmp_path / "mine.yaml").write_text(json.dumps(MINE))
    arguments = [str(tmp_path / "mine.yaml"), "--sut", RELAY + flags, "--seed", "3", "--out", str(tmp_path / "out")]
    assert main(["run", *arguments]) == code
    said = capsys.readouterr().out
    assert f"mine: {verdict}" in said
    assert ("arrived again" in said) == (verdict == "invalid")
    assert json.loads((tmp_path / "out" / "mine-3" / "results.json").read_text())["verdict"] == verdict
