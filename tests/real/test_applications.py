"""Applications with protocols of their own as scenarios have them, and a bug in each that a scenario finds."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.report.run_result import RunResult

from .install import run_by

Run = Callable[..., RunResult]


def _invalid(run: RunResult) -> set[str]:
    return {result.check for result in run.judgement.results if result.verdict is Verdict.INVALID}


def _program(script: str, **env: str) -> dict[str, Any]:
    return {"command": shlex.join(run_by(script)), "env": env}


CHAT = {
    "name": "chat",
    "summary": "Six users talk in two rooms.",
    "clients": {"kind": "plain", "count": 6, "send": "30/s", "for": "2s"},
    "expect": {"lost": 0, "reordered": 0, "duplicated": 0, "client_disconnects": 0},
    "settle": "1s",
}
JSON = {"json": {"path": "/chat/{room}/{client}", "fields": {"type": "say"}, "to": "others", "rooms": 2}}
SOCKETIO = {"socketio": {"event": "say", "field": "text", "join": "join", "to": "others", "rooms": 2}}
GRAPHQL = {"graphql-ws": {"rooms": 2}}


@pytest.mark.parametrize(
    ("script", "adapter", "bug", "found"),
    [
        pytest.param("ws_chat.js", JSON, "race", {"lost", "duplicated"}, marks=pytest.mark.needs("ws")),
        pytest.param("socketio_chat.js", SOCKETIO, "room", {"misdelivered"}, marks=pytest.mark.needs("Socket.IO")),
        pytest.param("graphql_chat.js", GRAPHQL, "lose", {"lost"}, marks=pytest.mark.needs("graphql-ws")),
    ],
)
@pytest.mark.parametrize("sut", ["direct", None], ids=["direct", "proxy"])
def test_a_bug_is_found(
    scenario_runner: Run, script: str, adapter: dict[str, Any], bug: str, found: set[str], sut: str | None
) -> None:
    """Without the bug the same run is valid, alone and behind this project's proxy."""
    chat = {**CHAT, "adapter": adapter}
    scenario_runner({**chat, "upstream": _program(script)}, sut=sut)
    wrong = scenario_runner({**chat, "name": "bug", "upstream": _program(script, BUG=bug)}, sut=sut, check=False)
    assert found <= _invalid(wrong)


@pytest.mark.needs("Socket.IO")
@pytest.mark.parametrize("bug", ["", "repeat"])
def test_repeats_after_a_reconnect_are_found(scenario_runner: Run, bug: str) -> None:
    """The adapter logs in and joins again on each connection."""
    chat = {
        **CHAT,
        "adapter": SOCKETIO,
        "upstream": _program("socketio_chat.js", BUG=bug),
        "clients": {"kind": "reconnecting", "count": 6, "send": "30/s", "for": "3s"},
        "faults": [{"at": "1s", "link": "client", "do": "down", "for": "200ms"}],
        "expect": {"duplicated": 0, "reordered": 0},
    }
    assert ("duplicated" in _invalid(scenario_runner(chat, sut="direct", check=False))) == bool(bug)


@pytest.mark.needs("stomp-broker-js")
@pytest.mark.parametrize("to", ["others", "all"])
def test_stomp(scenario_runner: Run, to: str) -> None:
    """This broker sends a message to the other subscribers; expected at its sender too, it is lost there."""
    chat = {
        **CHAT,
        "adapter": {"stomp": {"path": "/stomp", "rooms": 2, "to": to}},
        "upstream": _program("stomp_broker.js"),
    }
    assert _invalid(scenario_runner(chat, sut="direct", check=False)) == ({"lost"} if to == "all" else set())


@pytest.mark.needs("ws")
@pytest.mark.parametrize("lose", ["", "1"])
def test_a_client_in_node_is_a_client_of_a_scenario(scenario_runner: Run, lose: str) -> None:
    """One that keeps what is sent while its connection is away loses nothing; one that forgets it is found."""
    client = shlex.join(["env", f"LOSE={lose}", *run_by("ws_chat_client.js"), "{url}"])
    chat = {
        **CHAT,
        "adapter": {"json": {**JSON["json"], "to": "all"}},
        "upstream": _program("ws_chat.js", ECHO="1"),
        "clients": {"command": client, "count": 2, "send": "30/s", "for": "3s"},
        "faults": [{"at": "1s", "link": "client", "do": "down", "for": "500ms"}],
        # What was under way when the link went down may be lost.
        "expect": {"duplicated": 0, "lost": 6},
    }
    assert ("lost" in _invalid(scenario_runner(chat, sut="direct", check=False))) == bool(lose)
