"""A Toxiproxy, real where there is one to be had, and links through it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconnect_harness.toxiproxy.server import ToxiproxyServer
from tests.reconnect_harness.toxiproxy.wires import Wires, source_or_skip, wires_on


@pytest.fixture(scope="module")
def server() -> Iterator[ToxiproxyServer]:
    """One Toxiproxy for a module, or the reason why there is none."""
    with source_or_skip().server() as server:
        yield server


@pytest.fixture
def wires(server: ToxiproxyServer) -> Iterator[Wires]:
    """Links and connections of one test."""
    with wires_on(server) as wires:
        yield wires
