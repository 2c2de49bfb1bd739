"""The pytest plugin: what it collects, runs and says, in runs of pytest of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.toxiproxy.find import find_toxiproxy
from reconnect_harness.toxiproxy.server import ToxiproxyUnavailable
from tests.reconnect_harness.run.test_runner import RELAY

pytest_plugins = ["pytester"]

MINE: dict[str, Any] = {
    "name": "mine",
    "summary": "It holds.",
    "upstream": {"kind": "push", "push": "100/s"},
    "clients": {"kind": "plain", "count": 2, "send": "100/s", "for": "500ms"},
    "expect": {"lost": 0, "reordered": 0, "duplicated": 0},
    "settle": "1s",
}


@pytest.fixture
def folder(pytester: pytest.Pytester) -> Path:
    """A folder of a user's own, with one scenario in it and a test that must not run."""
    pytester.makefile(".yaml", mine=json.dumps(MINE))
    pytester.makepyfile(test_other="def test_other(): raise AssertionError('this is no scenario')")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    return pytester.path


def test_a_valid_scenario_passes_and_says_what_it_has_proven(pytester: pytest.Pytester, folder: Path) -> None:
    """Only the scenario is collected; the header, the item's name, the sentence with numbers, and the files."""
    done = pytester.runpytest_subprocess("--scenario", "mine.yaml", "--sut", RELAY, "-v")
    assert done.ret == 0
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(
        [
            "system under test: *broken_proxy.py {listen} {upstream}",
            "toxiproxy: not needed",
            "collected 1 item",
            "scenario::mine[[]1] PASSED*",
            "mine[[]1]: valid",
            "*2 plain clients, no faults; * messages c2u: 0 lost, 0 reordered, 0 repeated; * messages u2c: 0 lost*",
            "*scenario-runs/mine-python*-1/report.html, results.json, history.jsonl",
        ]
    )
    (left,) = (folder / "scenario-runs").glob("mine-*broken_proxy.py-1")
    assert json.loads((left / "results.json").read_text())["verdict"] == "valid"
    assert (left / "history.jsonl").is_file()


def test_an_invalid_scenario_fails_and_names_the_messages(pytester: pytest.Pytester, folder: Path) -> None:
    """No traceback: the bound that was passed, the first wrong messages with their times, and where the rest is."""
    options = ("--sut", f"{RELAY} --drop 50", "--scenario-seed", "7", "--scenario-out", "out")
    done = pytester.runpytest_subprocess("--scenario=mine.yaml", *options)
    assert done.ret == 1
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "mine is invalid",
            "lost *: *, and may be 0",
            "    at 0.* s: * number * was sent and never arrived*",
            "the whole of it: out/mine-python*broken_proxy.py*-7/report.html",
            "the whole of it: out/mine-python*broken_proxy.py*-7/results.json",
            "mine[[]7]: invalid",
            "FAILED scenario::mine[[]7] - mine is invalid*",
        ]
    )
    done.stdout.no_fnmatch_line("*Traceback*")
    (left,) = (folder / "out").glob("mine-*-7/results.json")
    assert json.loads(left.read_text())["verdict"] == "invalid"


def test_a_proxy_that_does_not_start_fails_with_its_last_lines(pytester: pytest.Pytester, folder: Path) -> None:
    """Its own words are what the user needs, not a traceback of ours."""
    broken = f"{sys.executable} -c 'import sys; sys.exit(\"bad colour\")' {{listen}} {{upstream}}"
    done = pytester.runpytest_subprocess("--scenario=mine.yaml", "--sut", broken)
    assert done.ret == 1
    done.stdout.fnmatch_lines(["the system under test did not start*", "*bad colour", "*: did not run to its end"])
    done.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--scenario=upstream-flop"], "ERROR: there is no scenario 'upstream-flop': did you mean upstream-flap*"),
        (["--scenario=bad.yaml"], "ERROR: *bad.yaml: faults.0: there is no fault 'dwn'; did you mean down? *"),
        (
            ["--scenario=mine.yaml", "--sut=my-proxy --fast"],
            "ERROR: --sut 'my-proxy --fast' does not say where to listen*",
        ),
        (["--scenario=mine.yaml", "--sut=ws://127.0.0.1:1"], "ERROR: scenario mine cannot be run against *"),
        (["--scenario=mine.yaml", "--scenario=copy.yaml"], "ERROR: *copy.yaml: its name, mine, is that of *"),
        (
            ["--scenario=upstream-flap", "--toxiproxy=no-such-program"],
            "ERROR: --toxiproxy names 'no-such-program', which is not a program*",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    pytester: pytest.Pytester, folder: Path, options: list[str], complaint: str
) -> None:
    """One line, the exit code of a usage error, and no folder of results."""
    pytester.makefile(".yaml", copy=json.dumps(MINE))
    pytester.makefile(".yaml", bad=json.dumps({**MINE, "faults": [{"at": 1, "link": "client", "do": "dwn"}]}))
    done = pytester.runpytest_subprocess(*options)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([complaint])
    assert not (folder / "scenario-runs").exists()


def test_what_a_system_does_not_claim_is_skipped_with_the_reason(pytester: pytest.Pytester, folder: Path) -> None:
    """The rest of the list is run. Without --profile a command is judged by everything."""
    kept = {
        **MINE,
        "name": "kept",
        "upstream": {**MINE["upstream"], "late": "100ms"},
        "expect": {"client_disconnects": 0},
    }
    pytester.makefile(".yaml", kept=json.dumps(kept), secret=json.dumps({**MINE, "name": "secret", "tls": "both"}))
    wanted = ("--scenario=mine.yaml", "--scenario=kept.yaml", "--scenario=secret.yaml", "--sut", RELAY)
    done = pytester.runpytest_subprocess(*wanted, "--profile=transparent", "-rs")
    assert done.ret == 0
    done.assert_outcomes(passed=1, skipped=2)
    done.stdout.fnmatch_lines(
        [
            "system under test: *, judged as transparent",
            "scenarios: 1 (2 more do not fit), *",
            "mine[[]1]: valid",
            "kept[[]1]: skipped",
            "    scenario kept does not fit: clients have to keep their connections though their upstream is lost, "
            "which a system claims that is reconnecting, but not one that is transparent",
            "secret[[]1]: skipped",
            "    scenario secret needs a system under test that speaks TLS (`tls: both`)*",
        ]
    )
    listed = pytester.runpytest_subprocess(*wanted, "--collect-only", "-q")
    listed.stdout.fnmatch_lines_random(["scenario::kept[[]1]"])
    (left,) = (folder / "scenario-runs").glob("mine-*/results.json")
    assert "--profile=transparent" in left.read_text()


def test_where_no_scenario_fits_that_is_an_error(pytester: pytest.Pytester, folder: Path) -> None:
    """A run that tests nothing must not pass. The profile of a preset is known, and another can be given."""
    done = pytester.runpytest_subprocess("--scenario=upstream-close-codes", "--sut=direct")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(
        [
            "ERROR: scenario upstream-close-codes does not fit: some refusals and closes of the upstream must not "
            "reach clients, *; direct is transparent: --profile judges it as another"
        ]
    )


@pytest.mark.parametrize("out", ["mine.yaml", "mine.yaml/below"])
def test_a_folder_that_cannot_be_written_is_said_in_one_line(pytester: pytest.Pytester, folder: Path, out: str) -> None:
    """Here a file is in its place; a read-only one, and a full disk, come to the same."""
    done = pytester.runpytest_subprocess("--scenario=mine.yaml", "--sut", RELAY, "--scenario-out", out)
    assert done.ret == 1
    done.stdout.fnmatch_lines([f"cannot write {out}*: *: name another folder for the results"])
    done.stdout.no_fnmatch_line("*Traceback*")


def test_scenarios_are_listed_and_selected_like_tests(pytester: pytest.Pytester, folder: Path) -> None:
    """--collect-only starts nothing; -k chooses among them."""
    listed = pytester.runpytest_subprocess("--scenario=mine.yaml", "--scenario=all", "--collect-only", "-q")
    listed.stdout.fnmatch_lines_random(["scenario::mine[[]1]", "scenario::upstream-flap[[]1]"])
    chosen = pytester.runpytest_subprocess("--scenario=mine.yaml", "--scenario=all", "--collect-only", "-q", "-kmine")
    chosen.stdout.fnmatch_lines(["scenario::mine[[]1]", "1/* tests collected (* deselected)*"])
    assert not (folder / "scenario-runs").exists()


def test_the_processes_of_xdist_share_the_scenarios(pytester: pytest.Pytester, folder: Path) -> None:
    """Each of them runs some, and the controller says what all have proven."""
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    pytester.makefile(".yaml", other=json.dumps({**MINE, "name": "other"}))
    options = ("-n", "2", "--sut", RELAY, "--junitxml=junit.xml", "-v")
    done = pytester.runpytest_subprocess("--scenario=mine.yaml", "--scenario=other.yaml", *options)
    assert done.ret == 0
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines_random(["mine[[]1]: valid", "other[[]1]: valid"])
    done.stdout.fnmatch_lines(["*scenario-runs/*-1/report.html, results.json, history.jsonl"])
    assert (folder / "junit.xml").read_text().count('name="verdict" value="valid"') == 2


def test_a_junit_file_has_the_sentence(pytester: pytest.Pytester, folder: Path) -> None:
    """What was proven is a property of the test case."""
    done = pytester.runpytest_subprocess("--scenario=mine.yaml", "--sut", RELAY, "--junitxml=junit.xml")
    assert done.ret == 0
    text = (folder / "junit.xml").read_text()
    assert 'name="proven" value="2 plain clients' in text
    assert 'name="verdict" value="valid"' in text


@pytest.mark.parametrize("name", ["upstream-flap", "upstream-flap-plain"])
def test_an_empty_folder_is_enough(tmp_path: Path, name: str) -> None:
    """No test and no configuration: a shipped scenario, this project's proxy, a real Toxiproxy."""
    try:
        find_toxiproxy()
    except ToxiproxyUnavailable as unavailable:
        pytest.skip(str(unavailable))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    # It comes with the tests of this project, not with the package, and warns of a setting that it wants.
    command = [sys.executable, "-m", "pytest", "-p", "no:asyncio", f"--scenario={name}"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr, "nothing of ours, and nothing about what is not theirs to set"
    assert f"{name}[1]: valid" in done.stdout
    assert "system under test: reconnect-proxy serve" in done.stdout
    assert "toxiproxy: Toxiproxy 2.1" in done.stdout
    assert "down upstream x 5" in done.stdout
    results = json.loads((tmp_path / "scenario-runs" / f"{name}-reconnect-proxy-1" / "results.json").read_text())
    assert results["messages"]["c2u"]["sent"] > 10_000
