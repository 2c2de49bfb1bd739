"""pytest fixtures for people's own tests of WebSocket clients and servers. docs/testing-your-app.md shows them at work.

| fixture | what it is |
| --- | --- |
| toxiproxy | a running Toxiproxy server, one for the whole session |
| chaos_link | makes links that can be cut, reset, silenced, slowed: `chaos_link("ws://127.0.0.1:8000/ws")` |
| mock_upstream | starts servers to connect to: `mock_upstream("echo")` |
| reconnect_proxy_server | starts this project's proxy in front of a server: `reconnect_proxy_server(url)` |
| scenario_runner | runs a whole scenario, and fails the test if it is not valid: `scenario_runner("upstream-flap")` |

All of them are for tests with and without an event loop; their calls block for as long as the thing takes. What a test
has started is stopped at its end, in the opposite order. This module is loaded in everybody's pytest, so it imports
what it needs only when a test asks for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.backstage import Backstage
    from harness.chaos_link import ChaosLink
    from harness.links import ToxiproxyServer
    from harness.servers import MockUpstream, ProxyServer
    from harness.stack import Run


@pytest.fixture(scope="session")
def toxiproxy(request: pytest.FixtureRequest) -> Iterator[ToxiproxyServer]:
    """A running Toxiproxy server: the one of `--toxiproxy`, or else the first that is found."""
    from harness.links import find_toxiproxy

    with find_toxiproxy(request.config.getoption("toxiproxy")).server() as server:
        yield server


@pytest.fixture
def chaos_link(toxiproxy: ToxiproxyServer) -> Iterator[Callable[..., ChaosLink]]:
    """Make links: `chaos_link(url, resets=False)` returns one whose `url` leads to `url`.

    It can be harmed by `down()` and `up()`, `silence()` and `end_silence()`, `reset()`, `add(Toxic(…))` and
    `remove(toxic)`; `heal()` takes everything off.
    """
    from harness.chaos_link import ChaosLink

    with contextlib.ExitStack() as links:

        def make(upstream: str, *, resets: bool = False) -> ChaosLink:
            return links.enter_context(ChaosLink(toxiproxy, upstream, resets=resets))

        yield make


@pytest.fixture(scope="session")
def reconnect_backstage() -> Iterator[Backstage]:
    """The loop in a thread that the other fixtures use."""
    from harness.backstage import Backstage

    with Backstage() as backstage:
        yield backstage


@pytest.fixture
def mock_upstream(
    reconnect_backstage: Backstage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., MockUpstream]]:
    """Start servers: `mock_upstream(kind="echo", **options)`, the options those of `upstream` in a scenario.

    Each has `url`, `stop()`, `restart()`, `history()` and `received()`.
    """
    from harness.servers import MockUpstream

    with contextlib.ExitStack() as upstreams:

        def start(kind: str = "echo", **options: Any) -> MockUpstream:
            folder = tmp_path_factory.mktemp("mock-upstream")
            return upstreams.enter_context(MockUpstream(reconnect_backstage, folder, kind, **options))

        yield start


@pytest.fixture
def reconnect_proxy_server(
    reconnect_backstage: Backstage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., ProxyServer]]:
    """Start this project's proxy: `reconnect_proxy_server(url, **options)`, options of `reconnect-proxy serve`.

    Each has `url`, which leads to `url` through the proxy, `log()` and `stop()`.
    """
    from harness.servers import ProxyServer

    with contextlib.ExitStack() as proxies:

        def start(upstream: str, **options: Any) -> ProxyServer:
            folder = tmp_path_factory.mktemp("reconnect-proxy")
            return proxies.enter_context(ProxyServer(reconnect_backstage, folder, upstream, **options))

        yield start


@pytest.fixture
def scenario_runner(
    request: pytest.FixtureRequest, reconnect_backstage: Backstage, tmp_path: Path
) -> Callable[..., Run]:
    """Run scenarios: `scenario_runner(wanted, sut=None, seed=1, check=True)` returns the `Run`.

    `wanted` is a name, a file, or what such a file says, as a mapping; `sut` is a system under test as for `--sut`, or
    None for this project's proxy. If the run is not valid the test fails, with the lines that say why; unless `check`
    is False: then look at `run.judgement`. The files of a run lie in its `folder`.
    """
    from harness import report, scenario
    from harness.checkers import Verdict
    from harness.engine import Engine
    from harness.stack import Stack
    from harness.sut import system_under_test

    def run(
        wanted: str | Path | Mapping[str, Any], *, sut: str | None = None, seed: int = 1, check: bool = True
    ) -> Run:
        if isinstance(wanted, Mapping):
            chosen = scenario.parse(dict(wanted), "the scenario of this test")
        else:
            (file,) = scenario.find(str(wanted))
            chosen = scenario.load(file)
        server: ToxiproxyServer | None = request.getfixturevalue("toxiproxy") if chosen.links else None
        folder = tmp_path / f"{chosen.name}-{seed}"
        with contextlib.ExitStack() as engines:
            engine = engines.enter_context(Engine()) if chosen.container_specs else None
            parts = Stack(chosen, system_under_test(sut), server, seed, folder, engine=engine)
            done: Run = reconnect_backstage.run(parts.run())
        report.write(done)
        if check and done.judgement.verdict is not Verdict.VALID:
            lines = [f"{chosen.name} is {done.judgement.verdict}", *report.accusation(done)]
            pytest.fail("\n".join([*lines, f"the whole of it: {folder}/report.html"]), pytrace=False)
        return done

    return run
