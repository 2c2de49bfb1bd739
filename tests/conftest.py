"""What tests of more than one package need."""

from __future__ import annotations

from pathlib import Path

import pytest

from .certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the tests trust."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """An authority that nobody knows."""
    return Authority(tmp_path)
