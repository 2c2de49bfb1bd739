"""Scenarios in virtual time: the core of the proxy is valid, and a core with a bug is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.faults.fault import timeline
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.scenario.find import load_scenario, parse_scenario, shipped_scenarios
from reconnect_harness.scenario.model import ScenarioError
from reconnect_harness.simulate.clock import VirtualClock
from reconnect_harness.simulate.network import ConnectionEnd, Frame, FrameKind, SimulatedConnection, SimulatedLink
from reconnect_harness.simulate.simulation import simulate
from reconnect_proxy.core.clients import Clients
from reconnect_proxy.core.link import Link
from reconnect_proxy.core.outbox import Outbox

#: Both links are cut while an aware client and an aware upstream talk.
BOTH: dict[str, Any] = {
    "name": "both",
    "summary": "Both links are cut.",
    "proxy": {"mode": "duplex", "grace_on": "abnormal"},
    "upstream": {"kind": "aware", "push": "50/s"},
    "clients": {"kind": "aware", "count": 2, "send": "50/s", "for": "2s"},
    "faults": [
        {"at": "300ms", "link": "upstream", "do": "down", "for": "200ms", "times": 2, "every": "600ms"},
        {"at": "700ms", "link": "client", "do": "down", "for": "200ms"},
    ],
    "expect": {"lost": 0, "reordered": 0, "duplicated": 0, "client_disconnects": 0, "leaks": 0},
}

#: Ordinary peers: what is sent to the upstream may come twice, and what it says be lost. They are fast, so several
#: messages are on their way at each cut.
PLAIN: dict[str, Any] = {
    "upstream": {"kind": "record", "push": "50/s"},
    "clients": {"kind": "plain", "send": "300/s", "for": "2s"},
    "expect": {"client_disconnects": 0, "c2u": {"lost": 0, "reordered": 0, "duplicated": "report"}, "u2c": "report"},
}


def _simulated(seed: int = 1, **changes: Any) -> RunResult:
    return simulate(parse_scenario({**BOTH, **changes}, "test"), seed, Path("nowhere"))


def _failed(run: RunResult) -> set[str]:
    return {result.label for result in run.judgement.results if result.verdict is Verdict.INVALID}


@pytest.mark.parametrize(
    "name",
    [
        "both-flap",
        "client-flap-returning",
        "one-way-silence",
        "retry-budget-over",
        "upstream-half-open",
        "upstream-killed",
        "upstream-killed-forgets",
        "upstream-stopped",
    ],
)
def test_a_shipped_scenario_comes_out_as_it_does_for_real(name: str) -> None:
    """Valid, with as many clients as it says and every fault on."""
    chosen = load_scenario(shipped_scenarios()[name])
    run = simulate(chosen, 1, Path("nowhere"))
    assert run.judgement.verdict is Verdict.VALID, run.judgement
    assert len({event.name for event in run.history.links if event.end == "client"}) == chosen.clients.count
    assert len(run.history.faults) == sum(fault.times for fault in chosen.faults)


def test_the_same_scenario_and_seed_give_the_same_history() -> None:
    """To the last event; another seed gives another one."""
    one, same, other = _simulated(), _simulated(), _simulated(seed=2)
    assert one.history.messages == same.history.messages
    assert one.history.links == same.history.links
    assert one.history.messages != other.history.messages


def test_nothing_is_proven_where_nothing_is_said() -> None:
    """A link that is down from the beginning lets no client in: the verdict is unknown."""
    faults = [{"at": "0ms", "link": "upstream", "do": "bandwidth", "for": "9s", "rate": 1}]
    load = {"kind": "record", "push": "50/s", "size": "64KiB"}
    run = _simulated(upstream=load, faults=faults, expect={"reordered": 0}, settle="100ms")
    assert run.judgement.verdict is Verdict.UNKNOWN
    assert "no message arrived u2c" in run.judgement.doubts


def _forgets_the_order(outbox: Outbox, n: int) -> None:
    first, last = n - outbox._before, outbox.sent - outbox._before
    again = outbox._messages[first:last]
    outbox._messages[first:] = [*outbox._messages[last:], *reversed(again)]
    outbox.sent = n


def _believes_no_count(link: Link, received: int | None) -> Any:
    link.aware = received is not None
    return _RESUME(link, None)


def _never_ends(clients: Clients, code: int, reason: str, aware: bool = False) -> None:
    clients.cancel_grace()


_RESUME = Link.resume


@pytest.mark.parametrize(
    ("owner", "method", "wrong", "changes", "failed"),
    [
        (Outbox, "rewind", _forgets_the_order, PLAIN, {"reordered c2u"}),
        (Link, "resume", _believes_no_count, {}, {"duplicated c2u"}),
        (Clients, "await_return", _never_ends, {"faults": []}, {"leaks"}),
    ],
)
def test_a_core_that_is_wrong_is_invalid(
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    wrong: Callable[..., Any],
    changes: dict[str, Any],
    failed: set[str],
) -> None:
    """In the check that its mistake is about, and only where the core is wrong."""
    changes = {"faults": [BOTH["faults"][0]], **changes}
    assert _failed(_simulated(**changes)) == set()
    monkeypatch.setattr(owner, method, wrong)
    assert _failed(_simulated(**changes)) == failed


def test_a_core_that_raises_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The violation has the error."""

    def raises(link: Link, payload: bytes) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(Link, "on_pong", raises)
    run = _simulated()
    assert run.judgement.verdict is Verdict.INVALID
    assert "ZeroDivisionError" in str(
        [result.violations for result in run.judgement.results if result.check == "breaches"]
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"clients": {"kind": "robbed", "send": "9/s", "for": "1s"}}, "no clients 'robbed' can be simulated"),
        ({"faults": [{"at": 0, "link": "client", "do": "slow_close", "for": 1, "delay": 1}]}, "no fault 'slow_close'"),
        ({"proxy": {}, "chain": [{"mode": "sender"}, {"mode": "receiver"}]}, "a chain of proxies cannot be simulated"),
        ({"upstream": {"kind": "record", "count": 2}, "faults": []}, "several upstreams"),
        ({"proxy": {"gate": "first-message"}}, "a gate"),
    ],
)
def test_what_cannot_be_simulated_is_said(changes: dict[str, Any], complaint: str) -> None:
    """In a sentence, before anything is run."""
    with pytest.raises(ScenarioError, match=complaint):
        _simulated(**changes)


# The network.


class Rig:
    """A link with one connection, and what arrives at its far end and its near one."""

    def __init__(self, *faults: dict[str, Any]) -> None:
        self.clock = VirtualClock()
        self.link = SimulatedLink("upstream", self.clock, random.Random(1))
        connection = self.link.connect()
        assert connection is not None
        self.connection: SimulatedConnection = connection
        self.arrived: dict[str, list[tuple[float, Frame]]] = {"near": [], "far": []}
        for name in self.arrived:
            self._listen(name, getattr(connection, name))
        said = parse_scenario({**BOTH, "faults": [{"at": 0, "link": "upstream", **fault} for fault in faults]}, "test")
        self.occurrences = timeline(said.faults, random.Random(1))

    def _listen(self, name: str, end: ConnectionEnd) -> None:
        end.on_frame = lambda frame: self.arrived[name].append((self.clock.time(), frame))

    def send(self, *payloads: bytes) -> None:
        """Send from the near end."""
        for payload in payloads:
            self.connection.near.put(Frame(FrameKind.DATA, payload))

    def kinds(self, name: str) -> list[FrameKind]:
        """Return what has arrived at one end."""
        return [frame.kind for _, frame in self.arrived[name]]


def test_frames_arrive_in_order_however_much_their_delay_varies() -> None:
    """And not before the latency is over."""
    rig = Rig({"do": "latency", "for": 9, "latency": 100, "jitter": 90})
    rig.link.begin(rig.occurrences[0])
    payloads = [bytes([n]) for n in range(100)]
    rig.send(*payloads)
    rig.clock.advance(0.009)
    assert rig.arrived["far"] == []
    rig.clock.advance(1)
    assert [frame.payload for _, frame in rig.arrived["far"]] == payloads


def test_a_narrow_link_holds_its_sender_back_and_lets_it_go_on() -> None:
    """100 KB take a second at 100 KB/s."""
    rig = Rig({"do": "bandwidth", "for": 9, "rate": 100})
    rig.link.begin(rig.occurrences[0])
    room: list[float] = []
    rig.connection.near.on_room = lambda: room.append(rig.clock.time())
    rig.send(*[bytes(1000 - 8)] * 100)
    assert rig.connection.near.blocked
    rig.clock.advance(5)
    assert not rig.connection.near.blocked
    assert len(room) == 1
    assert rig.arrived["far"][-1][0] == pytest.approx(1.0, abs=0.05)


def test_a_cut_link_tells_both_ends_and_refuses_new_connections() -> None:
    """Until it is up again."""
    rig = Rig({"do": "down", "for": 1})
    rig.send(b"1", b"2", b"3")
    rig.link.begin(rig.occurrences[0])
    rig.send(b"4")
    assert rig.link.connect() is None
    rig.clock.advance(1)
    assert rig.kinds("near") == [FrameKind.END]
    assert rig.kinds("far") == [FrameKind.DATA] * (len(rig.arrived["far"]) - 1) + [FrameKind.END]
    assert b"4" not in [frame.payload for _, frame in rig.arrived["far"]]
    rig.link.end(rig.occurrences[0])
    assert rig.link.connect() is not None


def test_a_silent_link_is_noticed_only_when_the_silence_is_over() -> None:
    """What was said meanwhile is gone, and the connection with it."""
    rig = Rig({"do": "silence", "for": 1, "stream": "upstream"})
    rig.link.begin(rig.occurrences[0])
    rig.send(b"1")
    rig.connection.far.put(Frame(FrameKind.DATA, b"the other way"))
    rig.clock.advance(1)
    assert rig.arrived["far"] == []
    assert rig.kinds("near") == [FrameKind.DATA]
    rig.link.end(rig.occurrences[0])
    rig.clock.advance(1)
    assert rig.kinds("far") == [FrameKind.END]


def test_a_limit_cuts_the_connection_behind_so_many_bytes() -> None:
    """The frame that passes it is lost."""
    rig = Rig({"do": "cut", "for": 1, "bytes": 30})
    rig.link.begin(rig.occurrences[0])
    rig.send(b"one")
    rig.clock.advance(1)
    rig.send(bytes(50), b"three")
    rig.clock.advance(1)
    assert [frame.payload for _, frame in rig.arrived["far"]] == [b"one", b""]
    assert rig.kinds("near") == [FrameKind.END]


def test_a_paused_end_gets_what_waited_when_it_goes_on() -> None:
    """In order, and nothing before."""
    rig = Rig({"do": "reset"})
    rig.connection.far.pause()
    rig.send(b"1", b"2")
    rig.clock.advance(1)
    assert rig.arrived["far"] == []
    rig.connection.far.resume()
    rig.clock.advance(1)
    assert [frame.payload for _, frame in rig.arrived["far"]] == [b"1", b"2"]
