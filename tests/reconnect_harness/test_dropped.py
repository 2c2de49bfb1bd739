"""`handshake-passes` against relays that drop something of handshakes or closes: the message names what was dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.report import summary
from reconnect_harness.toxiproxy.server import ToxiproxyServer
from tests.reconnect_harness.test_broken import PYTHON, _failed, _run, _shipped

RELAY = f"{PYTHON} {Path(__file__).parent / 'dropping_relay.py'} {{listen}} {{upstream}}"


@pytest.mark.parametrize("system", [RELAY, f"{RELAY} --redial", "websockets", "direct", "reconnect-proxy"])
async def test_a_system_that_passes_everything_on_is_valid(
    tmp_path: Path, server: ToxiproxyServer, system: str
) -> None:
    """Whether it keeps its clients or not."""
    done = await _run(tmp_path, _shipped("handshake-passes"), system, server)
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))


@pytest.mark.parametrize(
    ("drop", "check", "words"),
    [
        ("path", "handshake_changes", "its path /rooms/c01 was changed to /"),
        ("query", "handshake_changes", "its query ?token=a%20b%26c&token=d was dropped"),
        ("escapes", "handshake_changes", "its query ?token=a%20b%26c&token=d was changed to ?token=a+b%26c&token=d"),
        ("cookie", "handshake_changes", "its cookie theme was dropped"),
        ("header", "handshake_changes", "its header x-tenant was dropped on its way to the upstream"),
        ("value", "handshake_changes", "its header x-tenant: north, south was changed to north"),
        ("subprotocol", "handshake_changes", "its subprotocol chat.v2 was dropped"),
        ("second-subprotocol", "handshake_changes", "its subprotocol chat.v1 was dropped"),
        ("choice", "handshake_changes", "chosen the subprotocol chat.v2, and the client was told none"),
        ("header-again --redial", "handshake_changes", "its header x-tenant was dropped when its upstream was dialled"),
        ("reason-down", "passed_on", "was closed with 3000, which is the code of its upstream, and the reason was"),
        ("code-down", "passed_on", "was closed with 1000 rude close 2 of u1, which no upstream has said"),
        ("reason-up", "passed_up", "has closed with 3001 client c02 leaves, which reached an upstream, but the reason"),
        ("code-up", "passed_up", "has closed with 3001 client c02 leaves, which reached no upstream"),
    ],
)
async def test_what_is_dropped_is_named(
    tmp_path: Path, server: ToxiproxyServer, drop: str, check: str, words: str
) -> None:
    """And nothing else is wrong."""
    done = await _run(tmp_path, _shipped("handshake-passes"), f"{RELAY} --drop {drop}", server)
    assert _failed(done) == {check}, list(summary.reasons(done))
    (result,) = (result for result in done.judgement.results if result.check == check)
    found = [violation.what for violation in result.violations]
    assert [what for what in found if words in what], found
