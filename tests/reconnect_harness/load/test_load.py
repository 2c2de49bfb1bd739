"""Headless load runs: lost messages are counted, and decide locust's exit code."""

from __future__ import annotations

import shlex
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from reconnect_harness.fixtures.servers import MockUpstream
from reconnect_harness.sut.presets import installed
from tests.certificates import Authority
from tests.reconnect_harness.load.locust_run import FLAP, echo_server, locust

RELAY = f"{shlex.quote(sys.executable)} {Path(__file__).parents[1] / 'broken_proxy.py'} {{listen}} {{upstream}}"


@pytest.fixture
def flap(tmp_path: Path) -> str:
    """A scenario file whose upstream flaps."""
    path = tmp_path / "short-flap.yaml"
    path.write_text(FLAP)
    return str(path)


def test_through_the_proxy_nothing_is_lost_while_the_upstream_flaps(flap: str) -> None:
    """Plain and aware users; each kind of request has a row of its own; the exit code is 0."""
    run = locust("-u", "40", "-r", "40", "-t", "6s", "--rate", "5/s", "--push", "2/s", "--scenario", flap)
    assert run.code == 0, run.text
    assert "verdict: valid: nothing lost" in run.text
    assert "faults: 4 of 4 took hold" in run.text
    assert run.total("sent") == run.total("answered") > 0
    assert run.total("drops") == 0
    for name in ("connect", "round trip", "push delay", "recovery"):
        assert run.requests(name) > 0, name


def test_through_nginx_plain_users_lose_and_aware_ones_resume(flap: str) -> None:
    """The same run: a user that is dropped with its upstream loses what was in flight."""
    if installed.find("nginx") is None:
        pytest.skip("nginx is not installed")
    run = locust(
        "-u", "40", "-r", "40", "-t", "6s", "--rate", "5/s", "--scenario", flap, "--sut", "nginx", "--settle", "2s"
    )
    assert run.code == 1, run.text
    assert run.total("lost") > 0
    assert run.total("drops") > 0
    assert run.requests("lost") == run.total("lost")
    assert run.requests("reconnect") > 0
    assert "verdict: INVALID" in run.text
    (aware,) = (line for line in run.text.splitlines() if line.startswith("AwareUser"))
    assert aware.split()[5] == "0", aware


def test_what_a_relay_does_wrong_is_a_failure_by_its_name() -> None:
    """Each flaw has a row of its own, and the exit code is 1."""
    harms = "--drop 37 --repeat 41 --swap 43 --truncate 47 --cross 31"
    options = ("--rate", "10/s", "--settle", "1s", "--sut", f"{RELAY} {harms}")
    run = locust("-u", "10", "-r", "10", "-t", "4s", *options, "AwareUser")
    assert run.code == 1, run.text
    for name in ("lost", "repeated", "reordered", "damaged", "misdelivered"):
        assert run.requests(name) > 0, run.text
        assert f"WS {name}: Failure(" in run.text
    assert run.total("repeated") == run.requests("repeated")
    assert "verdict: INVALID: " in run.text


def test_in_a_reconnect_storm_all_users_are_dropped_and_reconnect() -> None:
    """Repeatedly, and nothing is lost; an ordinary user may get a message twice, which its guarantee allows."""
    options = ("--shape", "reconnect-storm", "--storm-every", "1s", "--rate", "5/s")
    run = locust("-u", "20", "-r", "20", "-t", "5s", *options)
    assert run.code == 0, run.text
    assert run.total("drops") == run.total("reconnects") == run.requests("reconnect") >= 20
    assert run.total("lost") == 0
    (aware,) = (line for line in run.text.splitlines() if line.startswith("AwareUser"))
    assert aware.split()[6] == "0", aware


def test_a_run_in_which_nothing_came_through_proves_nothing() -> None:
    """An upstream that ends each connection: the exit code is 1."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closing = threading.Thread(target=_close_all, args=(server,))
        closing.start()
        host = f"ws://127.0.0.1:{server.getsockname()[1]}"
        run = locust("-u", "2", "-r", "2", "-t", "2s", "--host", host, "--retry-for", "1s")
        server.shutdown(socket.SHUT_RDWR)
        closing.join()
    assert run.code == 1, run.text
    assert "no message came through" in run.text
    assert run.requests("connect") > 0


def test_a_run_that_ends_before_its_faults_begin_proves_nothing(flap: str) -> None:
    """They wait until all users have started, also on a ramp, whose steps complete one by one."""
    run = locust("-u", "20", "-r", "2", "-t", "3s", "--shape", "ramp", "--scenario", flap)
    assert run.code == 1, run.text
    assert "verdict: UNKNOWN" in run.text
    assert "the faults of short-flap have not begun: the run ended before all users were there" in run.text


def test_users_connect_from_the_given_addresses_to_the_given_path() -> None:
    """Own addresses in turn; a host with a path is used as it is."""
    seen: list[tuple[str, str]] = []
    with echo_server(seen) as port:
        host = f"ws://127.0.0.1:{port}/place?token=x"
        run = locust("-u", "4", "-r", "4", "-t", "4s", "--host", host, "--source-address", "127.0.0.2, 127.0.0.3")
    assert run.code == 0, run.text
    assert sorted(seen) == [("127.0.0.2", "/place?token=x")] * 2 + [("127.0.0.3", "/place?token=x")] * 2


def test_a_server_that_pushes_without_end_does_not_delay_the_end(mock_upstream: Callable[..., MockUpstream]) -> None:
    """A server that pushes without end and never answers: what was sent is lost."""
    server = mock_upstream("push", push="20/s")
    run = locust("-u", "2", "-r", "2", "-t", "4s", "--settle", "1s", "--host", server.url)
    assert run.code == 1, run.text
    assert run.total("lost") == run.total("sent") > 0
    assert run.total("pushed") > 0


def test_wrong_options_are_reported_in_a_line() -> None:
    """Before any user starts, with exit code 2."""
    unknown = locust("-u", "1", "-t", "1s", "--scenario", "upstream-flop")
    assert unknown.code == 2
    assert "locust: error: there is no scenario 'upstream-flop': did you mean upstream-flap?" in unknown.text
    both = locust("-u", "1", "-t", "1s", "--host", "ws://127.0.0.1:9", "--sut", "nginx")
    assert both.code == 2
    assert "--host and --sut exclude each other" in both.text


@pytest.mark.parametrize(
    ("option", "given", "sentence"),
    [
        ("--host", "ws://127.0.0.1:99999", "the host 'ws://127.0.0.1:99999' has no port of 0 to 65535"),
        ("--host", "ws://[::1", "the host 'ws://[::1' is not a URL: Invalid IPv6 URL"),
        ("--host", "ws://127.0.0.1:1/", "the host 'ws://127.0.0.1:1/' cannot be reached: connection refused"),
        ("--host", "ws://no.such.invalid:80", "'ws://no.such.invalid:80' cannot be reached: name or service not known"),
        ("--source-address", "127.0.0.2,here", "'here' is not an address: write 10.0.0.1, or several: "),
        ("--ca", "nowhere.pem", "'nowhere.pem' is not a file of PEM certificates: No such file or directory"),
    ],
)
def test_options_for_connecting_are_checked_first(option: str, given: str, sentence: str) -> None:
    """A wrong port, address or file of certificates."""
    wrong = locust("-u", "1", "-t", "1s", option, given)
    assert wrong.code == 2
    assert sentence in wrong.text
    assert "Traceback" not in wrong.text


@pytest.mark.parametrize("scenario", [(), ("--scenario", "client-flap")])
def test_a_host_with_a_certificate_that_is_not_trusted_is_refused_in_a_line(
    stranger: Authority, scenario: tuple[str, ...]
) -> None:
    """Before any user starts, with or without faults."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"wss://127.0.0.1:{listener.getsockname()[1]}"
        accepting = threading.Thread(target=_shake_hands, args=(listener, stranger.server()))
        accepting.start()
        wrong = locust("-u", "1", "-t", "1s", "--host", host, *scenario)
        accepting.join()
    assert wrong.code == 2, wrong.text
    assert f"the host {host!r} cannot be reached: " in wrong.text
    assert "certificate verify failed" in wrong.text.lower()


def _close_all(listener: socket.socket) -> None:
    """Close each connection, until the listener is shut down."""
    with suppress(OSError):
        while True:
            listener.accept()[0].close()


def _shake_hands(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Accept one connection; its client refuses the certificate."""
    connection, _ = listener.accept()
    with connection, pytest.raises(OSError), context.wrap_socket(connection, server_side=True):
        pass
