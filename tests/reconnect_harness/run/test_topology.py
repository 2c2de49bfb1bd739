"""Topologies of several upstreams and proxies, and processes that are killed and started again: whole runs."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End
from reconnect_harness.processes.child import ProcessFailed
from reconnect_harness.report import summary
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.run.topology import Topology
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.sut.base import OWN
from reconnect_harness.sut.choose import system_under_test
from tests.reconnect_harness.leftovers import descendants
from tests.reconnect_harness.run.test_runner import RELAY

#: Some 100 messages in each direction from each of four clients, and nothing that could go wrong.
TALK: dict[str, Any] = {
    "name": "talk",
    "summary": "Something happens.",
    "upstream": {"kind": "push", "push": "50/s"},
    "clients": {"kind": "plain", "count": 4, "send": "50/s", "for": "2s"},
    "expect": {"c2u": {"lost": 0, "reordered": 0}, "client_disconnects": 0},
    "settle": "3s",
}


async def _run(folder: Path, system: str = OWN, **changes: Any) -> RunResult:
    before = descendants()
    chosen = parse_scenario({**TALK, **changes}, "test")
    done = await ScenarioRunner(chosen, system_under_test(system), None, 1, folder).run()
    assert descendants() == before
    return done


def _why(run: RunResult) -> str:
    return "\n".join(summary.reasons(run))


def _connected(run: RunResult, end: End) -> list[str]:
    return [event.name for event in run.history.links if event.end is end and event.event == "connected"]


async def test_an_upstream_that_is_killed_comes_back_on_its_port(tmp_path: Path) -> None:
    """It continues its record, and its absence is not a failure of the run."""
    fault = {"at": "600ms", "process": "upstream", "do": "kill", "for": "300ms"}
    done = await _run(tmp_path, faults=[fault])
    assert done.judgement.verdict is Verdict.VALID, _why(done)
    assert len(_connected(done, End.UPSTREAM)) == 8
    (record,) = done.history.faults
    assert record.problem is None
    assert record.took_hold is not None
    assert record.cleared is not None
    assert record.cleared - record.took_hold >= 0.3


async def test_an_upstream_that_dies_of_itself_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a fault may end a process; any other end is an error."""
    quiet = Topology.quiet

    async def die(topology: Topology) -> None:
        topology.servers.upstreams["upstream"]._actor.send_signal(9)
        await quiet(topology)

    monkeypatch.setattr(Topology, "quiet", die)
    with pytest.raises(ProcessFailed, match="the upstream process"):
        await _run(tmp_path)


async def test_of_two_upstreams_one_is_enough(tmp_path: Path) -> None:
    """Both are given to the proxy, which shares sessions out; those of the first are taken to the second."""
    fault = {"at": "800ms", "process": "upstream-1", "do": "terminate"}
    done = await _run(tmp_path, upstream={"kind": "push", "push": "50/s", "count": 2}, faults=[fault])
    assert done.judgement.verdict is Verdict.VALID, _why(done)
    names = _connected(done, End.UPSTREAM)
    assert sorted(name.partition(".")[0] for name in names) == ["u1"] * 2 + ["u2"] * 4
    codes = {
        event.code for event in done.history.links if event.event == "disconnected" and event.name.startswith("u1")
    }
    assert codes == {1012}
    assert (tmp_path / "upstream-1.jsonl").exists()
    assert (tmp_path / "upstream-2.jsonl").exists()


async def test_clients_that_are_killed_come_back_for_what_they_are_owed(tmp_path: Path) -> None:
    """What was sent while they were away arrives at the next process, and it talks for the rest of the time."""
    fault = {"at": "600ms", "process": "clients", "do": "kill", "for": "300ms"}
    done = await _run(
        tmp_path,
        clients={**TALK["clients"], "kind": "reconnecting"},
        faults=[fault],
        expect={"u2c": {"lost": 0, "reordered": 0}, "upstream_connections": 4},
    )
    assert done.judgement.verdict is Verdict.VALID, _why(done)
    assert _connected(done, End.CLIENT).count("c01") == 2
    (record,) = done.history.faults
    assert record.took_hold is not None
    assert record.cleared is not None
    events = done.history.messages
    owed = [e for e in events if e.direction is Direction.U2C and record.took_hold < e.t < record.cleared]
    assert owed
    assert any(e.event == "sent" and e.end is End.CLIENT and e.t > record.cleared for e in events)


async def test_a_chain_is_several_proxies_in_a_row(tmp_path: Path) -> None:
    """Each has its options and its log; what the clients get has gone through both."""
    done = await _run(tmp_path, chain=[{"mode": "sender"}, {"mode": "receiver"}])
    assert done.judgement.verdict is Verdict.VALID, _why(done)
    assert done.system == "reconnect-proxy serve before reconnect-proxy serve"
    first, second = ((tmp_path / name / "sut.log").read_text() for name in ("proxy-1", "proxy-2"))
    assert "(mode sender)" in first
    assert "(mode receiver)" in second
    assert f"-> {second.split()[2]} " in first


async def test_any_system_can_be_put_in_a_chain(tmp_path: Path) -> None:
    """What each of two relays drops is lost."""
    done = await _run(tmp_path, f"{RELAY} --drop 100", chain=[{}, {}], expect={"lost": 0})
    assert done.judgement.verdict is Verdict.INVALID
    lost = sum(len(result.violations) for result in done.judgement.results if result.check == "lost")
    assert 12 <= lost <= 18


async def test_a_system_that_is_told_to_end_has_to_do_so_in_good_order(tmp_path: Path) -> None:
    """Ours ends with status 0 and clients are closed with 1012; a relay that just dies has proven nothing."""
    fault = {"at": "1s", "process": "proxy", "do": "terminate"}
    plain = {"faults": [fault], "upstream": {"kind": "record"}, "expect": {"c2u": {"reordered": 0}}}
    ours = await _run(tmp_path / "ours", **plain)
    assert ours.judgement.verdict is Verdict.VALID, _why(ours)
    codes = {e.code for e in ours.history.links if e.event == "disconnected" and e.end is End.CLIENT}
    assert codes == {1012}
    relay = await _run(tmp_path / "relay", RELAY, **plain)
    assert relay.judgement.verdict is Verdict.UNKNOWN
    assert list(relay.judgement.doubts) == ["the system under test was told to end, and ended with status -15, not 0"]


async def test_visitors_of_a_receiver_share_one_connection(tmp_path: Path) -> None:
    """What is sent while none is there waits for the next; a relay has a connection for each visit, and is invalid."""
    visits = {
        "clients": {**TALK["clients"], "kind": "visiting", "count": 2, "visits": {"stay": "300ms", "away": "600ms"}},
        "proxy": {"mode": "receiver"},
        "expect": {"c2u": {"lost": 0}, "u2c": {"lost": 0}, "upstream_connections": 1, "client_disconnects": 0},
    }
    ours = await _run(tmp_path / "ours", **visits)
    assert ours.judgement.verdict is Verdict.VALID, _why(ours)
    relay = await _run(tmp_path / "relay", RELAY, **visits)
    failed = {result.check for result in relay.judgement.results if result.verdict is Verdict.INVALID}
    assert "upstream_connections" in failed


async def test_an_upstream_is_refused_while_it_is_away_and_then_there_again(tmp_path: Path) -> None:
    """The port stays the same, and no other program gets it."""
    seen: list[int] = []

    def look(line: str) -> None:
        port = (tmp_path / "sut.log").read_text().split("-> ws://127.0.0.1:")[1].split()[0]
        with socket.socket() as probe:
            found = probe.connect_ex(("127.0.0.1", int(port)))
        if found != (seen[-1] if seen else None):
            seen.append(found)

    fault = {"at": "500ms", "process": "upstream", "do": "kill", "for": "500ms"}
    chosen = parse_scenario({**TALK, "faults": [fault]}, "test")
    await ScenarioRunner(chosen, system_under_test(OWN), None, 1, tmp_path, progress=look).run()
    assert seen == [0, errno.ECONNREFUSED, 0]
