"""`reconnect-proxy serve` as a user meets it: its one-line errors, and a real process from start to exit."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from reconnect_proxy.cli import main
from reconnect_proxy.config.model import Config
from reconnect_proxy.config.sources import flag_of

GUARD = "tests.reconnect_proxy.guard"


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """The URL of an upstream that refuses every connection: the port is bound, and there is no listener."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{bound.getsockname()[1]}"


class Serving:
    """A process of `reconnect-proxy serve` that listens. `stderr` collects its lines so far, the ready line first."""

    def __init__(self, process: Process, ready: str) -> None:
        assert process.stderr is not None
        self.process = process
        self.ready = ready
        self.url = ready.split()[2]
        self.stderr = process.stderr

    async def line_with(self, text: str) -> str:
        """Return the next line of stderr that holds `text`."""
        while line := (await self.stderr.readline()).decode():
            if text in line:
                return line.rstrip("\n")
        raise AssertionError(f"stderr ended without {text!r}")

    async def ends(self) -> tuple[int, str]:
        """Wait for the process, and return its exit code and the rest of its stderr."""
        rest = (await self.stderr.read()).decode()
        return await self.process.wait(), but_slow_turns(rest)


def but_slow_turns(text: str) -> str:
    """Leave out what asyncio's debug mode says of turns of the loop that took long: on a busy machine any may."""
    return re.sub(r"^.* WARNING asyncio: Executing .* took [0-9.]+ seconds\n", "", text, flags=re.MULTILINE)


async def start(*arguments: str) -> Process:
    """Start `reconnect-proxy` with `arguments`; warnings are errors there too."""
    command = (sys.executable, "-X", "dev", "-W", "error", "-m", "reconnect_proxy.cli", *arguments)
    return await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)


@asynccontextmanager
async def serving(*arguments: str) -> AsyncIterator[Serving]:
    """Run `reconnect-proxy serve` on a free port from its ready line on; it is gone at the end of the block."""
    process = await start("serve", "--listen", "127.0.0.1:0", *arguments)
    try:
        assert process.stderr is not None
        ready = ""
        while not ready:
            line = (await process.stderr.readline()).decode()
            assert line, "it ended before it was ready"
            ready = but_slow_turns(line).rstrip("\n")
        assert ready.startswith("listening on "), ready + (await process.stderr.read()).decode()
        yield Serving(process, ready)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(*arguments: str) -> tuple[int | None, str, str]:
    """Run `reconnect-proxy` to its end, and return its exit code, stdout and stderr."""
    process = await start(*arguments)
    try:
        stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, stdout.decode(), but_slow_turns(stderr.decode())


def get(url: str) -> tuple[int, str]:
    """Return the status and body of an HTTP answer."""
    try:
        with urllib.request.urlopen(url) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


# One line, exit 2.


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "Missing command. There are ready, serve; see --help"),
        (["serv"], "No such command 'serv'"),
        (["serv"], "There are ready, serve"),
        (["serve"], "no upstream: give --upstream ws://HOST:PORT, RECONNECT_PROXY_UPSTREAM, or upstream in the file"),
        (["serve", "--upstram", "ws://h:1"], "No such option '--upstram'. (Did you mean one of: '--upstream'"),
        (["serve", "--upstream"], "Option '--upstream' requires an argument."),
        (["serve", "--upstream", "ws://h:1", "more"], "Got unexpected extra argument (more)"),
        (["serve", "--upstream", "http://h:1"], "--upstream: 'http://h:1' is not the URL"),
        (["serve", "--upstream", "ws://h:1", "--tls-cert", "c"], "--tls-key: --tls-cert is given without --tls-key"),
        (
            ["serve", "--upstream", "ws://h:1", "--tls-cert", "/no", "--tls-key", "/no"],
            "--tls-cert: /no cannot be read",
        ),
        (["serve", "--upstream", "wss://h:1", "--upstream-ca", "/no"], "--upstream-ca: /no cannot be read"),
        (
            ["serve", "--upstream", "ws://h:1", "--workers", "0"],
            "--workers: '0' is not a number of workers: write 1 to",
        ),
        (["serve", "--upstream", "ws://h:1", "--upstream-ca", "c"], "--upstream-ca: it is for wss:// upstreams"),
        (["serve", "--upstream", "ws://h:1", "--mode", "x"], "--mode: 'x' is not a choice: write duplex, sender or"),
        (["serve", "--upstream", "ws://h:1", "--grace", "x"], "--grace: 'x' is not a duration: write it as 400ms"),
        (["serve", "--upstream", "ws://h:1", "--grace", "a\nb"], r"--grace: 'a\nb' is not a duration"),
        (["serve", "--upstream", "ws://h:1", "--dial", "start"], "--dial: 'start' is for receiver mode"),
        (["serve", "--upstream", "ws://h:1", "--listen", "9124"], "--listen: '9124' is not an address"),
        (["serve", "--upstream", "ws://h:1", "--hooks", "x"], "--hooks: 'x' does not name hooks: write MODULE:OBJECT"),
        (["serve", "--upstream", "ws://h:1", "--hooks", "no.such:X"], "--hooks: no.such cannot be imported: ModuleNot"),
        (
            ["serve", "--upstream", "ws://h:1", "--hooks", f"{GUARD}:X"],
            f"--hooks: {GUARD} has no X: write MODULE:OBJEC",
        ),
        (
            ["serve", "--upstream", "ws://h:1", "--hooks", f"{GUARD}:Session"],
            "Session'> is not a Hooks: give a subclass",
        ),
        (["serve", "--upstream", "ws://h:1", "--hooks", f"{GUARD}:Demanding"], "Demanding'> cannot be made: TypeError"),
        (["serve", "--config", "/nowhere.toml"], "--config /nowhere.toml: cannot read the file: No such file"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the option as it was given."""
    assert main(arguments) == 2
    stdout, stderr = capsys.readouterr()
    (written,) = stderr.splitlines()
    assert written.startswith("reconnect-proxy: ")
    assert line in written
    assert stdout == ""


def test_a_bad_variable_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the variable."""
    monkeypatch.setenv("RECONNECT_PROXY_RETRY_FOR", "ever")
    assert main(["serve", "--upstream", "ws://h:1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reconnect-proxy: RECONNECT_PROXY_RETRY_FOR: 'ever' is not a duration: write it as ")


def test_a_bad_key_of_the_file_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line names file and key, even where the key itself holds a line end."""
    (tmp_path / "proxy.toml").write_text('"retry\\nfor" = 1\n')
    assert main(["serve", "--upstream", "ws://h:1", "--config", str(tmp_path / "proxy.toml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"reconnect-proxy: {tmp_path}/proxy.toml: retry for: there is no such option; did you mean")


# What can be asked without starting anything.


def test_help_shows_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    """A reader of --help needs no other list."""
    assert main(["serve", "--help"]) == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for option in Config.model_fields:
        assert flag_of(option) + " " in text
    assert text.count("[default: ") == len(Config.model_fields) - 1
    for line in (
        "[required]",
        "Where clients connect. Port 0 takes any free port. [default: 127.0.0.1:9124]",
        "[default: 15s]",
        "[default: 16MiB]",
        "/sessions are served. [default: off]",
        "--mode duplex|sender|receiver",
        "--no-accept-when-down",
    ):
        assert line in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """It is that of the installed package."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"reconnect-proxy {version('reconnect-proxy')}\n"


# A real process.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_ready_line_and_a_clean_stop(refusing_url: str, number: signal.Signals) -> None:
    """The first line of stderr says where it listens and towards what; SIGTERM and SIGINT end it with 0, silently."""
    async with serving("--upstream", refusing_url, "--upstream", "ws://h:1/base", "--mode", "receiver") as proxy:
        ready = rf"listening on ws://127\.0\.0\.1:\d+ -> {re.escape(refusing_url)}, ws://h:1/base \(mode receiver\)"
        assert re.fullmatch(ready, proxy.ready)
        proxy.process.send_signal(number)
        code, rest = await proxy.ends()
    assert code == 0
    assert [line.split(" ", 2)[2] for line in rest.splitlines()] == [
        "INFO stopping drain=5.0 sessions=0",
        "INFO stopped sessions=0 undelivered_c2u=0 undelivered_u2c=0 uncertain_c2u=0 uncertain_u2c=0",
    ]


async def test_a_stop_waits_for_what_is_owed_and_a_second_one_does_not(refusing_url: str) -> None:
    """Messages keep the proxy in its drain, alive but not ready; a second signal ends it at once, clients with 1012."""
    options = ("--drain", "1h", "--retry-for", "1h", "--connect-timeout", "100ms", "--admin", "127.0.0.1:0")
    async with serving("--upstream", refusing_url, *options) as proxy:
        admin = (await proxy.line_with("admin listening")).partition("url=")[2]
        async with connect(proxy.url) as client:
            await client.send("owed to an upstream that never comes")
            await (await client.ping())
            proxy.process.send_signal(signal.SIGTERM)
            await proxy.line_with("stopping")
            status, body = await asyncio.to_thread(get, f"{admin}/readyz")
            assert (status, json.loads(body)["reason"]) == (503, "the proxy is being stopped")
            assert (await asyncio.to_thread(get, f"{admin}/healthz"))[0] == 200
            assert proxy.process.returncode is None
            proxy.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
        code, rest = await proxy.ends()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "service restart")
    assert code == 0
    assert "WARNING stopped sessions=1 undelivered_c2u=1 undelivered_u2c=0" in rest


async def test_events_are_logged_as_json_and_counted(refusing_url: str) -> None:
    """What happens to a session is on stderr, one object a line, and in the metrics."""
    options = ("--log-format", "json", "--admin", "127.0.0.1:0", "--retry-for", "0", "--connect-timeout", "1s")
    async with serving("--upstream", refusing_url, *options) as proxy:
        admin = json.loads(await proxy.line_with("admin listening"))["url"]
        async with connect(proxy.url, additional_headers={"X-Connection-Id": "abcdef0123456789abcdef"}) as client:
            with pytest.raises(ConnectionClosedError):
                await client.recv()
        ended = json.loads(await proxy.line_with("session ended"))
        _, metrics = await asyncio.to_thread(get, f"{admin}/metrics")
        proxy.process.terminate()
        code, _ = await proxy.ends()
    assert (ended["level"], ended["session"], ended["code"]) == ("warning", "abcdef…", 1014)
    assert 'reconnect_proxy_sessions_ended_total{code="1014"} 1.0' in metrics.splitlines()
    assert "process_resident_memory_bytes" in metrics
    assert code == 0


async def test_a_sighup_while_it_starts_does_not_end_it(
    refusing_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would read again is not read yet. systemd does not restart a program that SIGHUP has ended."""
    lines = "import os, signal", "import reconnect_proxy", "os.kill(os.getpid(), signal.SIGHUP)"
    (tmp_path / "hasty.py").write_text("\n".join((*lines, "class Nothing(reconnect_proxy.Hooks): ...", "")))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    async with serving("--upstream", refusing_url, "--hooks", "hasty:Nothing") as proxy:
        proxy.process.terminate()
        code, _ = await proxy.ends()
    assert code == 0


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
async def test_a_port_in_use_is_one_line_and_exit_1(refusing_url: str, flag: str) -> None:
    """The line says which address it was, and nothing claims to listen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, stdout, stderr = await run("serve", "--upstream", refusing_url, "--listen", "127.0.0.1:0", flag, address)
    assert (code, stdout) == (1, "")
    assert stderr == f"reconnect-proxy: cannot listen on {address}: the port is in use; choose another with {flag}\n"


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
async def test_an_unknown_host_is_one_line_and_exit_1(refusing_url: str, flag: str) -> None:
    """Names under .invalid never resolve (RFC 6761 section 6.4)."""
    code, stdout, stderr = await run(
        "serve", "--upstream", refusing_url, "--listen", "127.0.0.1:0", flag, "host.invalid:1"
    )
    assert (code, stdout) == (1, "")
    line = f"cannot listen on host.invalid:1: the host is unknown; choose another with {flag}"
    assert stderr == f"reconnect-proxy: {line}\n"


async def test_a_host_that_is_not_ours_is_one_line_and_exit_1(refusing_url: str) -> None:
    """An address of another machine cannot be listened on (192.0.2.0/24 is reserved, RFC 5737)."""
    code, _, stderr = await run("serve", "--upstream", refusing_url, "--listen", "192.0.2.1:9124")
    (line,) = stderr.splitlines()
    assert code == 1
    assert line.startswith("reconnect-proxy: cannot listen on 192.0.2.1:9124: ")


async def test_a_bad_option_of_a_real_process_is_one_line_and_exit_2() -> None:
    """No traceback, nothing on stdout."""
    code, stdout, stderr = await run("serve", "--upstream", "http://h")
    assert (code, stdout) == (2, "")
    assert len(stderr.splitlines()) == 1
