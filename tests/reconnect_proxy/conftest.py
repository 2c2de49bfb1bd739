"""What all tests of the proxy need: an environment that configures nothing."""

from __future__ import annotations

import pytest

from reconnect_proxy.config import Config
from reconnect_proxy.sources import variable_of


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the options that whoever runs the tests may have set for a proxy of their own."""
    for option in [*Config.model_fields, "config"]:
        monkeypatch.delenv(variable_of(option), raising=False)
