"""The certificates of a run: they work on loopback, and are removed at its end; and whole runs over TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from reconnect_harness.processes.certificates import certificates
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.sut.own_proxy import OwnProxy


async def test_they_serve_loopback_and_are_trusted_there() -> None:
    """By name and by address; afterwards the folder with the key is removed."""
    with certificates() as files:
        async with serve(
            lambda connection: connection.wait_closed(), "127.0.0.1", 0, ssl=files.server_context()
        ) as server:
            port = server.sockets[0].getsockname()[1]
            for host in ("localhost", "127.0.0.1"):
                async with connect(f"wss://{host}:{port}", ssl=files.client_context(), proxy=None):
                    pass
        folder = files.key.parent
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.parametrize("side", ["client", "upstream", "both"])
async def test_a_run_uses_tls_on_the_side_of_its_scenario(side: str, tmp_path: Path) -> None:
    """The proxy's log has the schemes that it serves and dials; every message arrives; no key is left."""
    # A short grace: a session without a client ends soon, so that what is left afterwards is a leak.
    first: dict[str, Any] = {"grace": "100ms"}
    changes: dict[str, Any] = {"chain": [first, {"mode": "sender"}]} if side == "both" else {"proxy": first}
    mine = parse_scenario(
        {
            "name": "mine",
            "summary": "It holds.",
            "tls": side,
            "upstream": {"kind": "push", "push": "50/s"},
            "clients": {"kind": "plain", "count": 2, "send": "50/s", "for": "300ms"},
            "expect": {"lost": 0, "duplicated": 0, "leaks": 0},
            **changes,
        },
        "test",
    )
    run = await ScenarioRunner(mine, OwnProxy(), None, 1, tmp_path / "run").run()
    assert run.judgement.verdict == "valid", run.judgement
    logs = [path.read_text() for path in sorted((tmp_path / "run").glob("**/sut.log"))]
    assert ("listening on wss://" in logs[0]) is (side != "upstream")
    assert ("-> wss://" in logs[-1]) is (side != "client")
    assert len(logs) == (2 if side == "both" else 1)
    assert not list((tmp_path / "run").glob("**/*.pem"))


def test_a_run_that_is_cancelled_leaves_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary folder is removed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def begin() -> None:
        with certificates() as files:
            assert files.key.is_relative_to(tmp_path)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(begin())
    assert not list(tmp_path.iterdir())
