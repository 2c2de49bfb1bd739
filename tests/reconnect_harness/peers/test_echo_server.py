"""`reconnect-harness upstream`: a server that sends back what it receives, as a program."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from reconnect_harness.cli import main
from reconnect_harness.toxiproxy.server import reserve_port


@contextmanager
def serving(*arguments: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start it, and yield the process and the URL that it prints."""
    command = [sys.executable, "-m", "reconnect_harness.cli", "upstream", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ}) as process:
        assert process.stderr is not None
        try:
            yield process, process.stderr.readline().split()[-1]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_sends_back_what_it_receives_and_closes_at_its_end(number: signal.Signals) -> None:
    """Text and bytes, unchanged; on a signal it closes with 1012, and exits with 0."""
    with serving("--listen", "127.0.0.1:0") as (process, url), connect(url) as client:
        for message in ("ä", b"\x00", "x" * 2**20):
            client.send(message)
            assert client.recv() == message
        process.send_signal(number)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "service restart")
        assert process.wait(10) == 0


def test_an_aware_one_resumes_a_session_whose_link_was_lost() -> None:
    """It states its count, and no message is repeated; on a signal it closes with 1012, and exits with 0."""
    session = "a-session-of-this-test"
    with serving("--aware", "--listen", "127.0.0.1:0") as (process, url):
        with connect(url, additional_headers={"X-Connection-Id": session, "X-Reconnect-Received": "0"}) as client:
            for message in ("one", "two"):
                client.send(message)
            assert [client.recv(), client.recv()] == ["one", "two"]
            client.socket.shutdown(socket.SHUT_RDWR)
        with connect(url, additional_headers={"X-Reconnect-Id": session, "X-Reconnect-Received": "2"}) as client:
            assert client.response is not None
            assert client.response.headers["X-Reconnect-Received"] == "2"
            client.send("three")
            assert client.recv() == "three"
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert process.wait(10) == 0


def test_its_port_is_that_of_the_variable() -> None:
    """The environment variable PORT."""
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        with serving(PORT=str(port)) as (_, url), connect(url) as client:
            assert url == f"ws://127.0.0.1:{port}/"
            client.send("here")
            assert client.recv() == "here"


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """For a malformed address, and for one that is taken."""
    assert main(["upstream", "--listen", "9200"]) == 2
    assert "'9200' is not of the form HOST:PORT" in capsys.readouterr().err
    with serving("--listen", "127.0.0.1:0") as (_, url):
        taken = url.removeprefix("ws://").strip("/")
        assert main(["upstream", "--listen", taken]) == 1
    assert f"cannot listen on {taken}: " in capsys.readouterr().err
