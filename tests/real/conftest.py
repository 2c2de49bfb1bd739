"""Fixtures of the tests of real programs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from .install import missing
from .testbed import Testbed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, so that `make test` leaves them out."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("real")


@pytest.fixture(autouse=True)
def _is_installed(request: pytest.FixtureRequest) -> None:
    """Skip a test whose program is not there: `needs("Playwright")` names it."""
    for marker in request.node.iter_markers("needs"):
        for name in marker.args:
            if (lack := missing(name)) is not None:
                pytest.skip(f"{name} is not installed, there is no {lack}: run `make real`")


@pytest_asyncio.fixture
async def testbed(tmp_path: Path) -> AsyncIterator[Testbed]:
    """What a test starts its programs and proxies with."""
    async with Testbed(tmp_path) as testbed:
        yield testbed
