"""Scenario files: how they are found, read and parsed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reconnect_harness.scenario.find import load_scenario, scenario_files, shipped_scenarios
from reconnect_harness.scenario.model import ScenarioError


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: [", "it is not YAML"),
        ("name: a\nname: b\n", "the key 'name' is there twice"),
        ("- a\n", "['a'] is not a mapping of name, summary"),
        ("", "None is not a mapping of name, summary"),
    ],
)
def test_a_file_that_is_not_a_scenario_is_one_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    """With the name of the file, and the line if YAML has one."""
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ScenarioError) as error:
        load_scenario(file)
    assert str(error.value).startswith(str(file))
    assert complaint in str(error.value)


def test_a_name_a_file_a_folder_and_all_are_found(tmp_path: Path) -> None:
    """The four things that --scenario takes."""
    (tmp_path / "b.yaml").write_text("")
    (tmp_path / "a.yml").write_text("")
    (tmp_path / "readme.md").write_text("")
    assert scenario_files("upstream-flap") == [shipped_scenarios()["upstream-flap"]]
    assert scenario_files(str(tmp_path / "b.yaml")) == [tmp_path / "b.yaml"]
    assert scenario_files(str(tmp_path)) == [tmp_path / "a.yml", tmp_path / "b.yaml"]
    assert set(scenario_files("all")) == set(shipped_scenarios().values())


def test_an_unknown_name_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    """A typing error gets a suggestion."""
    with pytest.raises(ScenarioError, match="no scenario 'upstream-flop': did you mean upstream-flap"):
        scenario_files("upstream-flop")
    with pytest.raises(ScenarioError, match="holds no scenario"):
        scenario_files(str(tmp_path))


def test_reading_a_scenario_imports_no_peer_and_no_implementation_of_a_fault() -> None:
    """Kinds are data: neither clients and upstreams, nor Toxiproxy and container engines, are loaded."""
    program = """
import sys
from reconnect_harness.scenario.find import load_scenario, shipped_scenarios
load_scenario(shipped_scenarios()["random-cuts"])
print(*(name.removeprefix("reconnect_harness.") for name in sys.modules if name.startswith("reconnect_harness.")))
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    loaded = [name for name in done.stdout.split() if name.startswith(("peers.", "toxiproxy.", "containers."))]
    assert sorted(loaded) == ["containers.spec", "peers.kinds", "peers.workload", "toxiproxy.toxics"]
    assert "faults.nemesis" not in done.stdout.split()
