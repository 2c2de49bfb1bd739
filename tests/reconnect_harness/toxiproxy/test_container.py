"""`--toxiproxy docker`: a Toxiproxy in a container works as any other, and is always removed at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconnect_harness.containers.engine import Engine
from reconnect_harness.toxiproxy import server as toxiproxy_server
from reconnect_harness.toxiproxy.server import ToxiproxyServer, ToxiproxyUnavailable
from tests.reconnect_harness.containers.owned import owned_by
from tests.reconnect_harness.toxiproxy.wires import eventually, exchange, wires_on

OWNER = """
import sys
from reconnect_harness.toxiproxy.find import find_toxiproxy
with find_toxiproxy("docker:" + sys.argv[1]).server() as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


def test_it_carries_and_is_removed(engine: Engine, toxiproxy_image: str) -> None:
    """It describes itself, its links carry data and can be cut, and nothing of it is left."""
    with ToxiproxyServer(image=toxiproxy_image, origin="from --toxiproxy") as server, wires_on(server) as wires:
        what = f"(real, the image {toxiproxy_image} in docker, from --toxiproxy)"
        assert server.describe() == f"Toxiproxy {server.version} {what}"
        assert server.api.host == "127.0.0.1"
        link = wires.link()
        client, upstream = wires.connect(link)
        exchange(client, upstream)
        link.down()
        assert client.recv(1) == b""
        assert len(owned_by(engine, os.getpid(), toxiproxy_image)) == 1
    assert owned_by(engine, os.getpid(), toxiproxy_image) == []


def test_two_at_once_are_independent(engine: Engine, toxiproxy_image: str) -> None:
    """As under pytest-xdist: each has its own port, and neither removes the other."""
    with ToxiproxyServer(image=toxiproxy_image) as one, ToxiproxyServer(image=toxiproxy_image) as other:
        assert one.url != other.url
        assert one.api.get("/version") == other.api.get("/version")
    assert owned_by(engine, os.getpid(), toxiproxy_image) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_owner_is_killed(engine: Engine, toxiproxy_image: str, number: signal.Signals) -> None:
    """Also by SIGKILL: the container is removed."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, toxiproxy_image],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline().startswith(b"http://127.0.0.1:")
        assert len(owned_by(engine, owner.pid)) == 1
        owner.send_signal(number)
    assert owner.returncode != 0
    assert eventually(lambda: owned_by(engine, owner.pid) == [])


def test_another_port_is_used_if_one_is_taken(
    engine: Engine, toxiproxy_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Toxiproxy that has the port is not used."""
    reserve = toxiproxy_server.reserve_port
    with ToxiproxyServer(image=toxiproxy_image) as theirs:
        taken = SimpleNamespace(getsockname=lambda: ("127.0.0.1", theirs.api.port))
        given = []

        class Reserve:
            """Returns the port that is taken first, and then a free one."""

            def __enter__(self) -> object:
                given.append(1)
                self._real = reserve()
                free = self._real.__enter__()
                return taken if len(given) == 1 else free

            def __exit__(self, *error: object) -> None:
                self._real.__exit__(None, None, None)

        monkeypatch.setattr(toxiproxy_server, "reserve_port", Reserve)
        with ToxiproxyServer(image=toxiproxy_image) as ours:
            assert len(given) == 2
            assert ours.url != theirs.url
            assert len(owned_by(engine, os.getpid(), toxiproxy_image)) == 2


def test_an_image_that_is_not_a_toxiproxy_shows_its_output(engine: Engine, harness_image: str) -> None:
    """A container that ends at once is an error with the image, its status and its output; and it is removed."""
    # Its command is another program, which has no option -host.
    expected = rf"the image {harness_image} in docker ended with status 2.*\n.*No such option"
    with pytest.raises(ToxiproxyUnavailable, match=expected), ToxiproxyServer(image=harness_image):
        pass
    assert owned_by(engine, os.getpid(), harness_image) == []


def test_its_output_goes_to_a_given_file(engine: Engine, toxiproxy_image: str, tmp_path: Path) -> None:
    """As the output of a process does."""
    log = tmp_path / "toxiproxy.log"
    with ToxiproxyServer(image=toxiproxy_image, log=log):
        pass
    assert "Starting Toxiproxy" in log.read_text()
