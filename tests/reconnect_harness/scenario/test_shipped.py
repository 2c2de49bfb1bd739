"""The scenarios that come with the harness: what all of them keep to."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconnect_harness.faults.fault import FAULTS
from reconnect_harness.peers.kinds import ClientKind, UpstreamKind
from reconnect_harness.scenario import timeline_text as storyboard
from reconnect_harness.scenario.find import load_scenario, shipped_scenarios
from reconnect_harness.scenario.model import GROUPS, Scenario

DOCUMENT = Path(__file__).parents[3] / "docs" / "scenarios.md"

#: What a run takes beside its traffic and faults, in seconds: to start, to settle, to stop, to write its report.
BESIDE = 1.5


@pytest.mark.parametrize("path", shipped_scenarios().values(), ids=lambda path: path.stem)
def test_a_shipped_scenario_is_in_order(path: Path) -> None:
    """Its name is its file's; it has a group, says what it proves, takes less than 15 s, and is in the documents."""
    chosen = load_scenario(path)
    assert chosen.name == path.stem
    assert chosen.group != "other"
    assert 40 < len(chosen.summary) < 500
    assert storyboard.seconds(chosen) < 15
    assert f"[`{chosen.name}`](../scenarios/{path.name})" in DOCUMENT.read_text()


def test_all_of_them_take_less_than_six_minutes() -> None:
    """By what they say; one after the other."""
    lasting = [storyboard.seconds(load_scenario(path)) + BESIDE for path in shipped_scenarios().values()]
    assert sum(lasting) < 6 * 60


def test_the_documents_know_every_key() -> None:
    """Faults, kinds, checkers and sections are in docs/scenarios.md."""
    text = DOCUMENT.read_text()
    known = [
        *Scenario.model_fields,
        *GROUPS,
        *FAULTS,
        *ClientKind,
        *UpstreamKind,
    ]
    assert [word for word in known if f"`{word}`" not in text and f"`{word}:" not in text] == []
