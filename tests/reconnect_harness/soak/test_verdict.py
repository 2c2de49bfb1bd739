"""The verdict on a soak, from what its files contain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.checks.judgement import Judgement, Verdict
from reconnect_harness.history.record import Footprint
from reconnect_harness.profile import Profile
from reconnect_harness.soak import clients, table, upstream
from reconnect_harness.soak.ledger import Counted, words_file
from reconnect_harness.soak.plan import SoakPlan
from reconnect_harness.soak.samples import ResourceSample, append
from reconnect_harness.soak.soak import SoakResult
from reconnect_harness.soak.verdict import SoakEvidence, judge

SECONDS = 60.0


def _counts(rows: tuple[str, ...], **found: int) -> dict[str, dict[Counted, int]]:
    return {row: {count: found.get(count, 100 if count is Counted.ARRIVED else 0) for count in Counted} for row in rows}


def _footprint(when: str, files: int = 12, sessions: int = 0) -> Footprint:
    return Footprint(1.0, when, files, 5, 0, 40_000_000, sessions)


def _done(folder: Path, **fields: Any) -> SoakResult:
    done = SoakResult(SoakPlan(SECONDS, 10, 1), folder, "a proxy", "a toxiproxy", {}, start=100.0, seconds=SECONDS)
    done.upstream = _counts(upstream.ROWS)
    done.clients = _counts(clients.ROWS)
    done.footprints = [_footprint("before"), _footprint("after")]
    done.faults.update({"down client": 3, "kill upstream": 1})
    for name, value in fields.items():
        setattr(done, name, value)
    return done


def _write(
    folder: Path,
    *,
    memory: Callable[[int], float] = lambda t: 40e6,
    harness: Callable[[int], float] = lambda t: 90e6,
    trips: Callable[[int], tuple[float, float]] = lambda t: (0.002, 0.001),
    words: tuple[dict[str, Any], ...] = (),
) -> None:
    """Write the files of a run of a minute."""
    for t in range(int(SECONDS)):
        sample = ResourceSample(float(t), True, int(memory(t)), 20, 5, 1, int(harness(t)), 10, 0.001)
        append(folder / "samples.jsonl", sample._asdict())
    for t in range(0, int(SECONDS), 5):
        through, direct = trips(t)
        found = {"p50": through, "p99": 2 * through, "direct_p50": direct, "direct_p99": 2 * direct}
        append(folder / "trips.jsonl", {"t": float(t), **found})
    kill = {"name": "kill", "target": "upstream", "t": 20.0, "took_hold": 20.1, "cleared": 21.0, "problem": None}
    append(folder / "faults.jsonl", kill)
    for name in ("upstream", "clients"):
        words_file(folder / f"{name}.ledger").touch()
    for line in words:
        append(words_file(folder / "clients.ledger"), line)


def _judge(done: SoakResult) -> Judgement:
    return judge(done, SoakEvidence.of(done.folder))


def _bad(judgement: Judgement) -> list[str]:
    return [result.label for result in judgement.results if result.verdict is not Verdict.VALID]


def test_a_run_without_violations_is_valid(tmp_path: Path) -> None:
    """Everything is measured, and flat."""
    _write(tmp_path)
    found = _judge(_done(tmp_path))
    assert (found.verdict, list(found.doubts)) == (Verdict.VALID, [])
    assert all(result.value is not None for result in found.results)


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"upstream": _counts(upstream.ROWS, lost=1)}, ["lost c2u"]),
        ({"clients": _counts(clients.ROWS, reordered=1)}, ["reordered u2c"]),
        ({"clients": _counts(clients.ROWS, corrupted=1)}, ["corrupted u2c"]),
        ({"upstream": _counts(upstream.ROWS, repeated=1)}, ["duplicated c2u"]),
        ({"footprints": [_footprint("before"), _footprint("after", files=13)]}, ["leaks"]),
        ({"footprints": [_footprint("before"), _footprint("after", sessions=1)]}, ["leaks"]),
        ({"stayed": 2}, ["sessions_lost"]),
    ],
)
def test_a_violation_makes_it_invalid(tmp_path: Path, fields: dict[str, Any], bad: list[str]) -> None:
    """A single violation is enough."""
    _write(tmp_path)
    found = _judge(_done(tmp_path, **fields))
    assert (found.verdict, _bad(found)) == (Verdict.INVALID, bad)


def test_peers_that_do_not_count_may_get_a_message_again(tmp_path: Path) -> None:
    """PROTOCOL.md section 2: at least once."""
    _write(tmp_path)
    done = _done(tmp_path)
    done.upstream["plain"][Counted.REPEATED] = done.clients["plain"][Counted.REPEATED] = 9
    assert _judge(done).verdict is Verdict.VALID


ENDED = {"t": 125.0, "what": "the aware client c01.1 was disconnected: 1006", "count": "ended", "path": "plain"}


@pytest.mark.parametrize(
    ("profile", "t", "bad"),
    [
        (Profile.EXACTLY_ONCE, 120.5, ["lost c2u", "duplicated u2c", "sessions_lost"]),
        (Profile.TRANSPARENT, 120.5, ["lost c2u", "duplicated u2c"]),
        (Profile.TRANSPARENT, 145.0, ["lost c2u", "duplicated u2c", "sessions_lost"]),
        (Profile.RECONNECTING, 120.5, []),
        (Profile.AT_LEAST_ONCE, 120.5, ["lost c2u"]),
    ],
)
def test_a_system_is_judged_by_what_it_claims(tmp_path: Path, profile: Profile, t: float, bad: list[str]) -> None:
    """A fault at 120 s explains the end of a session, but not 25 s later, and not if sessions have to outlive it."""
    _write(tmp_path, words=({**ENDED, "t": t, "since": 101.0, "name": "c01.1"},))
    lossy = {"upstream": _counts(upstream.ROWS, lost=1), "clients": _counts(clients.ROWS, repeated=1)}
    found = _judge(_done(tmp_path, plan=SoakPlan(SECONDS, 10, 1, profile=profile), **lossy))
    assert _bad(found) == bad


def test_the_profile_of_a_preset_is_known() -> None:
    """This project's proxy has to keep everything; of a command nothing is known, so that it has to as well."""
    systems = {"nginx": Profile.TRANSPARENT, None: Profile.EXACTLY_ONCE, "x {listen} {upstream}": Profile.EXACTLY_ONCE}
    assert {system: SoakPlan(1.0, 1, 1, system).judged_as for system in systems} == systems
    assert SoakPlan(1.0, 1, 1, "nginx", profile=Profile.RECONNECTING).judged_as is Profile.RECONNECTING


def test_memory_that_grows_makes_it_invalid(tmp_path: Path) -> None:
    """After the warm-up: a quarter of a mebibyte a second."""
    _write(tmp_path, memory=lambda t: 40e6 + 2**18 * t)
    found = _judge(_done(tmp_path))
    assert (found.verdict, _bad(found)) == (Verdict.INVALID, ["memory_growth"])


def test_memory_may_grow_at_first_and_jump(tmp_path: Path) -> None:
    """An allocator keeps what it has; and queues during a fault take memory for a while."""
    _write(tmp_path, memory=lambda t: 40e6 + 1e6 * min(t, 11) + (80e6 if 30 < t < 36 else 0))
    assert _judge(_done(tmp_path)).verdict is Verdict.VALID


def test_round_trips_that_become_slower_make_it_invalid(tmp_path: Path) -> None:
    """In the last third, against the first."""
    _write(tmp_path, trips=lambda t: (0.002 + 0.001 * t, 0.001))
    found = _judge(_done(tmp_path))
    assert (found.verdict, _bad(found)) == (Verdict.INVALID, ["latency_p50", "latency_p99"])


def test_the_machine_may_become_slower(tmp_path: Path) -> None:
    """The round trips past the proxy show it."""
    _write(tmp_path, trips=lambda t: (0.002 + 0.001 * t, 0.001 + 0.0005 * t))
    assert _judge(_done(tmp_path)).verdict is Verdict.VALID


def test_a_proxy_that_becomes_slower_on_a_slower_machine_is_found_out(tmp_path: Path) -> None:
    """A machine that is half as fast does not excuse a proxy that is ten times slower."""
    _write(tmp_path, trips=lambda t: (0.002, 0.001) if t < 30 else (0.02, 0.002))
    assert _bad(_judge(_done(tmp_path))) == ["latency_p50", "latency_p99"]


@pytest.mark.parametrize(
    ("line", "excused"),
    [
        ({"t": 121.5, "since": 105.0, "path": "aware"}, True),
        ({"t": 121.5, "since": 105.0, "path": "plain"}, False),
        ({"t": 119.0, "since": 105.0, "path": "aware"}, False),
        ({"t": 150.0, "since": 125.0, "path": "aware"}, False),
    ],
)
def test_only_an_upstream_that_forgot_its_sessions_excuses_their_end(
    tmp_path: Path, line: dict[str, Any], excused: bool
) -> None:
    """It was killed at 120 s, and back at 121 s: this excuses older sessions with the upstream that keeps sessions."""
    told = {**line, "what": "the aware client c1.1 was disconnected: 1014 upstream lost the session", "count": "ended"}
    _write(tmp_path, words=(told,))
    found = _judge(_done(tmp_path))
    assert found.verdict is (Verdict.VALID if excused else Verdict.INVALID)
    assert _bad(found) == ([] if excused else ["sessions_lost"])


@pytest.mark.parametrize(
    ("fields", "doubt"),
    [
        ({"faults": {}}, "no fault took hold"),
        ({"upstream": _counts(upstream.ROWS, arrived=0)}, "no message arrived c2u"),
        ({"footprints": [_footprint("before")]}, "leaks had too little to measure"),
    ],
)
def test_a_run_that_proves_nothing_is_unknown(tmp_path: Path, fields: dict[str, Any], doubt: str) -> None:
    """Nothing was wrong, but nothing was tested either."""
    _write(tmp_path)
    found = _judge(_done(tmp_path, **fields))
    assert found.verdict is Verdict.UNKNOWN
    assert doubt in found.doubts


def test_a_harness_that_grows_is_a_doubt(tmp_path: Path) -> None:
    """Its own memory has to be flat as well."""
    _write(tmp_path, harness=lambda t: 90e6 + 3e6 * t)
    assert any("the harness itself has grown by" in doubt for doubt in _judge(_done(tmp_path)).doubts)


def test_a_proxy_that_ended_makes_it_invalid(tmp_path: Path) -> None:
    """Even if everything was right until then."""
    _write(tmp_path)
    found = _judge(_done(tmp_path, ended="the system under test has ended, with status 3"))
    assert found.verdict is Verdict.INVALID
    assert "the system under test has ended, with status 3" in found.doubts


def test_the_results_can_be_read_by_a_program(tmp_path: Path) -> None:
    """The table as Markdown, and the same as JSON."""
    _write(tmp_path)
    done, evidence = _done(tmp_path), SoakEvidence.of(tmp_path)
    found = judge(done, evidence)
    text = table.to_markdown(table.table(done, found, evidence), found, "reconnect-harness soak --sut 'a | b'")
    assert text.startswith("\nMade by `reconnect-harness soak --sut 'a | b'`: valid.\n")
    assert "| memory_growth | 0.0 MiB | 5.9 MiB |" in text
    assert "| faults | 4 of 2 kinds |  |" in text
    fields = json.loads(json.dumps(table.to_json(done, found, "reconnect-harness soak")))
    assert fields["verdict"] == "valid"
    assert {check["check"] for check in fields["checks"]} >= {"lost c2u", "leaks", "memory_growth", "latency_p99"}
