"""Scenarios against applications with protocols of their own, started as programs, with clients that are programs."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.processes.certificates import certificates
from reconnect_harness.processes.child import Child, Warden
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.scenario.model import ScenarioError
from reconnect_harness.sut.base import until_listening
from reconnect_harness.sut.choose import system_under_test
from reconnect_harness.toxiproxy.server import ToxiproxyServer, reserve_port
from tests.reconnect_harness.applications.chat_adapter import ChatAdapter
from tests.reconnect_harness.waiting import wait_until

pytest.importorskip("fastapi", reason="fastapi is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

Run = Callable[..., RunResult]

DOCUMENT = Path(__file__).parents[3] / "docs" / "scenarios.md"

CHAT = "uvicorn tests.reconnect_harness.applications.chat:app --port {port} --ws websockets-sansio"


def _chat(bug: str = "", **changes: Any) -> dict[str, Any]:
    return {
        "name": "chat",
        "summary": "Six users talk in two rooms.",
        "upstream": {"command": CHAT, "env": {"BUG": bug}},
        "adapter": {"tests.reconnect_harness.applications.chat_adapter:ChatAdapter": {"rooms": 2}},
        "clients": {"kind": "plain", "count": 6, "send": "30/s", "for": "2s"},
        "expect": {"lost": 0, "reordered": 0, "duplicated": 0, "client_disconnects": 0},
        "settle": "1s",
        **changes,
    }


def _wrong(run: RunResult) -> dict[str, str]:
    """Return the checks that failed, and their first sentence."""
    return {r.check: r.violations[0].what for r in run.judgement.results if r.verdict is Verdict.INVALID}


def test_a_correct_chat_is_valid(scenario_runner: Run) -> None:
    """Each message goes to the two others of its room."""
    run = scenario_runner(_chat(), sut="direct")
    sent = sum(event.event == "sent" for event in run.history.messages)
    assert sum(event.event == "received" for event in run.history.messages) == 2 * sent > 100


def test_a_chat_that_loses_a_message_when_two_send_at_once_is_found(scenario_runner: Run) -> None:
    """The other clients of the room miss it."""
    run = scenario_runner(_chat("race"), sut="direct", check=False)
    assert "was sent and never arrived at c0" in _wrong(run)["lost"]


def test_a_chat_that_delivers_to_the_wrong_room_is_found(scenario_runner: Run) -> None:
    """The message is misdelivered in one room, and lost in the other."""
    wrong = _wrong(scenario_runner(_chat("room"), sut="direct", check=False))
    assert "was misdelivered" in wrong["misdelivered"]
    assert "was sent and never arrived" in wrong["lost"]


RECONNECTS: dict[str, Any] = {
    "clients": {"kind": "reconnecting", "count": 6, "send": "30/s", "for": "3s"},
    "faults": [{"at": "1s", "link": "client", "do": "down", "for": "200ms"}],
    "expect": {"duplicated": 0, "reordered": 0},
}


@pytest.mark.parametrize("bug", ["", "repeat"])
def test_a_chat_that_repeats_after_a_reconnect_is_found(scenario_runner: Run, bug: str) -> None:
    """A client that comes back has seen the last messages already; without the bug the same run is valid."""
    run = scenario_runner(_chat(bug, **RECONNECTS), sut="direct", check=False)
    assert ("duplicated" in _wrong(run)) == bool(bug), _wrong(run)
    assert run.judgement.verdict is (Verdict.INVALID if bug else Verdict.VALID)


def test_a_chat_behind_the_proxy_is_killed_and_started_again(scenario_runner: Run) -> None:
    """An upstream of a command is a process as ours are."""
    faults = [{"at": "1s", "process": "upstream", "do": "kill", "for": "100ms"}]
    run = scenario_runner(_chat(faults=faults, expect={"client_disconnects": 0}), check=False)
    assert run.history.faults[0].cleared is not None, run.judgement
    assert run.judgement.verdict is Verdict.VALID, run.judgement
    assert any(event.t > run.history.faults[0].cleared for event in run.history.messages if event.event == "received")


CLIENT = f"{sys.executable} -m tests.reconnect_harness.applications.client {{url}}"


@pytest.mark.parametrize(("bug", "found"), [("", set()), ("lose", {"lost"}), ("silent", {"breaches"})])
def test_clients_may_be_programs(scenario_runner: Run, bug: str, found: set[str]) -> None:
    """A program that forgets messages, and says that it has sent them, is found; and one that never says so."""
    clients = {"command": f"{CLIENT} {bug}", "count": 4, "send": "20/s", "for": "2s"}
    changes = {"clients": clients, "adapter": ChatAdapter, "expect": {"lost": 0, "client_disconnects": 0}}
    run = scenario_runner(_chat(**changes), sut="direct", check=False)
    assert set(_wrong(run)) == found, _wrong(run)
    assert sum(event.event == "sent" for event in run.history.messages) > 60


def test_the_sample_of_an_adapter_in_the_document_works(scenario_runner: Run, tmp_path: Path) -> None:
    """With its login: the chat greets each user."""
    sample = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]
    assert "class ChatAdapter" in sample
    (tmp_path / "sampled_chat.py").write_text(sample)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        scenario_runner(_chat(adapter="sampled_chat:ChatAdapter"), sut="direct")


def test_a_mock_upstream_speaks_no_other_protocol(scenario_runner: Run) -> None:
    """Its messages would all look damaged."""
    with pytest.raises(ScenarioError, match="needs a server that speaks this protocol"):
        scenario_runner(_chat(upstream={"kind": "echo"}), sut="direct")


def test_a_program_that_does_not_connect_is_a_client_that_cannot(scenario_runner: Run) -> None:
    """It has ended, and says so with its status."""
    command = f"{sys.executable} -c 'raise SystemExit(3)'"
    clients = {"command": command, "count": 4, "send": "20/s", "for": "1s"}
    run = scenario_runner(_chat(clients=clients), sut="direct", check=False)
    assert "the program ended with status 3" in _wrong(run)["client_disconnects"]


def test_a_server_that_ends_by_itself_proves_nothing(scenario_runner: Run) -> None:
    """The doubt has its status."""
    server = "import asyncio, os, sys; from websockets.asyncio.server import serve\n"
    server += "async def main():\n async with serve(lambda ws: ws.wait_closed(), '127.0.0.1', int(sys.argv[1])):\n"
    server += "  await asyncio.sleep(1.5)\n  os._exit(4)\nasyncio.run(main())"
    upstream = {"command": [sys.executable, "-c", server, "{port}"]}
    run = scenario_runner(_chat(upstream=upstream, expect={"client_disconnects": 6}), sut="direct", check=False)
    assert "the program upstream has ended, with status 4" in run.judgement.doubts


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"adapter": "jsn"}, "adapter: there is no adapter 'jsn'; did you mean json"),
        ({"adapter": "no_such_module:Chat"}, "adapter: the adapter no_such_module:Chat cannot be imported"),
        ({"adapter": "json:loads"}, "adapter: json:loads is not a subclass"),
        (
            {"adapter": {"json": {"feld": 1}}},
            "adapter: there is no attribute of JsonAdapter 'feld'; did you mean field",
        ),
        ({"adapter": {"json": {"to": "some"}}}, "adapter: there is no `to` 'some'"),
        ({"clients": {"kind": "plain", "type": "binary", "for": "1s", "send": 1}}, "clients.type: an adapter"),
        ({"clients": {"for": "1s", "send": 1}}, "clients: kind: it is missing; or give `command`"),
        ({"clients": {"kind": "plain", "command": "x", "for": "1s", "send": 1}}, "cannot be told `kind`"),
        ({"clients": {"kind": "plain", "count": 3, "for": 1, "send": 1}}, "clients.count: 3 clients in 2 rooms"),
        ({"upstream": {"command": "x", "push": 1}}, "cannot be told `push`"),
        ({"upstream": {"command": "x", "kind": "aware"}}, "its kind is echo, not aware"),
        ({"upstream": {"command": "x"}, "expect": {"c2u": {"lost": 0}}}, "c2u needs an upstream of the harness"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], problem: str) -> None:
    """Before anything is started."""
    with pytest.raises(ScenarioError, match=problem):
        parse_scenario(_chat(**changes), "chat")


SERVICE = """
import asyncio, ssl, sys
from http import HTTPStatus
from websockets.asyncio.server import serve

async def main(port, cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    def check(connection, request):
        if request.headers["Host"] != f"localhost:{port}" or request.path != "/chat":
            return connection.respond(HTTPStatus.MISDIRECTED_REQUEST, "")

    async def echo(ws):
        async for message in ws:
            await ws.send(message)

    async with serve(echo, "127.0.0.1", int(port), ssl=context, process_request=check):
        await asyncio.get_running_loop().create_future()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_remote_service_is_known_by_its_own_name(
    tmp_path: Path, server: ToxiproxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a link with faults, with TLS: its certificate is checked, and the Host header is its own."""
    with certificates() as files, Warden() as warden:
        monkeypatch.setenv("SSL_CERT_FILE", str(files.ca))
        with reserve_port() as reserved:
            port = reserved.getsockname()[1]
            words = [sys.executable, "-c", SERVICE, str(port), str(files.cert), str(files.key)]
            service = await Child.start("a service", words, tmp_path / "service.log", warden)
            try:
                await until_listening(service, f"127.0.0.1:{port}")
                chosen = _chat(
                    upstream={"kind": "echo"},
                    adapter="text",
                    clients={"kind": "reconnecting", "count": 2, "send": "20/s", "for": "2s"},
                    faults=[{"at": "500ms", "link": "client", "do": "down", "for": "200ms"}],
                    expect={"duplicated": 0, "reordered": 0, "client_disconnects": 20},
                )
                system = system_under_test(f"wss://localhost:{port}/chat")
                run = await ScenarioRunner(parse_scenario(chosen, "x"), system, server, 1, tmp_path / "run").run()
            finally:
                await service.stop()
    assert run.judgement.verdict is Verdict.VALID, run.judgement
    assert any(event.event == "disconnected" and not event.asked for event in run.history.links)
    arrived = [event.t for event in run.history.messages if event.event == "received"]
    assert run.history.faults[0].cleared is not None
    assert min(arrived) < run.history.faults[0].asked < run.history.faults[0].cleared < max(arrived)


CROSSED = """
import asyncio, sys
from websockets.asyncio.server import serve

async def main(port):
    clients = []

    async def echo(ws):
        clients.append(ws)
        async for message in ws:
            other = clients[1 - clients.index(ws)] if len(clients) == 2 else ws
            await other.send(message)

    async with serve(echo, "127.0.0.1", int(port)):
        await asyncio.get_running_loop().create_future()

asyncio.run(main(sys.argv[1]))
"""


def test_an_echo_at_the_wrong_client_is_misdelivered(scenario_runner: Run) -> None:
    """Without an adapter a message has to come back to its sender."""
    chosen = {**PEACE, "upstream": {"command": [sys.executable, "-c", CROSSED, "{port}"]}}
    chosen |= {"clients": {"kind": "plain", "count": 2, "send": "20/s", "for": "1s"}, "settle": "500ms"}
    wrong = _wrong(scenario_runner(chosen, sut="direct", check=False))
    assert "was sent and never arrived at c0" in wrong["lost"]
    assert "was misdelivered" in wrong["misdelivered"]


PEACE: dict[str, Any] = {
    "name": "commands",
    "summary": "A command is a fault.",
    "upstream": {"kind": "echo"},
    "clients": {"kind": "plain", "send": "20/s", "for": "1s"},
    "expect": {"lost": 0},
}


def _command(tmp_path: Path, **entry: Any) -> dict[str, Any]:
    done, undone = ([sys.executable, "-c", f"open({str(tmp_path / name)!r}, 'a').write('x')"] for name in ("do", "un"))
    return {**PEACE, "faults": [{"at": "200ms", "do": "command", "command": done, "heal": undone, **entry}]}


@pytest.mark.parametrize("entry", [{"for": "200ms"}, {}], ids=["for", "to the end"])
def test_a_command_is_a_fault(scenario_runner: Run, tmp_path: Path, entry: dict[str, Any]) -> None:
    """It is run once, and undone once: after its time, or at the end of the run."""
    run = scenario_runner(_command(tmp_path, **entry), sut="direct")
    assert [(tmp_path / name).read_text() for name in ("do", "un")] == ["x", "x"]
    (fault,) = run.history.faults
    assert fault.took_hold is not None
    assert fault.cleared is not None
    assert (fault.cleared > fault.took_hold + 0.15) == bool(entry)


def test_a_command_that_fails_proves_nothing(scenario_runner: Run, tmp_path: Path) -> None:
    """Its last line is in the doubt; what it may have done in part is undone."""
    wrong = [sys.executable, "-c", "raise SystemExit('no such pod')"]
    run = scenario_runner(_command(tmp_path, command=wrong), sut="direct", check=False)
    assert run.judgement.verdict is Verdict.UNKNOWN
    assert "ended with status 1: no such pod" in run.judgement.doubts[0]
    assert (tmp_path / "un").read_text() == "x"


async def test_a_run_that_is_cancelled_undoes_its_commands(tmp_path: Path) -> None:
    """Also while the command still runs."""
    entry = {"for": "60s", "command": ["sh", "-c", f"echo > {tmp_path}/began; exec sleep 60"]}
    chosen = parse_scenario({**_command(tmp_path, **entry)}, "x")
    runner = ScenarioRunner(chosen, system_under_test("direct"), None, 1, tmp_path / "run")
    running = asyncio.create_task(runner.run())
    await asyncio.to_thread(wait_until, (tmp_path / "began").exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (tmp_path / "un").read_text() == "x"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"do": "command"}, "command needs `command`"),
        ({"do": "command", "command": "x", "for": "1s"}, "command with `for` needs `heal`"),
        ({"do": "command", "command": "x", "link": "client", "bytes": 1}, "there is no key of command 'bytes'"),
    ],
)
def test_a_wrong_command_is_refused(entry: dict[str, Any], problem: str) -> None:
    """Before anything is started."""
    with pytest.raises(ScenarioError, match=problem):
        parse_scenario({**PEACE, "faults": [{"at": 0, **entry}]}, "x")
