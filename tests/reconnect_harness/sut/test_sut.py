"""Systems under test: what `--sut` may be, and how each is started."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.processes.certificates import Certificates, Encryption
from reconnect_harness.processes.child import ProcessFailed, Warden
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.sut import base as sut
from reconnect_harness.sut.base import Command, Direct, GivenUrl, SutSetup
from reconnect_harness.sut.choose import system_under_test
from reconnect_harness.sut.own_proxy import OwnProxy, flags

#: A program that listens on the port it is given and prints its other arguments.
LISTENER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(*sys.argv[2:], flush=True)
time.sleep(600)
"""


@pytest.fixture
def warden() -> Iterator[Warden]:
    """A warden."""
    with Warden() as made:
        yield made


def _scenario(**changes: Any) -> Scenario:
    given = {
        "name": "mine",
        "summary": "It holds.",
        "upstream": {"kind": "record"},
        "clients": {"kind": "plain", "send": "1/s", "for": "1s"},
        "expect": {"lost": 0},
    }
    return parse_scenario({**given, **changes}, "test")


def test_the_option_chooses_the_system() -> None:
    """No option, a word, a URL, or a command with fields."""
    assert isinstance(system_under_test(None), OwnProxy)
    assert isinstance(system_under_test("direct"), Direct)
    assert isinstance(system_under_test("ws://127.0.0.1:9/path"), GivenUrl)
    assert isinstance(system_under_test("my-proxy -p {listen_port} -u {upstream}"), Command)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("my-proxy --fast", "does not say where to listen"),
        ("my-proxy {listen}", "does not say where to connect"),
        ("my-proxy 'oops {listen} {upstream}", "is not a command: No closing quotation"),
        ("http://127.0.0.1:80", "is not of the form ws://HOST:PORT/path"),
        ("ws://", "is not of the form ws://HOST:PORT/path"),
        ("compose:compose.yaml", "is not of the form compose:FILE#SERVICE"),
        ("compose:no-such-file.yaml#chat", "there is no file no-such-file.yaml"),
    ],
)
def test_an_unknown_option_is_refused(option: str, complaint: str) -> None:
    """Before anything is started; the error says what is allowed."""
    with pytest.raises(ScenarioError, match=complaint):
        system_under_test(option)


async def test_a_command_is_filled_in_and_waited_for(tmp_path: Path, warden: Warden) -> None:
    """Other braces are not changed; no shell is used."""
    (tmp_path / "listener.py").write_text(LISTENER)
    template = (
        f"{sys.executable} {tmp_path / 'listener.py'} {{listen_port}} -u={{upstream}} {{upstream_port}} {{x}} '$HOME;'"
    )
    system = system_under_test(template)
    url = await system.start(["127.0.0.1:77"], SutSetup(_scenario(), tmp_path, warden))
    assert system.process is not None
    try:
        host, _, port = url.removeprefix("ws://").rstrip("/").rpartition(":")
        with socket.create_connection((host, int(port))):
            assert system.process.last_lines().strip() == "-u=127.0.0.1:77 77 {x} $HOME;"
    finally:
        await system.stop()
    assert system.process.returncode is not None


async def test_a_command_whose_port_was_taken_gets_another(
    tmp_path: Path, warden: Warden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may take a port that was free; the command is then started again."""
    (tmp_path / "listener.py").write_text(LISTENER)
    system = system_under_test(f"{sys.executable} {tmp_path / 'listener.py'} {{listen_port}} {{upstream}}")
    find_free_port = sut.free_port
    # Bound and not listening: no other program can take the port, and none answers there.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        first = iter([taken.getsockname()[1]])
        monkeypatch.setattr(sut, "free_port", lambda: next(first, None) or find_free_port())
        try:
            url = await system.start(["127.0.0.1:77"], SutSetup(_scenario(), tmp_path, warden))
        finally:
            await system.stop()
        assert str(taken.getsockname()[1]) not in url
    assert "in use" in (tmp_path / "sut.log").read_text()


@pytest.mark.parametrize("given", ["32768 60999", "10001 60999", "1024 65535", None])
def test_a_free_port_is_not_an_ephemeral_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """If the system leaves any others; where the system does not say, by RFC 6335."""
    file = tmp_path / "ip_local_port_range"
    monkeypatch.setattr(sut, "_EPHEMERAL_RANGE", file)
    if given is not None:
        file.write_text(given.replace(" ", "\t") + "\n")
    first_given = int(given.split()[0]) if given else 49152
    ports = [sut.free_port() for _ in range(10)]
    assert all(port < first_given for port in ports) is (first_given > 10_000)
    assert all(port >= 10_000 for port in ports)


def test_a_port_that_is_taken_is_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no port is free, that is an error."""
    monkeypatch.setattr(sut, "_EPHEMERAL_RANGE", tmp_path / "ip_local_port_range")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(sut, "_LOWEST_PORT", port)
        (tmp_path / "ip_local_port_range").write_text(f"{port + 1}\t{port + 1}\n")
        with pytest.raises(ProcessFailed, match=rf"no port from {port} to {port} is free on 127\.0\.0\.1"):
            sut.free_port()


async def test_a_command_that_never_listens_is_an_error(
    tmp_path: Path, warden: Warden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its output so far."""
    monkeypatch.setattr(sut, "START_SECONDS", 0.5)
    program = "import time; print('thinking', flush=True); time.sleep(600)"
    system = system_under_test(f'{sys.executable} -c "{program}" {{listen}} {{upstream}}')
    try:
        with pytest.raises(ProcessFailed, match=r"does not listen after 0.5 s(?s:.)*thinking"):
            await system.start(["127.0.0.1:77"], SutSetup(_scenario(), tmp_path, warden))
    finally:
        await system.stop()


async def test_the_own_proxy_gets_the_options_of_the_scenario(tmp_path: Path, warden: Warden) -> None:
    """It chooses and prints its port; the log has its options."""
    system = system_under_test(None)
    try:
        url = await system.start(
            ["127.0.0.1:77", "127.0.0.1:78"],
            SutSetup(_scenario(proxy={"mode": "receiver", "accept_when_down": False}), tmp_path, warden),
        )
        log = (tmp_path / "sut.log").read_text()
    finally:
        await system.stop()
    assert f"listening on {url.rstrip('/')} -> ws://127.0.0.1:77, ws://127.0.0.1:78 (mode receiver)" in log


@pytest.mark.parametrize(
    ("option", "side", "taken"),
    [
        (None, "both", True),
        ("direct", "both", True),
        ("direct", "upstream", False),
        ("nginx", "both", False),
        ("ws://127.0.0.1:9/path", "client", False),
        ("proxy {listen} {upstream}", "client", False),
        ("proxy {listen} {upstream} {tls_cert} {tls_key}", "client", True),
        ("proxy {listen} {upstream} {tls_cert} {tls_key}", "both", False),
        ("proxy {listen} {upstream} {upstream_ca}", "upstream", True),
        ("proxy {listen} {upstream} {tls_cert} {tls_key} {upstream_ca}", "both", True),
    ],
)
def test_a_system_that_cannot_use_tls_is_refused(option: str | None, side: str, taken: bool) -> None:
    """A scenario with TLS needs a system that takes certificates; the error says what is missing."""
    system, chosen = system_under_test(option), _scenario(tls=side)
    if taken:
        system.check(chosen)
    else:
        with pytest.raises(ScenarioError, match=r"scenario mine (needs a system under test that speaks|uses) TLS"):
            system.check(chosen)


async def test_a_command_gets_the_files_of_tls(tmp_path: Path, warden: Warden) -> None:
    """In its fields for them; clients use wss:// only if the client side has TLS."""
    (tmp_path / "listener.py").write_text(LISTENER)
    places = "{listen_port} {upstream} {tls_cert} {tls_key} {upstream_ca}"
    system = system_under_test(f"{sys.executable} {tmp_path / 'listener.py'} {places}")
    files = Certificates(Path("/c.pem"), Path("/k.pem"), Path("/ca.pem"))
    encryption = Encryption(files, client=True, upstream=False)
    url = await system.start(["127.0.0.1:77"], SutSetup(_scenario(tls="client"), tmp_path, warden, encryption))
    try:
        assert url.startswith("wss://127.0.0.1:")
        assert system.process is not None
        assert system.process.last_lines().strip() == "127.0.0.1:77 /c.pem /k.pem /ca.pem"
    finally:
        await system.stop()


def test_options_become_flags() -> None:
    """Underscores are dashes, true and false are two flags, a list is separated by commas."""
    options = {"retry_for": "30s", "accept_when_down": False, "bind": ["cookie", "authorization"], "max_queue": 1024}
    assert flags(options) == [
        "--retry-for",
        "30s",
        "--no-accept-when-down",
        "--bind",
        "cookie,authorization",
        "--max-queue",
        "1024",
    ]
