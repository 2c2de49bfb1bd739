"""A real run, as small as can be, from the command line to its files."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from reconnect_harness.bench import plots
from reconnect_harness.bench.table import BEGIN, END
from reconnect_harness.cli import main
from tests.reconnect_harness.leftovers import descendants

#: A relay that cuts something off.
BROKEN = """
import asyncio, sys
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

async def handle(client):
    async with connect(f"ws://{sys.argv[2]}{client.request.path}") as server:
        async for message in client:
            await server.send(message)
            answer = await server.recv()
            await client.send(answer[1:] if len(answer) == 128 else answer)

async def main():
    async with serve(handle, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()

asyncio.run(main())
"""

SMALL = ["--rounds", "1", "--seconds", "200ms"]


def _bench(out: Path, *arguments: str) -> int:
    return main(["bench", *SMALL, "--out", str(out), *arguments])


def test_a_run_measures_each_contender_in_each_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It leaves bench.json, pictures and tables, and no process."""
    before = descendants()
    suts = [word for name in ("direct", "websockets", "reconnect-proxy") for word in ("--sut", name)]
    shapes = ["request-reply", "pipelined", "c2u", "u2c", "fan-out", "paced", "open", "crowd", "recover", "burst"]
    chosen = [word for shape in [*shapes, "drain"] for word in ("--shape", shape)]
    doc = tmp_path / "doc.md"
    doc.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert _bench(tmp_path / "out", *suts, *chosen, "--connections", "4", "--markdown", str(doc)) == 0
    assert descendants() == before

    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert not [sample for sample in found["samples"] if "problem" in sample]
    by = {(sample["case"].split(",")[0], sample["contender"]): sample for sample in found["samples"]}
    assert {shape for shape, name in by if name == "reconnect-proxy"} == {*shapes, "drain"}
    assert {shape for shape, name in by if name == "websockets"} == {*shapes} - {"recover"}
    for (shape, name), sample in by.items():
        if shape != "recover":
            assert sample["per_second"] > 0
            assert ("cpu_us" in sample) == (name != "direct")
        if shape in ("request-reply", "paced"):
            assert 0 < sample["p50_us"] <= sample["p99_us"] <= sample["p999_us"]
    assert by["recover", "reconnect-proxy"]["seconds"] > 0
    assert by["drain", "reconnect-proxy"]["cpu_us"] > 0

    text = doc.read_text()
    assert re.search(rf"^before\n{BEGIN}\nMade by `reconnect-harness bench (?s:.*){END}\nafter$", text, re.MULTILINE)
    assert "old" not in text
    assert "| pipelined, 128 B, 4 connections (32 in flight) | reconnect-proxy |" in text
    names = {path.name for path in (tmp_path / "out").glob("*.svg")}
    assert names == {"cpu.svg", "latency.svg", *(["sessions.svg"] if sys.platform == "linux" else [])}
    capsys.readouterr()


def test_check_fails_for_what_was_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget that was not measured fails, and is named."""
    assert _bench(tmp_path / "out", "--sut", "direct", "--size", "1KiB", "--markdown", "-", "--check") == 1
    said = capsys.readouterr().out
    assert "| CPU time a round trip, 128 B, against nginx | at most 1.20 x | this run has no cpu_us of" in said
    assert said.count("| not measured |") == 11


def test_a_contender_that_does_not_start_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A note says so, and the others are measured."""
    command = f"{sys.executable} -c 'raise SystemExit(3)' {{listen}} {{upstream}}"
    assert _bench(tmp_path / "out", "--sut", command, "--sut", "direct", "--size", "64", "--markdown", "-") == 0
    said = capsys.readouterr().out
    assert "was left out: the system under test did not start: it ended with status 3" in said
    assert "| pipelined, 64 B, 16 connections (32 in flight) | direct |" in said


def test_a_contender_that_breaks_messages_is_caught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no figures, however fast it is."""
    broken = tmp_path / "broken.py"
    broken.write_text(BROKEN)
    command = f"{sys.executable} {broken} {{listen_port}} {{upstream}}"
    assert _bench(tmp_path / "out", "--sut", command, "--shape", "request-reply", "--markdown", "-") == 0
    samples = json.loads((tmp_path / "out" / "bench.json").read_text())["samples"]
    assert [sample["problem"] for sample in samples] == ["has turned a message of 128 bytes into one of 127"]
    assert "| not measured: it has turned a message" in capsys.readouterr().out


def test_without_matplotlib_there_is_all_but_the_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert _bench(tmp_path / "out", "--sut", "direct", "--size", "64", "--markdown", "-") == 0
    said = capsys.readouterr().err
    assert "there are no plots, since matplotlib is not installed: pip install 'reconnect-proxy[bench]'" in said
    assert (tmp_path / "out" / "bench.json").exists()
    assert plots.__name__ in sys.modules


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sut", "ngnix"], "there is no system under test 'ngnix': did you mean nginx"),
        (["--sut", "ws://127.0.0.1:1"], "a service that runs already cannot be measured"),
        (["--shape", "triangle"], "'triangle' is not one of"),
        (["--size", "0"], "'0' is too little: it must be more than 0"),
        (["--seconds", "soon"], "'soon' is not a duration"),
        (["--size", "1MiB", "--connections", "1000"], "nothing is left to measure: pipelined, 1 MiB"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    """Before anything is started."""
    assert main(["bench", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_without_markers_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be any text; and it is checked before the run, which takes minutes."""
    doc = tmp_path / "doc.md"
    doc.write_text("mine\n")
    assert _bench(tmp_path / "out", "--sut", "direct", "--markdown", str(doc)) == 2
    assert f"{doc} has no lines {BEGIN}" in capsys.readouterr().err
    assert doc.read_text() == "mine\n"
    assert not (tmp_path / "out").exists()
