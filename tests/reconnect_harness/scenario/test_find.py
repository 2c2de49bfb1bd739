"""Scenario files: how they are found, read and parsed."""

from __future__ import annotations

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
