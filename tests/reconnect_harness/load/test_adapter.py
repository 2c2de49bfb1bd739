"""Load on an application with a protocol of its own."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconnect_harness.processes.child import Child, Warden
from reconnect_harness.processes.loops import LoopThread
from reconnect_harness.sut.base import until_listening
from reconnect_harness.toxiproxy.server import reserve_port
from tests.reconnect_harness.load.locust_run import locust

pytest.importorskip("fastapi", reason="fastapi is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

CHAT = ["-m", "uvicorn", "tests.reconnect_harness.applications.chat:app", "--ws", "websockets-sansio", "--port"]


@contextlib.contextmanager
def _chat(folder: Path, bug: str) -> Iterator[str]:
    """Serve the chat; yield its URL."""
    with Warden() as warden, LoopThread() as loop, reserve_port() as reserved:
        port = str(reserved.getsockname()[1])

        async def start() -> Child:
            words = ["env", f"BUG={bug}", sys.executable, *CHAT, port]
            child = await Child.start("the chat", words, folder / "chat.log", warden)
            await until_listening(child, f"127.0.0.1:{port}")
            return child

        child = loop.run(start())
        try:
            yield f"ws://127.0.0.1:{port}"
        finally:
            loop.run(child.stop())


@pytest.mark.parametrize("bug", ["", "room"])
def test_a_chat_under_load_is_judged_by_what_others_receive(tmp_path: Path, bug: str) -> None:
    """Each message arrives at the others of its room; one that is lost is found as a gap at each of them.

    The bug sends every twentieth message to another room. A bug that needs two messages at one moment may never show:
    users who send at the same rate keep their distance.
    """
    adapter = {"tests.reconnect_harness.applications.chat_adapter:ChatAdapter": {"rooms": 2}}
    options = ("--rate", "20/s", "--settle", "1s", "--adapter", json.dumps(adapter))
    with _chat(tmp_path, bug) as url:
        run = locust("-u", "8", "-r", "8", "-t", "4s", "--host", url, *options, "PlainUser")
    assert run.code == (1 if bug else 0), run.text
    assert (run.total("lost") > 0) == bool(bug), run.text
    assert (run.total("misdelivered") > 0) == bool(bug), run.text
    assert run.total("answered") == 0
    assert run.total("pushed") > run.total("sent")
