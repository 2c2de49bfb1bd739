"""Conversations under gevent against real programs, while their links are cut."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reconnect_harness.fixtures.chaos_link import ChaosLink
from reconnect_harness.fixtures.servers import MockUpstream, ProxyServer
from reconnect_harness.toxiproxy.toxics import Toxic
from tests.reconnect_harness.load.locust_run import ROOT

TALKER = Path(__file__).with_name("talker.py")

MESSAGES = 250


@contextlib.contextmanager
def _talking(url: str, kind: str, messages: int = MESSAGES) -> Iterator[subprocess.Popen[str]]:
    """Start a talker whose conversation is open; kill it if it is still there in the end."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, str(TALKER), url, kind, str(messages)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


def _heard(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


def _drop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("drop\n")
    process.stdin.flush()


def test_an_aware_conversation_hears_each_message_once_and_in_order_over_cut_links(
    chaos_link: Callable[..., ChaosLink],
    mock_upstream: Callable[..., MockUpstream],
    reconnect_proxy_server: Callable[..., ProxyServer],
) -> None:
    """Its link is cut in mid-frame, reset, down for a while, and dropped by itself."""
    proxy = reconnect_proxy_server(mock_upstream("aware-echo").url, grace="30s")
    link = chaos_link(proxy.url, resets=True)
    with _talking(link.url, "aware") as process:
        for harm in ("reset", "cut", "down", "drop"):
            time.sleep(0.4)  # the conversation is to have gone on over the new link
            if harm == "reset":
                link.reset()
            elif harm == "cut":
                toxic = Toxic("limit_data", {"bytes": 700}, "both")
                link.add(toxic)
                time.sleep(0.3)  # so long does every link end after so many bytes
                link.remove(toxic)
            elif harm == "down":
                link.down()
                time.sleep(0.2)  # so long is nobody there
                link.up()
            else:
                _drop(process)
        told = _heard(process)
    assert told["numbers"] == list(range(MESSAGES)), told
    assert told["resumable"] is True
    assert told["returns"] == len(told["losses"]) >= 4
    assert told["ended"] == ""


def test_an_ordinary_conversation_comes_back_under_its_id(
    mock_upstream: Callable[..., MockUpstream], reconnect_proxy_server: Callable[..., ProxyServer]
) -> None:
    """Through the proxy what was under way to it comes too, perhaps twice; it never asks for anything again."""
    proxy = reconnect_proxy_server(mock_upstream("aware-echo").url, grace="30s")
    with _talking(proxy.url, "plain") as process:
        for _ in range(3):
            time.sleep(0.4)  # there is to be something under way
            _drop(process)
        told = _heard(process)
    assert told["returns"] == 3
    assert sorted(set(told["numbers"])) == list(range(MESSAGES)), told


def test_an_aware_conversation_with_an_ordinary_server_is_an_ordinary_one(
    mock_upstream: Callable[..., MockUpstream],
) -> None:
    """Nobody resumes it, and it does not believe that anybody does."""
    server = mock_upstream("echo")
    with _talking(server.url, "aware", 100) as process:
        time.sleep(0.4)  # there is to be something under way
        _drop(process)
        told = _heard(process)
    assert told["resumable"] is False
    assert told["returns"] == 1
    assert len(told["numbers"]) == len(set(told["numbers"])) > 50


def test_a_session_that_is_gone_is_over(
    mock_upstream: Callable[..., MockUpstream], reconnect_proxy_server: Callable[..., ProxyServer]
) -> None:
    """The upstream forgets it: the proxy says so, and the conversation does not come back."""
    upstream = mock_upstream("aware-echo")
    proxy = reconnect_proxy_server(upstream.url, retry_for="10s")
    with _talking(proxy.url, "aware", 400) as process:
        time.sleep(0.5)  # the session is to be used
        upstream.restart()
        told = _heard(process)
    assert told["ended"] == "closed with 1014 upstream lost the session"
    assert told["returns"] == 0
