"""The start of a proxy with workers."""

import os
import signal
from pathlib import Path

import pytest

from ..conftest import Serve
from ..process import Serving, failed_start
from ..rawserver import RawServer
from .group import TWO, Workers, residents


async def test_a_port_in_use_is_one_line(upstream: RawServer) -> None:
    """Also where it is in use by a proxy that shares it among its own workers."""
    proxy = await Serving.started("--upstream", upstream.url, *TWO, drain="1s")
    try:
        line = await failed_start("--upstream", upstream.url, *TWO, "--listen", proxy.base)
    finally:
        await proxy.stop()
    assert line == (
        1,
        f"reconnect-proxy: cannot listen on {proxy.base}: the port is in use; choose another with --listen",
    )


async def test_hooks_that_cannot_be_made_twice_are_one_line(
    upstream: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker makes its own; where that fails at the start, nothing claims to listen, and nothing is left."""
    (tmp_path / "shy.py").write_text(
        "import os, reconnect_proxy\n"
        "class Shy(reconnect_proxy.Hooks):\n"
        "    def __init__(self):\n"
        f"        os.mkdir({str(tmp_path / 'once')!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    code, text = await failed_start("--listen", "127.0.0.1:0", "--upstream", upstream.url, *TWO, "--hooks", "shy:Shy")
    assert code == 1
    assert text.splitlines()[-1].startswith("reconnect-proxy: worker ")
    assert "did not start" in text.splitlines()[-1]


async def test_hooks_work_in_every_worker(
    serve: Serve, upstream: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they do in one; what a hook starts has the environment and the signals that it would have had from there."""
    (tmp_path / "picky.py").write_text(
        "import os, re, subprocess, reconnect_proxy\n"
        "class Picky(reconnect_proxy.Hooks):\n"
        "    def on_session(self, session):\n"
        "        session.upstream_headers['X-Path'] = os.environ['PYTHONPATH']\n"
        "        status = subprocess.run(['cat', '/proc/self/status'], capture_output=True, text=True).stdout\n"
        "        (ignored,) = re.findall('SigIgn:.*', status)\n"
        "        session.upstream_headers['X-Ignored'] = ignored\n"
    )
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    monkeypatch.setenv("PYTHONPATH", path)
    proxy = await serve(upstream.url, *TWO, "--hooks", "picky:Picky")
    async with residents(Workers(proxy), 4):
        assert {request.get("x-path") for request in upstream.requests} == {path}
        (ignored,) = {request.get("x-ignored") for request in upstream.requests}
        assert ignored is not None
        mask = int(ignored.removeprefix("SigIgn:"), 16)
        assert not mask & (1 << signal.SIGTERM - 1 | 1 << signal.SIGINT - 1 | 1 << signal.SIGHUP - 1)
