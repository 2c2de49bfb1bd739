"""A real soak, as small as can be, from the command line to its files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from reconnect_harness.cli import main
from reconnect_harness.soak import soak, testbed
from tests.reconnect_harness.leftovers import descendants, survivors
from tests.reconnect_harness.waiting import wait_until

ROOT = Path(__file__).parents[3]

#: Ends by itself after some seconds.
SHORT_LIVED = (
    f"timeout 4 {sys.executable} -m reconnect_proxy.cli serve --listen {{listen}} --upstream ws://{{upstream}}"
)


@pytest.fixture(autouse=True)
def _proxies_find_our_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = descendants()
    yield
    assert descendants() == before


def _soak(out: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a soak; return its exit code and what it has written."""
    options = ["--sessions", "12", "--proxy", "grace=1s", "--out", str(out)]
    code = main(["soak", *options, *arguments])
    return code, json.loads((out / "soak-1" / "soak.json").read_text())


def _bad(found: dict[str, Any]) -> set[str]:
    return {check["check"] for check in found["checks"] if check["verdict"] == "invalid"}


def test_a_soak_leaves_its_verdict_its_samples_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is lost in spite of the faults. Whether memory is flat can only be seen in longer runs."""
    code, found = _soak(tmp_path, "--for", "12s")
    said = capsys.readouterr().out
    assert code == (found["verdict"] != "valid")
    assert not _bad(found) & {"lost c2u", "lost u2c", "reordered c2u", "reordered u2c", "duplicated c2u", "leaks"}, said
    assert found["seconds"] >= 12
    assert f"soak: {found['verdict']} ({found['seconds']:.0f}s)" in said
    assert "| lost c2u | 0 | 0 |" in said
    assert sum(found["faults"].values()) > 0
    for end in ("upstream", "clients"):
        assert all(counts["arrived"] > 0 for counts in found["counts"][end].values())
    samples = [json.loads(line) for line in (tmp_path / "soak-1" / "samples.jsonl").read_text().splitlines()]
    assert len(samples) >= 10
    assert all(sample["memory"] > 0 and sample["files"] > 0 and sample["harness"] > 0 for sample in samples)
    assert any(sample["sessions"] for sample in samples)
    picture = (tmp_path / "soak-1" / "soak.svg").read_text()
    assert all(word in picture for word in ("memory", "descriptors", "sessions", "round trip p50", "trend"))
    assert picture.count("fill: #f3e3d9") == 5, "all faults are one shape on each panel"


@pytest.mark.parametrize(
    ("wrong", "checks"),
    [("Leaking", {"memory_growth", "leaks", "latency_p50"}), ("Losing", {"lost c2u"})],
)
def test_a_proxy_that_leaks_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wrong: str, checks: set[str]
) -> None:
    """Each check can fail: memory, descriptors, latency, messages."""
    # What never comes need not be waited for.
    monkeypatch.setattr(soak, "REST_SECONDS", 5.0)
    monkeypatch.setattr(testbed, "PATIENCE", 10.0)
    code, found = _soak(tmp_path, "--for", "14s", "--proxy", f"hooks=tests.reconnect_harness.soak.leaky:{wrong}")
    assert code == 1
    assert found["verdict"] == "invalid"
    assert checks <= _bad(found), capsys.readouterr().out


def test_a_proxy_that_ends_ends_the_soak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At once, with a sentence that says so."""
    code, found = _soak(tmp_path, "--for", "10m", "--sut", SHORT_LIVED)
    assert code == 1
    assert found["verdict"] == "invalid"
    assert found["seconds"] < 60
    assert "the system under test has ended, with status" in capsys.readouterr().out


def _begun(folder: Path) -> bool:
    file = folder / "out" / "soak-1" / "samples.jsonl"
    return file.exists() and file.read_text().count("\n") >= 3


def _interrupted(folder: Path) -> subprocess.Popen[str]:
    """Start a soak, interrupt it in the middle, and return its process."""
    command = [sys.executable, "-m", "reconnect_harness.cli", "soak", "--for", "1h", "--sessions", "6", "--out", "out"]
    process = subprocess.Popen(
        [*command, "--proxy", "grace=1s"], cwd=folder, start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: _begun(folder))
    return process


def test_ctrl_c_ends_it_early_with_a_verdict(tmp_path: Path) -> None:
    """The verdict is on what was run. Nothing is left behind."""
    process = _interrupted(tmp_path)
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 5
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate()
    found = json.loads((tmp_path / "out" / "soak-1" / "soak.json").read_text())
    assert found["interrupted"]
    assert not _bad(found) & {"lost c2u", "lost u2c", "leaks"}, said
    assert process.returncode == (found["verdict"] != "valid")
    assert ", interrupted)" in said
    assert not survivors(started)


def _end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal repeatedly, as an impatient user does: two signals at the same moment count as one."""
    while process.poll() is None:
        os.kill(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=0.2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_ended_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """By a second Ctrl-C, or by another signal."""
    process = _interrupted(tmp_path)
    started = psutil.Process(process.pid).children(recursive=True)
    _end(process, number)
    assert not survivors(started)
    assert process.returncode != 0
    assert not (tmp_path / "out" / "soak-1" / "soak.json").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--for", "soon"], "'soon' is not a duration"),
        (["--for", "0"], "'0' is too little: it must be more than 0"),
        (["--sut", "ws://127.0.0.1:1"], "a soak measures the memory and the descriptors of a process"),
        (["--sut", "direct"], "a soak measures the memory and the descriptors of a process"),
        (["--sut", "ngnix"], "there is no system under test 'ngnix': did you mean nginx"),
        (["--proxy", "grace"], "'grace' is not of the form NAME=VALUE"),
        (["--proxy", "graze=1s"], "graze"),
    ],
)
def test_what_cannot_be_soaked_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    """Before anything is started."""
    assert main(["soak", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_there_is_all_but_the_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _soak(tmp_path, "--for", "1s")
    said = capsys.readouterr().err
    assert "there are no plots, since matplotlib is not installed: pip install 'reconnect-proxy[bench]'" in said
