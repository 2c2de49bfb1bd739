"""Upstreams that misbehave, listen late or have a gate, in a process of their own, seen by a websockets client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.history.history import History
from reconnect_harness.history.message import MessageKind, decode, encode
from reconnect_harness.history.record import LinkEvent
from reconnect_harness.peers.workload import Workload
from reconnect_harness.processes.child import Actor
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.scenario.model import ScenarioError
from reconnect_harness.sut.choose import system_under_test
from tests.reconnect_harness.peers.upstream_rig import Start, upstreams_in
from tests.reconnect_harness.waiting import until

ID = "an-id-of-the-client-0123"
OTHER = "another-id-of-a-client-9"
FIRST = {"X-Connection-Id": ID}
AGAIN = {"X-Reconnect-Id": ID, "X-Reconnect": "true"}


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts upstreams."""
    async with upstreams_in(tmp_path) as start:
        yield start


def _dial(url: str, headers: dict[str, str] | None = None) -> connect:
    return connect(url, proxy=None, compression=None, ping_interval=None, additional_headers=headers)


async def _status(url: str, headers: dict[str, str]) -> int:
    """Return the status of the answer to a handshake."""
    try:
        async with _dial(url, headers):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


async def _links(actor: Actor, folder: Path) -> list[LinkEvent]:
    await actor.stop()
    return History.merge([folder / "history"]).links


def _breaches(links: list[LinkEvent]) -> list[str]:
    return [event.reason for event in links if event.event == "breach"]


async def test_the_first_handshakes_of_each_session_are_rejected(start: Start, tmp_path: Path) -> None:
    """With one status after the other, then accepted; redials have a list of their own. Each is in the history."""
    actor, url = await start(rude={"reject": [401, 503], "reject_again": [404]})
    assert [await _status(url, FIRST) for _ in range(4)] == [401, 503, 101, 101]
    assert [await _status(url, AGAIN) for _ in range(2)] == [404, 101]
    assert await _status(url, {"X-Connection-Id": OTHER}) == 401
    links = await _links(actor, tmp_path)
    assert [event.code for event in links if event.event == "refused"] == [401, 503, 404, 401]
    rude = [event.reason for event in links if event.event == "rude"]
    assert rude == ["reject: 401", "reject: 503", "reject_again: 404", "reject: 401"]


async def test_each_session_is_closed_once_with_the_next_code(start: Start, tmp_path: Path) -> None:
    """After the start of the traffic, each with its own reason; the second connection of a session is not closed."""
    actor, url = await start(rude={"close": [1012, 4001], "after": 0.01})
    async with _dial(url, FIRST) as one, _dial(url, {"X-Connection-Id": OTHER}) as two, _dial(url, AGAIN) as three:
        await actor.ask("go")
        for connection, code, reason in ((one, 1012, "rude close 1 of u1"), (two, 4001, "rude close 2 of u1")):
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            assert (connection.close_code, connection.close_reason) == (code, reason)
        await (await three.ping())
    links = await _links(actor, tmp_path)
    closed = [(event.code, event.reason) for event in links if event.event == "disconnected" and event.asked]
    assert sorted(closed) == [(1012, "rude close 1 of u1"), (4001, "rude close 2 of u1")]


async def test_a_mute_upstream_receives_messages_and_answers_no_ping(start: Start) -> None:
    """It echoes a message that was sent after the Ping, so it has received the Ping."""
    _, url = await start(kind="echo", rude={"mute": True})
    async with _dial(url) as connection:
        answered = asyncio.ensure_future(await connection.ping())
        message = encode("c01", "c2u", 1, 100, MessageKind.TEXT)
        await connection.send(message)
        assert await connection.recv() == message
        assert not answered.done()


async def test_a_deaf_upstream_reads_nothing_for_a_while(start: Start, tmp_path: Path) -> None:
    """Not even Pings, until the time is over; then everything arrives."""
    actor, url = await start(rude={"deaf": 0.5, "after": 0.0})
    async with _dial(url) as connection:
        await actor.ask("go")
        record = tmp_path / "history"

        async def deaf() -> bool:
            return "deaf: for" in record.read_text()

        await until(deaf)
        began = asyncio.get_running_loop().time()
        await connection.send(encode("c01", "c2u", 1, 100, MessageKind.BINARY))
        await (await connection.ping())
        assert asyncio.get_running_loop().time() - began > 0.25
        assert (await actor.ask("count"))["arrived"] == 1


async def test_a_late_upstream_refuses_connections_at_first(start: Start, tmp_path: Path) -> None:
    """It has its port from the start; the time counts from the start of the traffic."""
    actor, url = await start(late=0.05)
    for _ in range(2):
        with pytest.raises(OSError, match="Connect call failed"):
            await _dial(url)
    await actor.ask("go")

    async def listens() -> bool:
        try:
            async with _dial(url):
                return True
        except OSError:
            return False

    await until(listens)
    assert [event.reason for event in await _links(actor, tmp_path) if event.event == "rude"] == ["late: by 0.05 s"]


async def test_connections_that_warm_up_a_proxy_are_not_recorded(start: Start, tmp_path: Path) -> None:
    """No message is pushed to them, and they are counted until they have closed."""
    actor, url = await start(kind="push", load=Workload(100, 40, 40).to_spec(), warm=True, rude={"reject": [401]})
    async with _dial(url):
        assert (await actor.ask("warm"))["connections"] == 1

    async def cold() -> bool:
        return bool((await actor.ask("warm"))["connections"] == 0)

    await until(cold)
    await actor.ask("warmed")
    assert (await actor.ask("count"))["sent"] == 0
    assert await _status(url, FIRST) == 401
    async with _dial(url, FIRST) as connection:
        assert decode(await connection.recv()).number == 1
    assert {event.event for event in await _links(actor, tmp_path)} == {"rude", "refused", "connected", "disconnected"}


async def _opened(connection: ClientConnection) -> str:
    """Return the state that opens the gate."""
    state = await connection.recv()
    assert isinstance(state, str)
    assert state.startswith("RECONNECT:")
    return state


async def test_a_gate_records_no_breach_of_a_correct_proxy(start: Start, tmp_path: Path) -> None:
    """The id is that of the first state; a redial starts with the newest state, and data follow the new one."""
    actor, url = await start(kind="gate", gate="first-message")
    async with _dial(url) as connection:
        state = await _opened(connection)
        await connection.send(encode("c01", "c2u", 1, 100, MessageKind.TEXT))
        await (await connection.ping())
    again = {"X-Reconnect-Id": state.partition(":")[2], "X-Reconnect": "true"}
    for number in (2, 3):
        async with _dial(url, again) as connection:
            await connection.send(state)
            state = await _opened(connection)
            await connection.send(encode("c01", "c2u", number, 100, MessageKind.TEXT))
            await (await connection.ping())
    assert (await actor.ask("count"))["arrived"] == 3
    assert not _breaches(await _links(actor, tmp_path))


@pytest.mark.parametrize(
    ("headers", "said", "breach"),
    [
        ({**AGAIN, "X-Reconnect-Id": OTHER}, [], "under an id that it never had"),
        (AGAIN, ["RECONNECT:something-else"], "redialled with 'RECONNECT:something-else'"),
        (AGAIN, ["{state}", "data"], "a message came before the gate was open"),
        ({"X-Connection-Id": OTHER}, ["data"], "a message came before the gate was open"),
    ],
)
async def test_a_gate_records_breaches(
    start: Start, tmp_path: Path, headers: dict[str, str], said: list[str], breach: str
) -> None:
    """Another id, another state, and messages before the gate is open."""
    actor, url = await start(kind="gate", gate="first-message")
    async with _dial(url, FIRST) as connection:
        state = await _opened(connection)
        # This client's Pong to the Ping after the state follows it.
        await (await connection.ping())
    async with _dial(url, headers) as connection:
        for message in said:
            await connection.send(message.format(state=state))
        await _opened(connection)
    (seen,) = _breaches(await _links(actor, tmp_path))
    assert breach in seen


async def test_a_gate_with_a_prefix_announces_repeatedly(start: Start, tmp_path: Path) -> None:
    """A redial must start with a state that is not older than the newest confirmed one."""
    actor, url = await start(kind="gate", gate="prefix:RECONNECT")
    async with _dial(url, FIRST) as connection:
        states = [str(await connection.recv()) for _ in range(3)]
    assert all(state.startswith("RECONNECT ") for state in states)
    for state in (states[-1], states[0]):
        async with _dial(url, AGAIN) as connection:
            await connection.send(state)
            await (await connection.ping())
    (seen,) = _breaches(await _links(actor, tmp_path))
    assert states[0] in seen


@pytest.mark.parametrize(
    ("upstream", "complaint"),
    [
        (
            {"rude": {"close": [1005]}},
            r"upstream.rude.close.0: 1005 is not a close code that may be sent: 1000 to 1003, ",
        ),
        ({"rude": {"reject": [200]}}, r"upstream.rude.reject.0: 200 is not valid"),
        ({"rude": {"rejects": [401]}}, r"upstream.rude: there is no key 'rejects'; did you mean reject"),
        ({"kind": "gate"}, r"upstream: an upstream of kind gate, and no other, needs `gate`"),
        ({"gate": "first-message"}, r"upstream: an upstream of kind gate, and no other, needs `gate`"),
        ({"kind": "gate", "gate": "prefix:"}, r"upstream.gate: 'prefix:' is not valid"),
    ],
)
def test_an_upstream_that_cannot_be_is_refused(upstream: dict[str, Any], complaint: str) -> None:
    """With the path in the file, before anything is started."""
    said = {
        "name": "mine",
        "summary": "A test.",
        "upstream": {"kind": "record", **upstream},
        "clients": {"kind": "plain", "send": 1, "for": 1},
        "expect": {"lost": 0},
    }
    with pytest.raises(ScenarioError, match=complaint):
        parse_scenario(said, "mine.yaml")


async def test_a_run_whose_upstream_did_not_misbehave_is_unknown(tmp_path: Path) -> None:
    """Redials were to be rejected, and there was no redial."""
    said = {
        "name": "mine",
        "summary": "A test.",
        "upstream": {"kind": "record", "rude": {"reject_again": [404]}},
        "clients": {"kind": "plain", "send": 50, "for": "300ms"},
        "expect": {"lost": 0},
    }
    done = await ScenarioRunner(parse_scenario(said, "mine.yaml"), system_under_test("direct"), None, 1, tmp_path).run()
    assert done.judgement.verdict is Verdict.UNKNOWN
    assert list(done.judgement.doubts) == ["the upstream was to be rude, and never was: reject_again"]
