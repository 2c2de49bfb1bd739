"""Random timelines: what is drawn is a scenario that can be run; a bug is found and shrunk; nothing is left."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.cli import main
from reconnect_harness.fuzz.fuzz import Fuzzer, SearchResult
from reconnect_harness.fuzz.timelines import Level, Said, guarantees, scenarios
from reconnect_harness.profile import Profile
from reconnect_harness.scenario.find import load_scenario, parse_scenario
from reconnect_harness.scenario.fit import misfit
from reconnect_harness.simulate import simulation
from reconnect_proxy.core.outbox import Outbox
from tests.reconnect_harness.leftovers import descendants, survivors
from tests.reconnect_harness.run.test_runner import RELAY
from tests.reconnect_harness.waiting import wait_until

DRAWN = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

#: Not the one of this machine, so that it is tried as well.
EMBEDDED = ("--toxiproxy", "embedded")


def _forgets_the_order(outbox: Outbox, n: int) -> None:
    first, last = n - outbox._before, outbox.sent - outbox._before
    again = outbox._messages[first:last]
    outbox._messages[first:] = [*outbox._messages[last:], *reversed(again)]
    outbox.sent = n


# What is drawn.


@DRAWN
@given(scenarios(Level.REAL))
def test_what_is_drawn_for_real_is_a_scenario(said: Said) -> None:
    """As a YAML file holds it: written and read again it is the same."""
    assert parse_scenario(said, "drawn").faults
    assert yaml.safe_load(yaml.safe_dump(said)) == said


@DRAWN
@given(scenarios(Level.SIMULATED))
def test_what_is_drawn_for_the_simulation_can_be_simulated(said: Said) -> None:
    """Every kind and fault in it is one that there is."""
    simulation.check(parse_scenario(said, "drawn"))


def _said(client: str, upstream: str, *faults: dict[str, Any], **proxy: Any) -> Said:
    load = {"send": "9/s", "for": "1s"}
    return {
        "proxy": {"mode": "duplex", **proxy},
        "clients": {"kind": client, **load},
        "upstream": {"kind": upstream},
        "faults": list(faults),
    }


DOWN = {"link": "upstream", "do": "down", "at": "1s", "for": "1s"}
LATE = {"link": "client", "do": "latency", "at": "1s", "for": "1s", "latency": 1}
GONE = {"link": "client", "do": "reset", "at": "1s"}


@pytest.mark.parametrize(
    ("said", "promised"),
    [
        (_said("aware", "aware", DOWN, GONE), {"lost c2u", "duplicated c2u", "lost u2c", "duplicated u2c", "stays"}),
        (_said("plain", "record", LATE), {"lost c2u", "duplicated c2u", "lost u2c", "duplicated u2c", "stays"}),
        (_said("plain", "record", DOWN), {"lost c2u", "duplicated u2c", "stays"}),
        (_said("plain", "record", DOWN, uncertain="drop"), {"duplicated c2u", "duplicated u2c", "stays"}),
        (_said("reconnecting", "aware", GONE), {"duplicated c2u", "lost u2c"}),
        (_said("aware", "record", GONE), {"lost c2u", "duplicated c2u", "lost u2c", "duplicated u2c", "stays"}),
        (_said("plain", "record", {**DOWN, "process": "upstream"}), {"lost c2u", "duplicated u2c", "stays"}),
    ],
)
def test_only_what_a_correct_proxy_keeps_is_expected(said: Said, promised: set[str]) -> None:
    """Exactly once at a peer that counts, at least once at others; no client is disconnected by the other side."""
    expect = guarantees(said, Level.REAL)
    found = {f"{check} {way}" for way in ("c2u", "u2c") for check in ("lost", "duplicated") if expect[way][check] == 0}
    assert found | ({"stays"} if expect["client_disconnects"] == 0 else set()) == promised
    assert expect["c2u"]["reordered"] == expect["u2c"]["reordered"] == 0


@pytest.mark.parametrize(
    ("profile", "said", "promised"),
    [
        (Profile.TRANSPARENT, _said("reconnecting", "record", DOWN), {"duplicated c2u", "duplicated u2c", "within"}),
        (
            Profile.TRANSPARENT,
            _said("plain", "record", LATE),
            {"lost c2u", "duplicated c2u", "lost u2c", "duplicated u2c", "stays", "within", "ordered"},
        ),
        (
            Profile.RECONNECTING,
            _said("plain", "record", DOWN),
            {"duplicated c2u", "duplicated u2c", "stays", "ordered"},
        ),
        (Profile.RECONNECTING, _said("reconnecting", "record", GONE), {"duplicated c2u", "duplicated u2c"}),
        (Profile.AT_LEAST_ONCE, _said("plain", "record", DOWN), {"lost c2u", "duplicated u2c", "stays", "ordered"}),
    ],
)
def test_only_what_a_profile_claims_is_expected(profile: Profile, said: Said, promised: set[str]) -> None:
    """Without faults that end connections, everything."""
    expect = guarantees(said, Level.REAL, profile)
    found = {f"{check} {way}" for way in ("c2u", "u2c") for check in ("lost", "duplicated") if expect[way][check] == 0}
    found |= {"stays"} if expect["client_disconnects"] == 0 else set()
    found |= {"within"} if expect.get("within_connection") == 0 else set()
    found |= {"ordered"} if expect["c2u"]["reordered"] == expect["u2c"]["reordered"] == 0 else set()
    assert found == promised


@pytest.mark.parametrize("profile", [profile for profile in Profile if profile is not Profile.EXACTLY_ONCE])
def test_what_is_drawn_for_a_profile_fits_it(profile: Profile) -> None:
    """And has one proxy without options, in front of one upstream."""

    @DRAWN
    @given(scenarios(Level.REAL, profile))
    def drawn(said: Said) -> None:
        chosen = parse_scenario(said, "drawn")
        assert misfit(chosen, profile) is None
        assert (chosen.chain, chosen.proxy, chosen.upstream.count) == ([], {"mode": "duplex"}, 1)

    drawn()


# The simulated level.


def _searched(out: Path, within: float = 60.0, seed: int = 1) -> SearchResult:
    with Fuzzer(Level.SIMULATED, within, seed=seed, out=out) as fuzzer:
        return fuzzer.search()


def test_a_correct_core_comes_out_clean(tmp_path: Path) -> None:
    """Of the timelines that a few seconds are enough for, none is `invalid`."""
    outcome = _searched(tmp_path, 5.0)
    assert outcome.finding is None, outcome.lines()
    assert outcome.verdicts[Verdict.VALID] > 0
    assert outcome.verdicts[Verdict.INVALID] == 0


def test_a_bug_is_found_and_shrunk_to_a_file_that_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One client and one fault are left; the command in the file fails while the bug is there, and not without it."""
    monkeypatch.chdir(tmp_path)
    search = ["fuzz", "--level", "simulated", "--for", "60s", "--seed", "6", "--scenario-out", "out"]
    with monkeypatch.context() as broken:
        broken.setattr(Outbox, "rewind", _forgets_the_order)
        assert main(search) == 1
        said = capsys.readouterr().out
        assert "arrived" in said
        file = Path("out/fuzz-simulated-6.yaml")
        found = load_scenario(file)
        assert found.clients.count == 1
        assert len(found.faults) <= 2
        program, *again = shlex.split(found.summary.partition("Repeat it with: ")[2])
        assert program == "reconnect-harness"
        assert main(again) == 1
    assert json.loads(Path("out/fuzz-simulated-6/results.json").read_text())["verdict"] == "invalid"
    assert Path("out/fuzz-simulated-6/report.html").is_file()
    assert main(again) == 0
    # Nothing but results, and those in the folders for them.
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "scenario-runs"}


def test_a_seed_makes_the_same_timelines_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same one is the first to fail."""
    monkeypatch.setattr(Outbox, "rewind", _forgets_the_order)
    before = [_searched(tmp_path / str(index), seed=7).verdicts for index in (1, 2)]
    assert before[0] == before[1]
    assert before[0][Verdict.INVALID] == 1


# The real level.


def test_a_relay_that_loses_messages_is_found_though_it_may_disconnect(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A transparent one may lose connections, and with them their last messages, but nothing in between."""
    search = ["fuzz", "--for", "60s", "--sut", f"{RELAY} --drop 40", "--profile", "transparent", "--seed", "2"]
    assert main([*search, *EMBEDDED, "--out", str(tmp_path)]) == 1
    said = capfd.readouterr().out
    assert "judged as transparent" in said
    assert "client_disconnects: " not in said
    assert re.search("never arrived", said), said
    assert "--profile=transparent" in said


def test_a_broken_proxy_is_found_for_real(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With a scenario file, the report of the run that failed, and no process left."""
    before = descendants()
    system = f"{RELAY} --drop 5"
    assert (
        main(["fuzz", "--for", "25s", "--sut", system, "--toxiproxy", "embedded", "--scenario-out", str(tmp_path)]) == 1
    )
    found = load_scenario(tmp_path / "fuzz-real-1.yaml")
    assert f"--sut={shlex.quote(system)}" in found.summary
    assert json.loads((tmp_path / "fuzz-real-1" / "results.json").read_text())["verdict"] == "invalid"
    assert not (tmp_path / "fuzz-real-1-last").exists()
    assert descendants() <= before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_search_that_is_ended_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM stop everything that was started."""
    command = [sys.executable, "-m", "reconnect_harness.cli", "fuzz", "--for", "100s", *EMBEDDED]
    with subprocess.Popen([*command, "--scenario-out", str(tmp_path)], stdout=subprocess.DEVNULL) as fuzzing:
        there = psutil.Process(fuzzing.pid)
        wait_until(lambda: (tmp_path / "fuzz-real-1-last" / "clients.jsonl").exists())
        started = there.children(recursive=True)
        fuzzing.send_signal(number)
        assert fuzzing.wait(60) != 0
    assert len(started) >= 3
    assert survivors(started) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--for", "soon"], "--for"),
        (["--level", "unreal"], "'unreal'"),
        (["--sut", "ws://127.0.0.1:1"], "has an upstream of its own"),
        (["--sut", "my-proxy --fast"], "does not say where to listen"),
        (["--level", "simulated", "--sut", "p {listen} {upstream}"], "only the core of this proxy can be simulated"),
        (["--level", "simulated", "sender-receiver-bad-network"], "cannot be simulated"),
        (["upstream-flop"], "there is no scenario 'upstream-flop'"),
    ],
)
def test_a_bad_request_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    """On stderr, with exit code 2, and nothing is made."""
    assert main(["fuzz", *arguments, "--scenario-out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_outcome_says_how_many_timelines_there_were() -> None:
    """And why some of them proved nothing."""
    outcome = SearchResult(Counter({Verdict.VALID: 1234, Verdict.UNKNOWN: 2}), Counter({"no message arrived c2u": 2}))
    assert outcome.lines() == [
        "1,236 timelines: 1,234 valid, 0 invalid, 2 unknown",
        "unknown, 2 times: no message arrived c2u",
    ]
