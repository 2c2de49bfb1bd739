"""Conversations under gevent against real programs, while their links are cut."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reconnect_harness.fixtures.chaos_link import ChaosLink
from reconnect_harness.fixtures.servers import MockUpstream, ProxyServer
from reconnect_harness.toxiproxy.toxics import Toxic
from tests.reconnect_harness.load.locust_run import ROOT

TALKER = Path(__file__).with_name("talker.py")


class Talk:
    """A talker's process: what it is told to do, and what it tells."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, what: str) -> None:
        """Tell it to `drop` its link, or that it is `enough`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def until(self, what: str) -> dict[str, Any]:
        """Read what it tells until it has told that, and return it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told: dict[str, Any] = json.loads(line)
            if what in told:
                return told
            assert "sent" not in told, f"it has ended: {told}"
        raise AssertionError(f"it has died before it told {what!r}")

    def goes_on(self) -> None:
        """Wait until it has a new link, and has heard something over it."""
        self.until("returned")
        self.until("heard")

    def account(self) -> dict[str, Any]:
        """Tell it that it is enough, and return its account of all."""
        self.say("enough")
        return self.until("sent")


@contextlib.contextmanager
def _talking(url: str, kind: str) -> Iterator[Talk]:
    """Start a talker, and wait until it has heard something; kill it if it is still there in the end."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, str(TALKER), url, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        text=True,
    ) as process:
        try:
            talk = Talk(process)
            talk.until("heard")
            yield talk
        finally:
            process.kill()


def test_an_aware_conversation_hears_each_message_once_and_in_order_over_cut_links(
    chaos_link: Callable[..., ChaosLink],
    mock_upstream: Callable[..., MockUpstream],
    reconnect_proxy_server: Callable[..., ProxyServer],
) -> None:
    """Its link is reset, cut in mid-frame, down for a while, and dropped by itself."""
    proxy = reconnect_proxy_server(mock_upstream("aware-echo").url, grace="30s")
    link = chaos_link(proxy.url, resets=True)
    with _talking(link.url, "aware") as talk:
        link.reset()
        talk.goes_on()
        toxic = Toxic("limit_data", {"bytes": 700}, "both")
        link.add(toxic)
        # So does every link now, after so many bytes.
        talk.until("lost")
        talk.until("lost")
        link.remove(toxic)
        talk.goes_on()
        link.down()
        talk.until("lost")
        link.up()
        talk.goes_on()
        talk.say("drop")
        talk.goes_on()
        told = talk.account()
    assert told["numbers"] == list(range(told["sent"])), told
    assert told["resumable"] is True
    assert told["returns"] == len(told["losses"]) >= 4
    assert told["ended"] == ""


def test_an_ordinary_conversation_comes_back_under_its_id(
    mock_upstream: Callable[..., MockUpstream], reconnect_proxy_server: Callable[..., ProxyServer]
) -> None:
    """Through the proxy it also gets what was in flight to it, perhaps twice; it never repeats anything."""
    proxy = reconnect_proxy_server(mock_upstream("aware-echo").url, grace="30s")
    with _talking(proxy.url, "plain") as talk:
        for _ in range(3):
            talk.say("drop")
            talk.goes_on()
        told = talk.account()
    assert told["returns"] == 3
    assert sorted(set(told["numbers"])) == list(range(told["sent"])), told


def test_an_aware_conversation_with_an_ordinary_server_is_an_ordinary_one(
    mock_upstream: Callable[..., MockUpstream],
) -> None:
    """Nothing resumes it, and it does not expect that."""
    server = mock_upstream("echo")
    with _talking(server.url, "aware") as talk:
        talk.say("drop")
        talk.goes_on()
        told = talk.account()
    assert told["resumable"] is False
    assert told["returns"] == 1
    # Twenty before, and twenty after.
    assert len(told["numbers"]) == len(set(told["numbers"])) >= 40


def test_a_session_that_is_gone_is_over(
    mock_upstream: Callable[..., MockUpstream], reconnect_proxy_server: Callable[..., ProxyServer]
) -> None:
    """The upstream forgets it: the proxy says so, and the conversation does not reconnect."""
    upstream = mock_upstream("aware-echo")
    proxy = reconnect_proxy_server(upstream.url, retry_for="10s")
    with _talking(proxy.url, "aware") as talk:
        upstream.restart()
        told = talk.until("sent")
    # It was sending, so some of its messages may be unconfirmed.
    assert re.fullmatch(r"closed with 1014 upstream lost the session(; \d+ messages? uncertain)?", told["ended"])
    assert told["returns"] == 0
