"""The embedded Toxiproxy as a process: its flags, its metrics, and its end."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.reconnect_harness.toxiproxy.embedded.client import Client
from tests.reconnect_harness.toxiproxy.wires import PATIENCE, eventually, exchange

COMMAND = [sys.executable, "-P", "-m", "reconnect_harness.toxiproxy.embedded"]


class Running(NamedTuple):
    """A running server."""

    process: subprocess.Popen[str]
    client: Client


@contextlib.contextmanager
def running(*flags: str) -> Iterator[Running]:
    """Start a server on a port that it chooses; end it, and check that its status is 0."""
    command = [*COMMAND, "-host", "127.0.0.1", "-port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)", ready)
            assert found, ready + process.stdout.read()
            with contextlib.closing(Client("127.0.0.1", int(found[1]))) as client:
                yield Running(process, client)
        finally:
            process.terminate()
            process.wait(PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_with_status_0(number: int) -> None:
    """Connections of the API and of proxies are closed, with any toxics on them."""
    with running() as (process, client):
        proxy = client.proxy()
        ends = [proxy.connect(), proxy.connect()]
        for kind in ("latency", "bandwidth", "slow_close", "timeout", "slicer"):
            proxy.add(kind, "upstream")
        for one, other in ends:
            one.sendall(bytes(100_000))
            other.sendall(b"x")
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert process.stdout is not None
        said = process.stdout.read()
        assert "shutdown started" in said
        assert "Traceback" not in said


def test_it_logs_no_errors_and_leaks_no_socket() -> None:
    """After hundreds of connections that ended in every way it has as many open files as before."""
    with running() as (process, client):
        proxy = client.proxy()
        server = psutil.Process(process.pid)
        before = server.num_fds()
        for number in range(200):
            if number % 25 == 0:
                kind = ("latency", "timeout", "slicer", "reset_peer", "limit_data", "noop")[number // 25 % 6]
                toxic = proxy.add(
                    kind, ("upstream", "downstream")[number % 2], **{} if kind != "slicer" else {"average_size": 9}
                )
            one, other = proxy.connect()
            one.sendall(b"hello")
            if number % 3 == 0:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            (one if number % 2 else other).close()
            if number % 25 == 24:
                proxy.remove(toxic)
                proxy.enable(False)
                proxy.enable(True)
        exchange(*proxy.connect())
        proxy.enable(False)
        proxy.enable(True)
        assert eventually(lambda: server.num_fds() <= before)
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert process.stdout is not None
        assert not re.search("Traceback|ERROR", process.stdout.read())


def test_a_proxy_is_disabled_while_it_dials() -> None:
    """Disabling closes the client and does not wait for an upstream that does not answer."""
    with running() as (_, client), socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        proxy = client.proxy()
        # A full backlog answers no more SYNs.
        address = busy.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        client("POST", proxy.path, {"upstream": f"{address[0]}:{address[1]}"})
        proxy.listen = client("GET", proxy.path).json["listen"]
        waiting = proxy.dial()
        proxy.enable(False)
        assert waiting.recv(1) == b""
        for filler in fillers:
            filler.close()


def test_a_port_that_is_taken_is_one_line_and_status_1() -> None:
    """It says which address is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [*COMMAND, "--host", "127.0.0.1", "--port", str(port)], capture_output=True, text=True, timeout=PATIENCE
        )
    assert ended.returncode == 1
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert line.endswith(f"listen tcp 127.0.0.1:{port}: bind: address already in use")


def test_an_unknown_host_is_one_line_and_status_1() -> None:
    """As the original says it."""
    command = [*COMMAND, "--host", "nowhere.invalid", "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 1
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert line.endswith("listen tcp: lookup nowhere.invalid: no such host")


@pytest.mark.parametrize("flag", ["-version", "--version"])
def test_it_prints_its_version(flag: str) -> None:
    """Flags may have one dash, as in Go, or two."""
    said = subprocess.run([*COMMAND, flag], capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert said == "toxiproxy-server version 2.12.0 (embedded)\n"


def _metrics(client: Client) -> dict[str, float]:
    """Return the metrics that the server shows, by name and labels."""
    answer = client("GET", "/metrics")
    assert (answer.status, answer.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = text_string_to_metric_families(answer.body)
    samples = (sample for family in families for sample in family.samples)
    return {f"{sample.name}{sorted(sample.labels.items())}": sample.value for sample in samples}


@pytest.mark.parametrize("flag", ["-proxy-metrics", "--proxy-metrics", "-proxy-metrics=true"])
def test_the_bytes_of_proxies_are_counted(flag: str) -> None:
    """Each direction by itself, received and sent; what a toxic drops is received, and not sent."""
    with running(flag) as (_, client):
        proxy = client.proxy()
        one, other = proxy.connect()
        one.sendall(b"hello")
        assert other.recv(10) == b"hello"
        proxy.add("timeout", "downstream")
        other.sendall(b"dropped")

        def counted(what: str, direction: str) -> float:
            labels = {"direction": direction, "listener": proxy.listen, "proxy": "proxy1", "upstream": proxy.upstream}
            return _metrics(client)[f"toxiproxy_proxy_{what}_bytes_total{sorted(labels.items())}"]

        assert eventually(lambda: counted("received", "downstream") == 7)
        assert counted("sent", "downstream") == 0
        assert [counted(what, "upstream") for what in ("received", "sent")] == [5, 5]


def test_the_runtime_is_shown() -> None:
    """The process and Python; without the other flag no bytes of proxies."""
    with running("-runtime-metrics") as (process, client):
        client.proxy().connect()
        found = _metrics(client)
        assert found["process_open_fds[]"] >= 5
        assert any(name.startswith("python_info") for name in found)
        assert not any(name.startswith("toxiproxy_proxy") for name in found)
        assert process.poll() is None


@pytest.mark.parametrize("flags", [(), ("-proxy-metrics=false", "-runtime-metrics=false")])
def test_without_a_flag_there_are_no_metrics(flags: tuple[str, ...]) -> None:
    """As in the original."""
    with running(*flags) as (_, client):
        assert client("GET", "/metrics").status == 404


def test_an_unknown_flag_is_named() -> None:
    """With status 2, as in the original."""
    ended = subprocess.run([*COMMAND, "-no-such-flag"], capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert "--no-such-flag" in ended.stderr


@pytest.mark.parametrize("flag", ["-h", "-help", "--help"])
def test_it_prints_its_flags(flag: str) -> None:
    """All flags of the original."""
    said = subprocess.run([*COMMAND, flag], capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    for name in ("host", "port", "config", "seed", "version", "proxy-metrics", "runtime-metrics"):
        assert re.search(rf"--{name}\b", said), name


def test_the_proxies_of_a_config_file_are_made_at_the_start(tmp_path: Path) -> None:
    """In the form of /populate."""
    config = tmp_path / "toxiproxy.json"
    config.write_text(json.dumps([{"name": "web", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:1"}]))
    with running("-config", str(config)) as (_, client):
        assert eventually(lambda: list(client("GET", "/proxies").json) == ["web"])


@pytest.mark.parametrize("text", [None, "[{]"])
def test_a_mistake_in_a_config_file_is_logged(tmp_path: Path, text: str | None) -> None:
    """As in the original the server starts anyway."""
    config = tmp_path / "toxiproxy.json"
    if text is not None:
        config.write_text(text)
    with running("-config", str(config)) as (process, client):
        assert client("GET", "/proxies").json == {}
        process.terminate()
        assert process.stdout is not None
        assert f"{config}: " in process.stdout.read()
