"""What tests of more than one package need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from .certificates import Authority

pytest_plugins = ["tests.pure", "tests.skipped"]

# A run says the same twice: what Hypothesis draws follows from the test. With HYPOTHESIS_PROFILE=fuzz it searches on;
# with quick some tests draw fewer: see `examples`.
settings.register_profile("same", derandomize=True)
settings.register_profile("fuzz", derandomize=False)
settings.load_profile("fuzz" if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else "same")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the tests trust."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """An authority that no peer trusts."""
    return Authority(tmp_path)
