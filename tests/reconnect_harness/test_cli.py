"""The command line of the harness."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reconnect_harness.cli import main
from reconnect_harness.scenario.find import shipped_scenarios
from reconnect_harness.scenario.model import GROUPS
from reconnect_harness.sut.choose import folder_name
from tests.reconnect_harness.run.test_runner import RELAY
from tests.reconnect_harness.test_plugin import MINE


def test_list_has_every_shipped_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """In groups, with what it shows and how long it lasts."""
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "what it shows" in said
    lines = [line.split() for line in said.splitlines()]
    assert all(any(line[:1] == [name] and line[2:3] == ["s"] for line in lines) for name in shipped_scenarios())
    groups = [group for line in said.splitlines() for group in GROUPS if line.startswith(f"  {group} ")]
    assert groups == [group for group in GROUPS if group != "other"]


def test_show_explains_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """The topology, the timeline of faults, the expectations."""
    assert main(["show", "upstream-flap"]) == 0
    said = capsys.readouterr().out
    for line in (
        "clients    20 aware, each sends 100/s of 16 to 4KiB (mixed) for 8s",
        "upstream   aware, pushes 100/s of 16 to 4KiB (mixed) to each client",
        "fault      down upstream at 1s, for 400ms, 5 times, every 1.2s",
        "means      down: connections are closed (FIN), and new ones are refused, until it is over",
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
        ([], 2, "Missing command. There are bench, compare, diff, fuzz, list"),
        (["lsit"], 2, "No such command 'lsit'"),
        (["upstream", "--listen", "127.0.0.1:99999"], 2, "'127.0.0.1:99999' is not of the form HOST:PORT"),
        (["run", "upstream-flap", "--toxiproxy", "http://127.0.0.1:1"], 1, ": Connection refused"),
        (["run", "upstream-flap", "--sut", "my-proxy --fast"], 2, "does not say where to listen"),
        (["run", "upstream-flap", "--toxiproxy", "no-such"], 1, "--toxiproxy names 'no-such'"),
    ],
)
def test_an_error_is_one_line(
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
    assert (
        json.loads((tmp_path / "out" / f"mine-{folder_name(RELAY + flags)}-3" / "results.json").read_text())["verdict"]
        == verdict
    )


def test_run_skips_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are run, and the exit code is theirs."""
    (tmp_path / "mine.yaml").write_text(json.dumps(MINE))
    arguments = [str(tmp_path / "mine.yaml"), "upstream-close-codes", "--sut", RELAY, "--out", str(tmp_path / "out")]
    assert main(["run", *arguments, "--profile", "transparent"]) == 0
    said = capsys.readouterr().out
    assert "mine: valid" in said
    assert "upstream-close-codes: skipped\n    scenario upstream-close-codes does not fit: some refusals" in said
    assert main(["run", *arguments, "--profile", "transparant"]) == 2


def test_where_only_the_proxy_is_installed_one_line_says_what_is_missing() -> None:
    """The command exists then, but its packages do not."""
    hidden = "import sys; sys.modules['rich'] = None; from reconnect_harness.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "list"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "reconnect-harness: this needs the Python package rich, which is not installed: "
        "pip install 'reconnect-proxy[harness]'. The proxy works without it\n"
    )


def test_the_program_is_a_module_as_well() -> None:
    """`python -m reconnect_harness`, for users with several Pythons."""
    done = subprocess.run(
        [sys.executable, "-m", "reconnect_harness", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("reconnect-harness 0.")


@pytest.mark.parametrize("command", ["compare", "bench"])
def test_a_file_that_cannot_be_written_is_reported_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Otherwise the results of minutes would be lost."""
    arguments = [command, *(["steady"] if command == "compare" else []), "--markdown", str(tmp_path / "no" / "file.md")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "its folder" in said and "does not exist" in said
    assert said.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is in its place."""
    (tmp_path / "mine.yaml").write_text(json.dumps(MINE))
    below = tmp_path / "mine.yaml" / "out"
    assert main(["run", str(tmp_path / "mine.yaml"), "--sut", RELAY, "--out", str(below)]) == 1
    said = capsys.readouterr().err
    assert said == f"reconnect-harness: cannot write {below}: Not a directory: name another folder for the results\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "name: [",
            "it is not YAML: line 1, column 8: while parsing a flow node: expected the node content, but found",
        ),
        ("{[a]: b}", "it is not YAML: line 1, column 2: ['a'] cannot be a key"),
        ("name: a\nname: b", "it is not YAML: line 2, column 1: the key 'name' is there twice"),
        ("[" * 5000, "it cannot be read: lists and mappings are nested too deeply"),
        ("", "None is not a mapping of name, summary"),
    ],
    ids=["cut short", "no key", "twice", "deep", "empty"],
)
def test_a_file_that_is_not_a_scenario_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    """With the place in it where reading has ended."""
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert main(["show", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"reconnect-harness: {file}: {complaint}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("seed", ["--seed", "--scenario-seed"])
def test_the_names_of_pytests_options_are_taken_too(capsys: pytest.CaptureFixture[str], seed: str) -> None:
    """A user of one command knows the options of the others."""
    assert main(["show", "random-cuts", seed, "2"]) == 0
    assert "reconnect-harness run random-cuts --seed 2" in capsys.readouterr().out
