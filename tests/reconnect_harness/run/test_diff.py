"""`reconnect-harness diff` shows what differs between two runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconnect_harness.cli import main
from reconnect_harness.sut.choose import folder_name
from tests.reconnect_harness.run.test_runner import RELAY
from tests.reconnect_harness.test_plugin import MINE


def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs with different systems have different folders; the verdicts and what led to them differ, most does not."""
    (tmp_path / "mine.yaml").write_text(json.dumps(MINE))
    lossy = f"{RELAY} --drop 20 --only c2u"
    for system in ("direct", lossy):
        main(["run", str(tmp_path / "mine.yaml"), "--sut", system, "--out", str(tmp_path / "out")])
    first, second = (str(tmp_path / "out" / f"mine-{folder_name(system)}-1") for system in ("direct", lossy))
    capsys.readouterr()
    assert main(["diff", first, second]) == 1
    said = capsys.readouterr().out
    rows = {cells[1]: cells[2:4] for line in said.splitlines() if len(cells := line.split("|")) == 5}
    assert rows[" verdict "] == [" valid ", " invalid "]
    assert rows[" lost c2u "][0] == " 0 "
    assert rows[" lost c2u "][1].endswith("(invalid) ")
    assert " python " not in rows
    assert "other values are the same" in said
    assert main(["diff", first, first]) == 0


def test_a_folder_without_a_run_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is compared."""
    assert main(["diff", str(tmp_path), str(tmp_path)]) == 2
    assert f"{tmp_path} holds no run" in capsys.readouterr().err


def test_the_folder_of_a_system_has_a_short_name() -> None:
    """Placeholders and paths are left out; commands with the same long beginning have different names."""
    assert folder_name(None) == "reconnect-proxy"
    assert folder_name("ws://127.0.0.1:80/x") == "ws-127.0.0.1-80-x"
    assert folder_name("/opt/my_proxy {listen} --to {upstream}") == "my_proxy-to"
    long = [folder_name(f"my-proxy --{'option' * 20} {number} {{listen}} {{upstream}}") for number in (1, 2)]
    assert long[0] != long[1]
    assert max(map(len, long)) < 50
