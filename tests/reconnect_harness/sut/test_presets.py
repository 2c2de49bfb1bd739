"""Presets: each starts the real program, relays, is stopped with all its processes, and says what is not installed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from reconnect_harness.processes.child import ProcessFailed, Warden
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.sut.base import ListeningSystem, NotInstalled, SutSetup
from reconnect_harness.sut.choose import PRESETS
from reconnect_harness.sut.presets import installed
from reconnect_harness.sut.presets.fastify import cached_modules
from reconnect_harness.sut.presets.haproxy import Haproxy
from reconnect_harness.sut.presets.nginx import Nginx
from tests.reconnect_harness.leftovers import family, survivors
from tests.reconnect_harness.waiting import PATIENCE, until


@pytest.fixture
def warden() -> Iterator[Warden]:
    """A warden."""
    with Warden() as made:
        yield made


@pytest.fixture
def mine() -> Scenario:
    """A scenario; presets do not use its options."""
    return parse_scenario(
        {
            "name": "mine",
            "summary": "It holds.",
            "upstream": {"kind": "record"},
            "clients": {"kind": "plain", "send": "1/s", "for": "1s"},
            "expect": {"lost": 0},
        },
        "test",
    )


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """The address of a server that sends the path and the id of a client, and then echoes."""

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        await connection.send(f"{connection.request.path} {connection.request.headers.get('X-Connection-Id')}")
        # The client has closed or lost the connection.
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async with serve(handle, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def _preset(name: str, mine: Scenario) -> ListeningSystem:
    preset = PRESETS[name]()
    try:
        preset.check(mine)
    except NotInstalled as missing:
        pytest.skip(str(missing))
    if name == "fastify" and not cached_modules().is_dir():
        pytest.skip("the fastify preset has not been installed yet: run `reconnect-harness run ... --sut fastify` once")
    return preset


@pytest.mark.parametrize("name", PRESETS)
async def test_a_preset_relays_both_types_of_message(
    tmp_path: Path, warden: Warden, mine: Scenario, upstream: str, name: str
) -> None:
    """With the path and the id of the session, by which an upstream recognizes a client that reconnects."""
    preset = _preset(name, mine)
    try:
        url = await preset.start([upstream], SutSetup(mine, tmp_path, warden))
        async with (
            asyncio.timeout(PATIENCE),
            connect(
                f"{url}room?seat=7", additional_headers={"X-Connection-Id": "0123456789abcdef"}, proxy=None
            ) as client,
        ):
            assert await client.recv() == "/room?seat=7 0123456789abcdef"
            for message in ("grüße", b"\x00\xff" * 40_000):
                await client.send(message)
                assert await client.recv() == message
    finally:
        await preset.stop()


@pytest.mark.parametrize("name", PRESETS)
async def test_a_stopped_preset_leaves_no_process(
    tmp_path: Path, warden: Warden, mine: Scenario, upstream: str, name: str
) -> None:
    """Its workers are in its process group, and end with it."""
    preset = _preset(name, mine)
    try:
        await preset.start([upstream], SutSetup(mine, tmp_path, warden))
        assert preset.process is not None
        started = family(preset.process.pid)
    finally:
        await preset.stop()
    assert survivors(started) == []


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
async def test_the_workers_of_a_killed_preset_end(
    tmp_path: Path, warden: Warden, mine: Scenario, upstream: str, name: str
) -> None:
    """As the fault `kill` does it."""
    preset = _preset(name, mine)
    try:
        await preset.start([upstream], SutSetup(mine, tmp_path, warden))
        assert preset.process is not None
        started = family(preset.process.pid)
        os.killpg(preset.process.pid, signal.SIGKILL)
        assert survivors(started) == []
    finally:
        await preset.stop()


@pytest.mark.parametrize(
    ("name", "module", "complaint"),
    [
        ("nginx", "reconnect_harness.sut.presets.nginx", "unknown directive"),
        ("haproxy", "reconnect_harness.sut.presets.haproxy", "unknown keyword"),
    ],
)
async def test_a_preset_that_does_not_start_shows_its_last_lines(
    tmp_path: Path,
    warden: Warden,
    mine: Scenario,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: str,
    complaint: str,
) -> None:
    """With the program's error about its configuration."""
    preset = _preset(name, mine)
    monkeypatch.setattr(f"{module}.config", lambda listen, upstream: "nonsense on;\n")
    try:
        with pytest.raises(ProcessFailed, match=rf"did not start: it ended with status 1(?s:.)*{complaint}"):
            await preset.start(["127.0.0.1:1"], SutSetup(mine, tmp_path, warden))
    finally:
        await preset.stop()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("nginx", "--sut nginx needs nginx, which is not installed: install it with"),
        ("haproxy", "--sut haproxy needs haproxy, which is not installed: install it with"),
        ("fastify", "--sut fastify needs node, which is not installed: install Node.js"),
    ],
)
def test_a_preset_that_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, mine: Scenario, name: str, advice: str
) -> None:
    """Before anything is started; its description says so too."""
    monkeypatch.setattr(installed, "find", lambda program: None)
    preset = PRESETS[name]()
    with pytest.raises(NotInstalled, match=advice):
        preset.check(mine)
    assert "not installed" in preset.describe()


def test_fastify_needs_npm_only_until_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mine: Scenario
) -> None:
    """Once the plugin is in the cache, Node is enough."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(installed, "find", lambda program: "/bin/node" if program == "node" else None)
    preset = PRESETS["fastify"]()
    with pytest.raises(NotInstalled, match="needs npm, which is not installed"):
        preset.check(mine)
    cached_modules().mkdir(parents=True)
    preset.check(mine)


async def test_an_installation_that_fails_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, warden: Warden, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next run tries again, and the last lines of npm are shown."""
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no network\nexit 7\n")
    npm.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(installed, "find", lambda program: str(npm))
    with pytest.raises(ProcessFailed, match=r"could not install @fastify/http-proxy(?s:.)*status 7(?s:.)*no network"):
        await PRESETS["fastify"]().prepare(tmp_path, warden)
    assert "installing @fastify/http-proxy" in capsys.readouterr().err
    assert list(cached_modules().parent.iterdir()) == []


async def test_an_installation_that_is_cancelled_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, warden: Warden
) -> None:
    """Neither npm nor a part of the installation."""
    npm = tmp_path / "npm"
    npm.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid.part && mv {tmp_path}/pid.part {tmp_path}/pid\nexec sleep 600\n"
    )
    npm.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(installed, "find", lambda program: str(npm))
    preparing = asyncio.create_task(PRESETS["fastify"]().prepare(tmp_path, warden))

    async def started() -> bool:
        return (tmp_path / "pid").exists()

    await until(started)
    process = psutil.Process(int((tmp_path / "pid").read_text()))
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    assert survivors([process]) == []
    assert list(cached_modules().parent.iterdir()) == []


@pytest.mark.parametrize(
    ("preset", "file", "lines"),
    [
        (Nginx, "nginx.conf", ["listen 127.0.0.1:8;", "proxy_pass http://127.0.0.1:9;", "default upgrade;"]),
        (Haproxy, "haproxy.cfg", ["bind 127.0.0.1:8", "server u1 127.0.0.1:9", "timeout tunnel 1h"]),
    ],
)
def test_the_configuration_is_in_the_folder_of_the_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    preset: Callable[[], ListeningSystem],
    file: str,
    lines: list[str],
) -> None:
    """Complete, with the addresses, so that a reader can check that it is fair."""
    monkeypatch.setattr(installed, "find", lambda program: f"/bin/{program}")
    command = preset().command("127.0.0.1:8", "127.0.0.1:9", tmp_path)
    assert str(tmp_path / file) in command
    text = (tmp_path / file).read_text()
    for line in lines:
        assert line in text
    assert text.count("{") == text.count("}")
    assert "{{" not in text


def test_the_server_of_fastify_is_in_the_folder_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the settings of its reconnection."""
    monkeypatch.setattr(installed, "find", lambda program: f"/bin/{program}")
    command = PRESETS["fastify"]().command("127.0.0.1:8", "127.0.0.1:9", tmp_path)
    assert command == ["/bin/node", str(tmp_path / "fastify.js"), "127.0.0.1:8", "127.0.0.1:9", str(cached_modules())]
    assert "reconnectOnClose: true" in (tmp_path / "fastify.js").read_text()


def test_a_version_is_what_the_program_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the reason why it is not known."""
    shell = shutil.which("sh")
    monkeypatch.setattr(installed, "find", lambda program: shell)
    assert installed.version("sh", "-c", "echo nginx version: nginx/1.22.1 >&2") == "1.22.1"
    assert installed.version("sh", "-c", "exit 1") == "of unknown version"
