"""A real Toxiproxy and the embedded one: each test here runs with both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconnect_harness.toxiproxy.find import find_toxiproxy
from reconnect_harness.toxiproxy.server import ToxiproxyServer
from tests.reconnect_harness.toxiproxy.embedded.client import Client
from tests.reconnect_harness.toxiproxy.wires import source_or_skip


@pytest.fixture(scope="module", params=["real", "embedded"])
def server(request: pytest.FixtureRequest) -> Iterator[ToxiproxyServer]:
    """One server for a module, of each available kind."""
    source = source_or_skip() if request.param == "real" else find_toxiproxy("embedded")
    if source.embedded and request.param == "real":
        pytest.skip(f"there is no real Toxiproxy to compare with; {source.origin}")
    with source.server() as server:
        yield server


@pytest.fixture
def client(server: ToxiproxyServer) -> Iterator[Client]:
    """A client of the server's API, which removes everything that a test has made."""
    with Client(server.api.host, server.api.port) as client:
        yield client
