"""The scenarios that come with the harness: the rules that all of them follow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconnect_harness.faults.fault import Extent, FaultKind
from reconnect_harness.faults.kinds import FAULT_KINDS
from reconnect_harness.peers.kinds import ClientKind, UpstreamKind
from reconnect_harness.scenario.find import load_scenario, shipped_scenarios
from reconnect_harness.scenario.model import GROUPS, Scenario
from reconnect_harness.scenario.timeline_text import seconds

DOCUMENT = Path(__file__).parents[3] / "docs" / "scenarios.md"

#: What a run takes in addition to its traffic and faults, in seconds: to start, settle, stop, and write its report.
OVERHEAD = 1.5


@pytest.mark.parametrize("path", shipped_scenarios().values(), ids=lambda path: path.stem)
def test_a_shipped_scenario_follows_the_rules(path: Path) -> None:
    """Its name is its file's; it has a group, takes less than 15 s; the page has the first sentence of its summary."""
    chosen = load_scenario(path)
    assert chosen.name == path.stem
    assert chosen.group != "other"
    assert 40 < len(chosen.summary) < 500
    assert seconds(chosen) < 15
    sentence = re.split(r"(?<=\.) (?=[A-Z])", chosen.summary)[0]
    assert f"| [`{chosen.name}`](../scenarios/{path.name}) | {sentence} |" in DOCUMENT.read_text()


def test_all_of_them_take_less_than_six_minutes() -> None:
    """One after the other, by their own durations."""
    lasting = [seconds(load_scenario(path)) + OVERHEAD for path in shipped_scenarios().values()]
    assert sum(lasting) < 6 * 60


@pytest.mark.parametrize(
    "kind",
    [kind for kinds in FAULT_KINDS.values() for kind in kinds.values()],
    ids=lambda kind: f"{kind.target_kind.name}-{kind.name}",
)
def test_the_documents_have_the_row_of_every_fault(kind: FaultKind) -> None:
    """With the fault's own text, whether it takes `for`, and its parameters."""
    table = DOCUMENT.read_text().partition(f"\n| fault of a {kind.target_kind.name} |")[2].partition("\n\n")[0]
    (row,) = (line for line in table.splitlines() if line.startswith(f"| `{kind.name}` |"))
    _, _, text, lasts, parameters, _ = (cell.strip() for cell in row.split("|"))
    assert text == kind.text
    assert lasts == {Extent.MOMENT: "none", Extent.LASTING: "needed", Extent.EITHER: "optional"}[kind.extent]
    assert re.findall(r"`(\w+)`", parameters) == [
        *kind.attributes,
        *(["network"] if kind.takes_network else []),
        *kind.commands,
    ]


def test_the_documents_know_every_key() -> None:
    """Kinds of peers, groups and sections are in docs/scenarios.md."""
    text = DOCUMENT.read_text()
    known = [*Scenario.model_fields, *GROUPS, *ClientKind, *UpstreamKind]
    assert [word for word in known if f"`{word}`" not in text and f"`{word}:" not in text] == []
