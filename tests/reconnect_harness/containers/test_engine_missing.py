"""The errors when there is no engine: one sentence for each cause, and what works without it."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconnect_harness.containers.engine import EngineUnavailable, connect
from reconnect_harness.run.compare import Comparer
from reconnect_harness.scenario import find
from reconnect_harness.scenario.find import shipped_scenarios
from reconnect_harness.toxiproxy.server import ToxiproxyServer, ToxiproxyUnavailable
from tests.reconnect_harness.test_plugin import folder

__all__ = ["folder"]

pytest_plugins = ["pytester"]

WITHOUT = "Everything else works without it: .*docs/containers.md"

STORY = """
name: boxed
summary: A container is killed.
upstream: {image: localhost/none, command: "serve {port}"}
clients: {kind: plain, send: 10/s, for: 1s}
faults: [{at: 500ms, container: upstream, do: kill}]
expect: {lost: report, client_disconnects: 0}
"""


@pytest.fixture
def socket_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a socket at which there is no engine."""
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    return path


@pytest.fixture
def stranger() -> Iterator[None]:
    """Run as another user than root, where this is root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the docker SDK the error says how to install the SDK."""
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(EngineUnavailable, match=f"package docker is not installed: pip install .*{WITHOUT}"):
        connect()


def test_no_socket(socket_path: Path) -> None:
    """Without a socket there is no engine: how to install one, and where else it may be."""
    with pytest.raises(
        EngineUnavailable, match=rf"no socket at unix://{socket_path}\. .*dockerd.*DOCKER_HOST.*{WITHOUT}"
    ):
        connect()


def test_no_listener(socket_path: Path) -> None:
    """If no process listens at the socket, the error says to start the engine."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path))
        with pytest.raises(EngineUnavailable, match=f"no container engine listens at .*: start it .*{WITHOUT}"):
            connect()


def test_not_allowed(socket_path: Path, stranger: None) -> None:
    """If the user may not connect to the socket, the error names the group docker."""
    # By root, so that the rights are those of the socket alone.
    euid = os.geteuid()
    os.seteuid(os.getuid())
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(socket_path))
        closed.listen()
        socket_path.chmod(0o000)
        for folder in (socket_path.parent, socket_path.parent.parent, socket_path.parent.parent.parent):
            folder.chmod(0o755)
        os.seteuid(euid)
        with pytest.raises(EngineUnavailable, match=f"permission denied.*group docker, or be root.*{WITHOUT}"):
            connect()


@pytest.mark.parametrize("host", ["nonsense", "ftp://127.0.0.1:1"])
def test_an_address_that_is_malformed(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the DOCKER_HOST and the SDK's reason."""
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineUnavailable, match=f"at {re.escape(host)} cannot be used: .*{WITHOUT}"):
        connect()


def test_a_toxiproxy_in_docker_says_so_too(socket_path: Path) -> None:
    """`--toxiproxy docker` fails with the same reason."""
    with (
        pytest.raises(
            ToxiproxyUnavailable, match=f"the image mine:1 in docker cannot be started: .*no socket.*{WITHOUT}"
        ),
        ToxiproxyServer(image="mine:1"),
    ):
        pass


def test_a_scenario_that_was_asked_for_fails(socket_path: Path, pytester: pytest.Pytester, folder: Path) -> None:
    """By name or by file it fails with the sentence, and no traceback; other scenarios of the run are run."""
    (folder / "boxed.yaml").write_text(STORY)
    done = pytester.runpytest_subprocess("--scenario=boxed.yaml", "--scenario=mine.yaml")
    assert done.ret == 1
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines(["scenario boxed has containers: there is no container engine: no socket at *"])
    done.stdout.no_fnmatch_line("*Traceback*")


def test_of_all_scenarios_those_with_containers_are_skipped(socket_path: Path, pytester: pytest.Pytester) -> None:
    """`--scenario=all` runs what can be run here, and shows why the rest was not."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    options = ("--toxiproxy=embedded", "-k", "container-paused or container-killed", "-rs")
    done = pytester.runpytest_subprocess("--scenario=all", *options)
    assert done.ret == 0
    done.assert_outcomes(skipped=2)
    done.stdout.fnmatch_lines(["SKIPPED * scenario container-* has containers: there is no container engine: *"])


def test_a_comparison_of_all_scenarios_skips_them(
    socket_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows say why they were not run, and the comparison is complete."""
    shipped = {"container-paused": shipped_scenarios()["container-paused"]}
    monkeypatch.setattr(find, "shipped_scenarios", lambda: shipped)
    compared = Comparer(["all"], ["direct"], out=tmp_path).run()
    assert compared.complete
    assert "no container engine" in compared.to_markdown("compare")
