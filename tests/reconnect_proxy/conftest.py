"""What all tests of the proxy need, an environment that configures nothing; and what those of the client share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from reconnect_proxy.config.model import Config
from reconnect_proxy.config.sources import variable_of

from .client.aware_server import AwareServer
from .client.client_rig import Link
from .cuttable_relay import CuttableRelay


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove variables that the user may have set for another proxy."""
    for option in [*Config.model_fields, "config"]:
        monkeypatch.delenv(variable_of(option), raising=False)


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """An aware server that pushes nothing, the link to it, and the URL of that link."""
    async with AwareServer() as server, CuttableRelay(server.port) as relay:
        yield server, relay, f"ws://127.0.0.1:{relay.port}/some/path?and=query"
