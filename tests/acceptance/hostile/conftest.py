"""Fixtures: one proxy under siege for all the attacks, judged after each."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from .siege import Siege


@pytest.fixture(scope="package")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    """Start a proxy with its bystanders; at the end it must stop as asked."""
    with Siege(tmp_path_factory.mktemp("siege")) as siege:
        yield siege


@pytest_asyncio.fixture
async def siege(besieged: Siege) -> AsyncIterator[Siege]:
    """Give the proxy to attack; afterwards no other client may be affected, and nothing may be left."""
    yield besieged
    await besieged.judge()
