"""Scenarios of links and of load against proxies with one bug: each is invalid, by the check for that bug."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.toxiproxy.server import ToxiproxyServer
from tests.reconnect_harness.test_broken import _failed, _keeper, _run, _shipped


@pytest.mark.parametrize(
    ("harm", "name", "check", "options"),
    [
        ("lazy", "upstream-reset", "recovery_p50", {}),
        ("drop-on-return", "client-flap", "lost", {}),
        ("ask-seldom", "trickle", "repeat_age", {}),
        ("swap-on-redial", "upstream-cut-mid-frame", "reordered", {}),
        ("repeat-on-redial", "upstream-silence-then-death", "duplicated", {}),
        ("truncate-on-redial", "large-messages", "corrupted", {}),
        ("drop-when-full", "narrow-bandwidth", "lost", {}),
        # It waits for the end of a connection that is dead half-way.
        ("none", "upstream-half-dead", "latency_p90", {"ping_interval": "20s", "ping_timeout": "20s"}),
        # It accepts all messages, and keeps all of them.
        ("none", "queue-limit", "memory", {"max_queue": "64MiB"}),
    ],
)
async def test_a_proxy_that_bears_a_bad_network_badly_is_invalid(
    tmp_path: Path, server: ToxiproxyServer, harm: str, name: str, check: str, options: dict[str, Any]
) -> None:
    """It does everything else right, and fails the scenario of that fault."""
    chosen = _shipped(name)
    proxy = {**chosen.proxy, **options}
    chosen = chosen.model_copy(update={"settle": min(chosen.settle, 2.0), "proxy": proxy})
    assert check in _failed(await _run(tmp_path, chosen, _keeper(harm, chosen), server))
