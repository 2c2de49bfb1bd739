"""The fixtures for people's own tests, used as people use them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_sync

from harness.chaos_link import ChaosLink
from harness.checkers import Verdict
from harness.links import ToxiproxyServer
from harness.record import End
from harness.servers import MockUpstream, ProxyServer
from harness.stack import Run
from tests.harness.test_plugin import MINE
from tests.harness.test_stack import RELAY

pytest_plugins = ["pytester"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing-your-app.md"


def test_toxiproxy_runs(toxiproxy: ToxiproxyServer) -> None:
    """It has a URL, and says which it is."""
    assert toxiproxy.url.startswith("http://127.0.0.1:")
    assert "Toxiproxy 2." in toxiproxy.describe()


def test_a_chaos_link_keeps_the_path_and_can_be_cut(
    chaos_link: Callable[..., ChaosLink], mock_upstream: Callable[..., MockUpstream]
) -> None:
    """Its URL leads to the server; down it is refused, and up again it carries."""
    link = chaos_link(mock_upstream().url + "room?x=1")
    assert link.url == f"ws://{link.listen}/room?x=1"
    with connect_sync(link.url, proxy=None) as ws:
        ws.send("here")
        assert ws.recv(timeout=10) == "here"
        link.down()
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=10)
    with pytest.raises(ConnectionRefusedError):
        connect_sync(link.url, proxy=None)
    link.up()
    with connect_sync(link.url, proxy=None) as ws:
        ws.send("again")
        assert ws.recv(timeout=10) == "again"


def test_a_chaos_link_needs_a_port(chaos_link: Callable[..., ChaosLink]) -> None:
    """It cannot know where a service without one listens."""
    with pytest.raises(ValueError, match="'ws://localhost/room' has no host and port"):
        chaos_link("ws://localhost/room")


async def test_a_mock_upstream_records_and_restarts(mock_upstream: Callable[..., MockUpstream]) -> None:
    """Also in a test with an event loop; its port and its record outlive it."""
    upstream = mock_upstream("echo")
    async with connect(upstream.url, proxy=None) as ws:
        await ws.send(b"\xff")
        assert await ws.recv() == b"\xff"
        upstream.stop()
        with pytest.raises(ConnectionClosed):
            await ws.recv()
    upstream.restart()
    async with connect(upstream.url, proxy=None) as ws:
        await ws.send("more")
        assert await ws.recv() == "more"
    assert upstream.received() == 2
    connected = [event for event in upstream.history().links if event.event == "connected"]
    assert [event.end for event in connected] == [End.UPSTREAM] * 2


def test_a_mock_upstream_pushes(mock_upstream: Callable[..., MockUpstream]) -> None:
    """The options are those of a scenario, and wrong ones are said to be."""
    with connect_sync(mock_upstream("push", push="50/s", size=100, type="text").url, proxy=None) as ws:
        assert len(str(ws.recv(timeout=10)).encode()) == 100
    with pytest.raises(ValueError, match="there is no kind of upstream 'ecko'; did you mean echo"):
        mock_upstream("ecko")
    with pytest.raises(ValueError, match="there is no key 'psh'; did you mean push"):
        mock_upstream(psh="50/s")


def test_a_proxy_server_heals_a_cut(
    chaos_link: Callable[..., ChaosLink],
    mock_upstream: Callable[..., MockUpstream],
    reconnect_proxy_server: Callable[..., ProxyServer],
) -> None:
    """What the README promises, with ordinary programs at both ends; then it stops in good order."""
    link = chaos_link(mock_upstream("echo").url + "room")
    proxy = reconnect_proxy_server(link.url, retry_for="30s")
    assert proxy.url.endswith("/room")
    with connect_sync(proxy.url, proxy=None) as ws:
        ws.send("one")
        assert ws.recv(timeout=10) == "one"
        link.down()
        ws.send("two")
        link.up()
        while ws.recv(timeout=10) != "two":
            # What the server had not confirmed is sent to it again.
            pass
        proxy.stop()
        with pytest.raises(ConnectionClosed) as ended:
            ws.recv(timeout=10)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1012
    assert "stopping" in proxy.log()


def test_a_proxy_server_says_what_is_wrong_with_an_option(reconnect_proxy_server: Callable[..., ProxyServer]) -> None:
    """Before it is started."""
    with pytest.raises(ValueError, match="there is no option 'retry_fro'; did you mean retry_for"):
        reconnect_proxy_server("ws://127.0.0.1:1", retry_fro="5s")


def test_a_scenario_runs_in_a_test(scenario_runner: Callable[..., Run], tmp_path: Path) -> None:
    """A mapping, against a system under test; it leaves its files in the test's folder."""
    done = scenario_runner(MINE, sut=RELAY)
    assert done.judgement.verdict is Verdict.VALID
    assert (tmp_path / "mine-1" / "report.html").is_file()


def test_a_scenario_that_is_not_valid_fails_the_test(scenario_runner: Callable[..., Run]) -> None:
    """In lines that name the messages; or not, if the test wants to look at it itself."""
    with pytest.raises(
        pytest.fail.Exception, match=r"mine is invalid\nlost (c2u|u2c): .*\n    at .* was sent and never"
    ):
        scenario_runner(MINE, sut=f"{RELAY} --drop 50")
    done = scenario_runner(MINE, sut=f"{RELAY} --drop 50", seed=2, check=False)
    assert done.judgement.verdict is Verdict.INVALID


async def test_a_scenario_runs_in_a_test_with_a_loop(scenario_runner: Callable[..., Run]) -> None:
    """It has a loop of its own, backstage."""
    assert scenario_runner(MINE, sut=RELAY).judgement.verdict is Verdict.VALID


def test_the_example_of_the_documents_runs(pytester: pytest.Pytester, toxiproxy: ToxiproxyServer) -> None:
    """A FastAPI application behind the proxy; and without it the same test fails."""
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    example = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(test_app=example)
    pytester.makepyfile(test_direct=example.replace("connect(proxy.url", "connect(link.url"))
    # pytester has a home of its own, in which no Toxiproxy would be found.
    done = pytester.runpytest_subprocess("-v", f"--toxiproxy={toxiproxy.url}")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["test_app.py::test_a_cut_goes_unnoticed PASSED*", "*test_direct.py*FAILED*"])
