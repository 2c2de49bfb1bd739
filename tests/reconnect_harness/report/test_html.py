"""The page that a run leaves, as text and in a real browser."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.checks.checkers import judge
from reconnect_harness.cli import main
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, LinkEvent
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.results_folder import write_run
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.sut.choose import folder_name
from tests.chromium import CHROMIUM
from tests.reconnect_harness.histories import conversation, fault, history, message
from tests.reconnect_harness.report.browser import tab
from tests.reconnect_harness.run.test_runner import RELAY
from tests.reconnect_harness.test_plugin import MINE

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: the page is not looked at")


def _left(folder: Path, found: History, expect: dict[str, object] | None = None, system: str = "a proxy") -> Path:
    """Judge a history and write the files of a run."""
    chosen = parse_scenario(
        {
            "name": "mine",
            "summary": "It holds <always>.",
            "upstream": {"kind": "push", "push": "1/s"},
            "clients": {"kind": "plain", "send": "1/s", "for": "10s"},
            "expect": expect or {"lost": 0, "duplicated": "report"},
        },
        "test",
    )
    folder.mkdir(exist_ok=True)
    judgement = judge(found, chosen.expect, chosen.directions)
    write_run(RunResult(chosen, 7, system, "a Toxiproxy", folder, found, judgement, 12.0), "pytest --scenario=mine")
    return folder / "report.html"


def _found(arrivals: Iterable[int], back: Iterable[int] = range(1, 11), start: float = 0.0) -> History:
    up = conversation(arrivals)
    down = conversation(back, direction=Direction.U2C, stream="u1.1")
    ended = LinkEvent(4.5, End.CLIENT, "c01", "disconnected", False, 1006, "gone")
    found = history(*up, *down, faults=[fault(4.0, 4.9)], links=[ended])
    found.start = start
    return found


def _text(page: str) -> str:
    body = page[page.index("<main>") : page.index("</main>")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def _data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*)</script>', page)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_page_of_a_valid_run_says_so(tmp_path: Path) -> None:
    """It has what was tested, the versions, and the command that repeats it."""
    page = _left(tmp_path, _found(range(1, 11))).read_text()
    said = _text(page)
    assert "✓ valid" in said
    assert "0 wrong messages." in said
    for part in ("a proxy", "a Toxiproxy", "pytest --scenario=mine", "No message was wrong", "down upstream"):
        assert part in said
    assert "It holds &lt;always&gt;." in page
    assert "upstream push, pushes 1/s" in said


def test_the_page_of_an_invalid_run_names_its_messages(tmp_path: Path) -> None:
    """Which, when, what was wrong, and what fault was on."""
    page = _left(tmp_path, _found([1, 2, 3, 4, 6, 7, 8, 9, 10])).read_text()
    said = _text(page)
    assert "✕ invalid" in said
    assert "lost c2u: 1, and may be 0" in said
    assert "1 wrong message." in said
    assert "c2u c01 5 100 B 5.000 s never lost down upstream show" in said
    assert _data(page)["failed"] == ["lost c2u"]


def test_what_a_scenario_allows_is_told_apart(tmp_path: Path) -> None:
    """It is counted and listed, and does not make the run invalid."""
    said = _text(_left(tmp_path, _found([1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10])).read_text())
    assert "✓ valid" in said
    assert "0 wrong messages, and 1 with a flaw that the scenario allows." in said


def test_a_client_that_was_disconnected_is_listed(tmp_path: Path) -> None:
    """With the code, and the fault that was on."""
    said = _text(_left(tmp_path, _found(range(1, 11))).read_text())
    assert "client_disconnects: 1, which the scenario allows at what" in said
    assert "4.500 s client c01 disconnected: 1006 gone down upstream show" in said


def test_a_run_that_proves_nothing_says_why(tmp_path: Path) -> None:
    """A run without a message is a page too."""
    said = _text(_left(tmp_path, History()).read_text())
    assert "? unknown" in said
    assert "nothing is proven: no message was sent c2u" in said


def test_the_page_made_again_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From history.jsonl and results.json alone; where it lies is printed."""
    page = _left(tmp_path, _found([1, 2, 4, 3, 3], start=0.5))
    first = page.read_text()
    page.unlink()
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert page.read_text() == first


@pytest.mark.parametrize(
    ("missing", "text", "complaint"),
    [
        ("results.json", None, "holds no run: there is no results.json in it"),
        ("history.jsonl", None, "holds no run: there is no history.jsonl in it"),
        ("results.json", "{", "holds a run that cannot be read"),
        ("results.json", "{}", "holds a run that cannot be read"),
        ("history.jsonl", '{"event":"sent"}\n', "history.jsonl, line 1: it is not an event of a history"),
    ],
)
def test_a_folder_that_holds_no_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str, text: str | None, complaint: str
) -> None:
    """On stderr, with exit code 2."""
    _left(tmp_path, _found(range(1, 11)))
    (tmp_path / missing).unlink()
    if text is not None:
        (tmp_path / missing).write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    """No address in it, and a policy that would forbid to load one."""
    page = _left(tmp_path, _found(range(1, 11))).read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", re.sub(r"(?m)^\s*//.*$", "", page))


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "<!--", "$name"])
def test_a_name_cannot_break_out_of_the_page(tmp_path: Path, name: str) -> None:
    """What a peer calls itself is data."""
    found = history(*conversation([1, 3], stream=name, name=name))
    page = _left(tmp_path, found, system=name).read_text()
    assert page.count("<script") == 2
    assert page.count("<!--") == 0
    assert _data(page)["sessions"][0]["name"] == name


@in_a_browser
@pytest.mark.parametrize(
    ("arrivals", "verdict", "counted"),
    [
        (range(1, 11), "✓ valid", "0 wrong messages."),
        ([1, 2, 4, 3, 3, 7, 8, 9, 10], "✕ invalid", "3 wrong messages, and 1 with a flaw that the scenario allows."),
        ([], "✕ invalid", "10 wrong messages."),
    ],
)
async def test_a_browser_shows_it_without_a_complaint(
    tmp_path: Path, arrivals: Iterable[int], verdict: str, counted: str
) -> None:
    """The verdict and the count can be read, both pictures are drawn, and nothing is asked for but the page."""
    expect = {"lost": 0, "reordered": 0, "duplicated": "report"}
    page = _left(tmp_path / "run", _found(arrivals), expect)
    async with tab(tmp_path / "profile") as shown:
        await shown.open(page)
        assert (await shown.value("document.getElementById('verdict').innerText")) == verdict
        assert (await shown.value("document.getElementById('counted').innerText")) == counted
        for picture in ("diagram", "charts"):
            assert await _colours(shown, picture) > 20
        assert shown.complaints == []
        assert shown.requests == [page.as_uri()]


@in_a_browser
async def test_the_report_of_a_real_run_is_shown(tmp_path: Path) -> None:
    """With as many wrong messages as its checks have counted, and the command that repeats it."""
    (tmp_path / "mine.yaml").write_text(json.dumps(MINE))
    system = f"{RELAY} --repeat 50"
    arguments = ["-m", "reconnect_harness.cli", "run", "mine.yaml", "--sut", system, "--seed", "3", "--out", "out"]
    # A process of its own: a run takes over the signals of the one that it is in.
    run = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=tmp_path)
    assert await run.wait() == 1
    folder = tmp_path / "out" / f"mine-{folder_name(system)}-3"
    results = json.loads((folder / "results.json").read_text())
    wrong = sum(check["value"] for check in results["checks"] if check["verdict"] == "invalid")
    assert wrong > 0
    assert results["repeat"] == f"pytest --scenario=mine.yaml --scenario-seed=3 --sut={shlex.quote(system)}"
    async with tab(tmp_path / "profile") as shown:
        await shown.open(folder / "report.html")
        assert (await shown.value("document.getElementById('verdict').innerText")) == "✕ invalid"
        counted = await shown.value("document.getElementById('counted').innerText")
        assert counted == f"{wrong} wrong message{'s' * (wrong != 1)}."
        assert results["repeat"] in await shown.value("document.querySelector('dl').innerText")
        assert shown.complaints == []
        assert shown.requests == [(folder / "report.html").as_uri()]


@in_a_browser
async def test_what_is_echoed_goes_there_and_back(tmp_path: Path) -> None:
    """A line of one message begins and ends at the client."""
    there = conversation([], sent=5)
    back = [message("received", n, n + 0.5, direction=Direction.U2C, stream="c01") for n in range(1, 6)]
    page = _left(tmp_path / "run", history(*there, *back, echoed=True), {"u2c": {"lost": 0}})
    async with tab(tmp_path / "profile") as shown:
        await shown.open(page)
        line = await shown.value("corners(data.sessions[0].u2c, 0, 'u2c')")
        assert [t for t, _ in line] == pytest.approx([1.0, 1.25, 1.5])
        assert line[0][1] == line[2][1] != line[1][1]
        assert await _colours(shown, "diagram") > 20
        assert shown.complaints == []


@in_a_browser
async def test_a_wrong_message_is_shown_in_the_diagram(tmp_path: Path) -> None:
    """Its button picks its session and its time; the keyboard leads back to the whole run."""
    page = _left(tmp_path / "run", _found([1, 2, 3, 4, 6, 7, 8, 9, 10]))
    async with tab(tmp_path / "profile") as shown:
        await shown.open(page)
        whole = await shown.value("document.getElementById('shown').innerText")
        await shown.value("document.querySelector('table.wrong button.show').click()")
        await shown.settle()
        assert await shown.value("document.getElementById('shown').innerText") == "4.70 to 5.30 s"
        assert await shown.value("document.getElementById('session').value") == "c01"
        await shown.call("Input.dispatchKeyEvent", type="keyDown", key="Escape")
        await shown.settle()
        assert await shown.value("document.getElementById('shown').innerText") == whole
        assert shown.complaints == []


@in_a_browser
async def test_pointing_at_a_line_tells_of_its_message(tmp_path: Path) -> None:
    """Its number, when it was sent and received, and how long it took."""
    page = _left(tmp_path / "run", _found(range(1, 11)))
    async with tab(tmp_path / "profile") as shown:
        await shown.open(page)
        await shown.value("(look(2.9, 3.3), document.getElementById('diagram').scrollIntoView())")
        await shown.settle()
        box = await shown.value("document.getElementById('diagram').getBoundingClientRect().toJSON()")
        at = await shown.value("place(document.getElementById('diagram').clientWidth)(3)")
        await shown.call("Input.dispatchMouseEvent", type="mouseMoved", x=box["x"] + at, y=box["y"] + 46)
        await shown.settle()
        said = await shown.value("document.getElementById('tip').innerText")
        assert said == "c2u c01 number 3, 100 bytes: sent at 3.0000 s, received at 3.5000 s, after 500 ms"


@in_a_browser
async def test_it_prints_on_white(tmp_path: Path) -> None:
    """Also after a dark screen, which is dark again afterwards."""
    page = _left(tmp_path / "run", _found(range(1, 11)))
    async with tab(tmp_path / "profile") as shown:
        await shown.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        await shown.open(page)
        assert await shown.value("colour('ground')") == "#14181d"
        await shown.value("window.dispatchEvent(new Event('beforeprint'))")
        assert await shown.value("colour('ground')") == "#ffffff"
        await shown.value("window.dispatchEvent(new Event('afterprint'))")
        assert await shown.value("colour('ground')") == "#14181d"
        assert shown.complaints == []


async def _colours(shown: Any, canvas: str) -> int:
    """Count the colours of a canvas: one that was not drawn has one."""
    found: int = await shown.value(
        f"""(() => {{
            const canvas = document.getElementById("{canvas}");
            const {{ data }} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return new Set(new Uint32Array(data.buffer)).size;
        }})()"""
    )
    return found
