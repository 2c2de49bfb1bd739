"""The web UI of a load run, in a real browser."""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import CHROMIUM
from tests.reconnect_harness.load.locust_run import FLAP, ended, free_port, running, said
from tests.reconnect_harness.report.browser import Tab, tab
from tests.reconnect_harness.waiting import until, wait_until


def _get(url: str, form: dict[str, str] | None = None) -> str:
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    with urllib.request.urlopen(url, data, timeout=30) as answer:
        return str(answer.read().decode())


def _is_up(url: str) -> bool:
    try:
        _get(url)
    except urllib.error.URLError:
        return False
    return True


async def _marks(page: Tab) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = await page.value("window.reconnectMarks()")
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
async def test_charts_and_tabs_show_the_faults(tmp_path: Path) -> None:
    """In the web UI while the run goes on, and in the report of it; STOP and Ctrl-C end it in good order."""
    scenario = tmp_path / "short-flap.yaml"
    scenario.write_text(FLAP)
    url = f"http://127.0.0.1:{free_port()}/base"
    port = urllib.parse.urlsplit(url).port
    options = ("--web-host", "127.0.0.1", "--web-port", str(port), "--web-base-path", "/base")
    with running(*options, "--scenario", str(scenario), "--html", str(tmp_path / "report.html")) as process:
        wait_until(lambda: _is_up(f"{url}/"))
        answer = json.loads(_get(f"{url}/swarm", {"user_count": "5", "spawn_rate": "5", "shape": "steady"}))
        assert answer["success"] is True
        wait_until(lambda: len(json.loads(_get(f"{url}/reconnect/faults"))) == 4)
        async with tab(tmp_path / "profile") as page:
            await page.call("Runtime.enable")
            await page.call("Page.navigate", url=f"{url}/?tab=charts")

            async def marked() -> bool:
                shown = await page.value("typeof window.reconnectMarks === 'function'")
                marks = await _marks(page) if shown else []
                # JSON has no difference between 60 and 60.0; for what has no place in its chart yet it has null.
                placed = all(isinstance(mark["x"], int | float) for chart in marks for mark in chart)
                return len(marks) == 3 and all(marks) and placed

            await until(marked)
            for chart in await _marks(page):
                assert [mark["label"] for mark in chart] == ["upstream: down"] * 3 + ["upstream: latency"]

            async def told(name: str, *words: str) -> None:
                await page.call("Page.navigate", url=f"{url}/?tab={name}")

                async def there() -> bool:
                    text = await page.value("document.body ? document.body.innerText : ''")
                    return all(word in text for word in words)

                await until(there)

            await told("reconnect-faults", "upstream: down", "Took hold")
            await told("reconnect-accounts", "AwareUser", "PlainUser", "Reordered")
            assert page.complaints == []
            process.send_signal(signal.SIGINT)
            run = ended(process)
            assert run.code == 0, run.text
            assert "verdict: valid" in run.text
            await page.call("Page.navigate", url=(tmp_path / "report.html").as_uri())
            await until(marked)


def test_the_form_of_the_web_ui_chooses_the_shape() -> None:
    """The form begins with the choice of the command line."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ("--web-host", "127.0.0.1", "--web-port", str(port), "--shape", "ramp", "--sut", "direct")
    with running(*options) as process:
        wait_until(lambda: _is_up(url))
        args = re.search(r"window.templateArgs = (\{.*\})", _get(url))
        assert args is not None
        assert json.loads(args[1])["extra_options"]["shape"]["default_value"] == "ramp"
        form = {"user_count": "10", "spawn_rate": "10", "shape": "spike", "rate": "5/s"}
        wrong = json.loads(_get(f"{url}/swarm", {**form, "rate": "often"}))
        assert wrong["success"] is False
        assert wrong["message"].startswith("'often' is not a rate")
        assert "Spike" in json.loads(_get(f"{url}/swarm", form))["message"]
        wait_until(lambda: "round trip" in _get(f"{url}/stats/requests"))
        assert "Shape test updating to 2 users" in said(process)
        assert json.loads(_get(f"{url}/stop", {}))["success"] is True
        wait_until(lambda: "verdict: " in said(process))
        process.send_signal(signal.SIGINT)
        assert ended(process).code == 0
