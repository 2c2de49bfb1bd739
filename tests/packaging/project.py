"""A project of other people, and what pytest says of it."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from .environment import Done, Environment

#: A scenario of the project that is valid when nothing is done to its messages.
MINE: dict[str, Any] = {
    "name": "mine",
    "summary": "It holds.",
    "upstream": {"kind": "push", "push": "100/s"},
    "clients": {"kind": "plain", "count": 2, "send": "100/s", "for": "200ms"},
    "expect": {"lost": 0, "reordered": 0, "duplicated": 0},
    "settle": "1s",
}

#: A system under test that loses messages: another interpreter than that of the project runs it.
LOSSY = (
    f"{sys.executable} {Path(__file__).parents[1]}/reconnect_harness/broken_proxy.py --drop 5 {{listen}} {{upstream}}"
)


class Project(NamedTuple):
    """A folder with a project, and the environment of its tests."""

    folder: Path
    environment: Environment

    def write(self, **modules: str) -> None:
        """Write Python modules into one folder: `write(conftest=..., test_it=...)`."""
        for name, text in modules.items():
            self.write_file(f"{name}.py", text)

    def write_file(self, path: str, text: str) -> None:
        """Write a file, and make its folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))

    def write_settings(self, *lines: str) -> None:
        """Write `pytest.ini`."""
        self.write_file("pytest.ini", "\n".join(["[pytest]", *lines]) + "\n")

    def write_scenario(self, **changed: Any) -> None:
        """Write `mine.yaml`."""
        self.write_file("mine.yaml", json.dumps(MINE | changed))

    def pytest(self, *options: str, **variables: str) -> Done:
        """Run pytest in it."""
        return self.environment.run(self.folder, "pytest", *options, **variables)
