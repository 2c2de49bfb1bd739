"""What is said of a scenario while pytest runs it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from reconnect_harness import progress
from tests.reconnect_harness.run.test_runner import RELAY
from tests.reconnect_harness.test_plugin import MINE

pytest_plugins = ["pytester"]


@pytest.fixture
def scenario_file(pytester: pytest.Pytester) -> Path:
    """A scenario in a folder of its own."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    return pytester.makefile(".yaml", mine=json.dumps(MINE))


def test_a_terminal_has_a_live_line_that_goes_away(scenario_file: Path) -> None:
    """It stands behind what pytest has written, is never longer than the line, and nothing of it stays."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", "--scenario=mine.yaml", "--sut", RELAY, "--color=yes"]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, close_fds=True) as running:
        os.close(theirs)
        said = b""
        # The other side of a terminal ends with an error, not with an end.
        with suppress(OSError):
            while chunk := os.read(ours, 4096):
                said += chunk
    os.close(ours)
    assert running.returncode == 0, said.decode()
    shown = re.findall(r"\x1b7\x1b\[K([^\x1b]*)\x1b8", said.decode())
    assert any(line.lstrip().startswith("mine:") for line in shown)
    assert all(len("scenario ") + len(line) < 100 for line in shown)
    assert shown[-1] == ""


@pytest.mark.parametrize(("options", "said"), [(["-v"], True), ([], False)])
def test_elsewhere_a_line_is_written_now_and_then(
    pytester: pytest.Pytester,
    scenario_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    said: bool,
) -> None:
    """If pytest is to be verbose; the item's own line is whole all the same."""
    monkeypatch.setattr(progress, "LASTING_SECONDS", 0.0)
    done = pytester.runpytest_inprocess("--scenario=mine.yaml", "--sut", RELAY, *options)
    done.assert_outcomes(passed=1)
    lines = [line for line in done.outlines if re.fullmatch(r" {4}mine: .* sent [\d,]+ arrived", line)]
    assert bool(lines) is said
    if said:
        done.stdout.fnmatch_lines(["scenario::mine[[]1] PASSED*"])


def test_a_short_run_says_nothing(pytester: pytest.Pytester, scenario_file: Path) -> None:
    """It is over before anybody could wonder."""
    done = pytester.runpytest_inprocess("--scenario=mine.yaml", "--sut", RELAY, "-v")
    assert not [line for line in done.outlines if line.startswith("    mine: ")]
