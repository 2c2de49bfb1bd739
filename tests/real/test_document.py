"""docs/servers.md: its rows name tests that are there, and options that those tests give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .install import HERE, REAL

PAGE = (HERE.parent.parent / "docs" / "servers.md").read_text()
ROWS = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and "`test_" in line]
TESTS = sorted(path for path in HERE.glob("test_*.py") if path.name != Path(__file__).name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0][2:14]} {row[1][:24]}")
def test_row(row: list[str]) -> None:
    """Every option of a row is given by the tests that it names."""
    sources = [(HERE / name).read_text() for name in re.findall(r"`(test_\w+\.py)`", row[-1])]
    preset = re.search(r"`(?:--preset )?(stateless|stateful|cdp)`", " ".join(row[1:3]))
    gate = re.search(r"`--gate (\w+):", " ".join(row[1:3]))
    assert preset or gate
    for source in sources:
        if preset:
            assert f'preset="{preset[1]}"' in source
        if gate:
            assert f"{gate[1]}:" in source


def test_every_program_has_its_row() -> None:
    """What is installed is written about, and what is tested is named."""
    named = set(re.findall(r"`(test_\w+\.py)`", PAGE))
    assert named == {path.name for path in TESTS}
    text = PAGE.lower()
    assert [name for name in REAL if name.lower() not in text] == []
