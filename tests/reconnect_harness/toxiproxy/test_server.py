"""A Toxiproxy server as a process: how it is started and used, and that it always ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from toxiproxy.api import APIConsumer

from reconnect_harness.toxiproxy import process as toxiproxy_process
from reconnect_harness.toxiproxy import server as toxiproxy_server
from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.server import ToxiproxyServer, ToxiproxyUnavailable
from tests.reconnect_harness.leftovers import family
from tests.reconnect_harness.toxiproxy.wires import (
    eventually,
    exchange,
    kill,
    source_or_skip,
    startable_or_skip,
    wires_on,
)

OWNER = """
import sys
from reconnect_harness.toxiproxy.find import find_toxiproxy
with find_toxiproxy().server() as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


def ended(processes: list[psutil.Process]) -> bool:
    """Return whether all of them have ended; they may wait to be reaped."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                return False
    return True


def test_it_describes_itself(server: ToxiproxyServer) -> None:
    """The line for a run's header has the version and the place."""
    source = source_or_skip()
    what = "embedded" if source.embedded else f"real, {source.binary or source.url}, {source.origin}"
    assert server.describe() == f"Toxiproxy {server.version} ({what})"
    assert server.version


def test_the_embedded_one_is_started_like_a_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server is a process too, describes itself, carries data, and ends; even if a folder of the user has
    the name of the package."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with ToxiproxyServer(embedded=True) as embedded, wires_on(embedded) as wires:
        assert embedded.describe() == "Toxiproxy 2.12.0 (embedded)"
        processes = family(embedded.pid)
        exchange(*wires.connect(wires.link()))
    assert ended(processes)


def test_nothing_is_left_after_close() -> None:
    """After the context its processes have ended and nothing answers at its port."""
    with startable_or_skip().server() as server:
        processes = family(server.pid)
        assert len(processes) == 3
    assert ended(processes)
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect((server.api.host, server.api.port))
    server.close()


def test_nothing_is_left_after_an_exception() -> None:
    """An exception in the context stops the server and is not changed."""
    with pytest.raises(ZeroDivisionError), startable_or_skip().server() as server, wires_on(server) as wires:
        processes = family(server.pid)
        wires.link()
        _ = 1 / 0
    assert ended(processes)


def test_links_left_open_are_closed_with_the_server() -> None:
    """A link that is still open releases its port when the server is closed."""
    with startable_or_skip().server() as server:
        link = ToxiproxyLink(server, "forgotten", "127.0.0.1:1")
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(link.listen.split(":")[1])))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_owner_is_killed(number: signal.Signals) -> None:
    """The server ends when the process that started it does."""
    startable_or_skip()
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        processes = family(int(owner.stdout.readline()))
        owner.send_signal(number)
    assert owner.returncode != 0
    assert eventually(lambda: ended(processes))


def test_a_server_that_dies_is_noticed_and_leaves_nothing() -> None:
    """The next call to a server that was killed is an error; closing it is not."""
    with startable_or_skip().server() as server:
        processes = family(server.pid)
        kill(server)
        with pytest.raises(toxiproxy_server.ToxiproxyError, match="did not answer GET"):
            server.api.get("/version")
    assert ended(processes)


def test_two_servers_at_once_are_independent(server: ToxiproxyServer) -> None:
    """Each server has its own links, and the class in which toxiproxy-python keeps its address is not changed."""
    address = (APIConsumer.host, APIConsumer.port)
    with startable_or_skip().server() as other, wires_on(server) as here, wires_on(other) as there:
        first, second = here.link(), there.link()
        assert first.name == second.name
        first.down()
        exchange(*there.connect(second))
        second.down()
        first.up()
        exchange(*here.connect(first))
        assert server.url != other.url
    assert (APIConsumer.host, APIConsumer.port) == address


def test_a_given_server_is_used_and_not_stopped(server: ToxiproxyServer) -> None:
    """Only the proxies that were made here are removed from it."""
    theirs = {"name": "theirs", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:1"}
    server.api.post("/proxies", theirs)
    try:
        with ToxiproxyServer(url=server.url) as given, wires_on(given) as wires:
            exchange(*wires.connect(wires.link()))
            assert given.version == server.version
            assert len(server.api.get("/proxies")) == 2
        assert list(server.api.get("/proxies")) == ["theirs"]
    finally:
        server.api.delete("/proxies/theirs")


def test_runs_that_share_a_server_use_the_same_names(server: ToxiproxyServer) -> None:
    """Two runs may both have a link `upstream` on one server."""
    with ToxiproxyServer(url=server.url) as one, ToxiproxyServer(url=server.url) as other:
        ToxiproxyLink(one, "upstream", "127.0.0.1:1")
        ToxiproxyLink(other, "upstream", "127.0.0.1:1")


def test_a_given_server_that_does_not_answer_is_one_sentence() -> None:
    """The error names the URL."""
    with toxiproxy_server.reserve_port() as reserved:
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(ToxiproxyUnavailable, match=f"at {url}"), ToxiproxyServer(url=url):
            pass


def test_another_port_is_used_if_one_is_taken(server: ToxiproxyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another Toxiproxy that has the port is not used."""
    source = startable_or_skip()
    reserve = toxiproxy_server.reserve_port
    asked = []

    @contextlib.contextmanager
    def taken_at_first() -> Iterator[object]:
        asked.append(1)
        if len(asked) == 1:
            yield SimpleNamespace(getsockname=lambda: ("127.0.0.1", server.api.port), close=lambda: None)
        else:
            with reserve() as free:
                yield free

    monkeypatch.setattr(toxiproxy_server, "reserve_port", taken_at_first)
    with source.server() as ours:
        assert len(asked) == 2
        assert ours.url != server.url
    assert server.api.get("/version")


@pytest.mark.parametrize("script", ["echo no such flag; exit 3", "echo no such flag; kill -9 $$"])
def test_a_binary_that_is_not_a_toxiproxy_shows_its_output(tmp_path: Path, script: str) -> None:
    """A program that ends at once is an error with its status and its output."""
    binary = tmp_path / "impostor"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    with (
        pytest.raises(ToxiproxyUnavailable, match=r"impostor ended with status (3|137).*\n.*no such flag"),
        ToxiproxyServer(binary=str(binary)),
    ):
        pass


def test_the_log_goes_to_a_given_file(tmp_path: Path) -> None:
    """The output of a started server is appended to the file."""
    log = tmp_path / "toxiproxy.log"
    log.write_text("earlier: address already in use\n")
    source = startable_or_skip()
    with source.server(log):
        pass
    assert log.read_text().startswith("earlier")
    assert "Starting Toxiproxy" in log.read_text()


def test_an_http_proxy_of_the_environment_is_not_used(server: ToxiproxyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to loopback ignore HTTP_PROXY and ALL_PROXY."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert server.api.get("/version") == {"version": server.version}


def test_a_server_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is stopped (SIGSTOP) does not react to SIGTERM; SIGKILL ends it."""
    monkeypatch.setattr(toxiproxy_process, "_STOP_SECONDS", 0.3)
    with startable_or_skip().server() as server:
        processes = family(server.pid)
        for process in processes[1:]:
            os.kill(process.pid, signal.SIGSTOP)
    assert eventually(lambda: ended(processes))
