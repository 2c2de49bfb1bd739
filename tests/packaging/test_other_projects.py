"""Other people's projects with the installed wheel: their tests run as without it, and its fixtures work in them."""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reconnect_harness.fixtures import fixtures
from reconnect_harness.plugin_options import OPTIONS, Option
from reconnect_harness.sut.choose import folder_name

from .environment import Environment
from .project import LOSSY, Project

#: The names of the fixtures for tests of other people.
FIXTURES = [
    node.name
    for node in ast.parse(Path(fixtures.__file__).read_text()).body
    if isinstance(node, ast.FunctionDef)
    and any(ast.unparse(decorator).startswith("pytest.fixture") for decorator in node.decorator_list)
    and not node.name.startswith("_")
]


def test_the_wheel_has_two_packages_and_no_others(wheel: Path) -> None:
    """A project may have a package of any other name, `harness` for one."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"reconnect_proxy", "reconnect_harness"}


#: The file of a project's own `harness`, and how its tests import it.
HARNESSES = {
    "package": ("harness/__init__.py", "harness"),
    "namespace package": ("harness/own.py", "harness.own"),
    "module": ("harness.py", "harness"),
}


@pytest.mark.parametrize("kind", HARNESSES)
@pytest.mark.parametrize("program", [["pytest"], ["python", "-m", "pytest"]], ids=" ".join)
def test_a_project_may_have_a_harness_of_its_own(project: Project, kind: str, program: list[str]) -> None:
    """Its tests import it."""
    file, module = HARNESSES[kind]
    project.write_file(file, "THEIRS = True")
    project.write(test_it=f"from {module} import THEIRS\ndef test_it(): assert THEIRS\n")
    # pytest puts the folder before all others then, and before it loads plugins.
    project.write_settings("pythonpath = .")
    done = project.environment.run(project.folder, *program)
    assert done.code == 0, done.out + done.err
    assert "1 passed" in done.out


@pytest.mark.parametrize("kind", HARNESSES)
def test_scenarios_run_beside_a_harness_of_the_project(project: Project, kind: str) -> None:
    """The processes that ours start in its folder import ours."""
    project.write_file(HARNESSES[kind][0], "THEIRS = True")
    project.write_scenario()
    done = project.environment.run(project.folder, "python", "-m", "pytest", "--scenario=mine.yaml")
    assert done.code == 0, done.out + done.err
    assert "mine[1]: valid" in done.lines


@pytest.mark.parametrize("kind", HARNESSES)
def test_locust_runs_beside_a_harness_of_the_project(
    environment: Callable[..., Environment], tmp_path: Path, kind: str
) -> None:
    """With a locustfile that has users of ours."""
    project = Project(tmp_path, environment("reconnect-proxy[load]"))
    file, module = HARNESSES[kind]
    project.write_file(file, "THEIRS = True")
    project.write(
        users=f"""
        from {module} import THEIRS
        from reconnect_harness.load import WebSocketUser

        class Theirs(WebSocketUser):
            assert THEIRS
        """
    )
    done = project.environment.run(tmp_path, "locust", "-f", "users.py", "--list")
    assert done.code == 0, done.out + done.err
    assert "Theirs" in done.out


def test_warnings_may_be_errors(project: Project) -> None:
    """In a project that has set nothing else, with our fixtures in use, and with scenarios."""
    project.write_settings("filterwarnings = error")
    project.write_scenario()
    project.write(
        test_it="""
        from websockets.sync.client import connect

        def test_theirs():
            pass

        def test_ours(chaos_link, mock_upstream, reconnect_proxy_server):
            proxy = reconnect_proxy_server(chaos_link(mock_upstream().url).url)
            with connect(proxy.url, proxy=None) as ws:
                ws.send("here")
                assert ws.recv(timeout=10) == "here"
        """
    )
    tests = project.pytest("--toxiproxy=embedded")
    assert tests.code == 0, tests.out + tests.err
    assert "2 passed" in tests.out
    scenario = project.pytest("--scenario=mine.yaml")
    assert scenario.code == 0, scenario.out + scenario.err
    assert not re.search(r"\d warnings?\b", tests.out + scenario.out)


def test_pytest_asyncio_is_not_among_what_we_install(project: Project, wheel: Path) -> None:
    """A project with another plugin for coroutines, or with none, gets no second one."""
    assert "asyncio" not in next(line for line in project.pytest().lines if line.startswith("plugins:"))
    with zipfile.ZipFile(wheel) as archive:
        sources = {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
    assert [name for name, source in sources.items() if b"pytest_asyncio" in source] == []


@pytest.mark.parametrize("name", FIXTURES)
def test_a_project_may_have_a_fixture_with_the_name_of_ours(project: Project, name: str) -> None:
    """Its tests get its own, and all others of ours work."""
    project.write_scenario(faults=[{"at": 0, "link": "upstream", "do": "latency", "for": "100ms", "latency": "1ms"}])
    project.write(
        conftest=f"""
        import pytest

        @pytest.fixture
        def {name}():
            return "theirs"
        """,
        test_it="""
        from pathlib import Path
        from websockets.sync.client import connect

        THEIRS = "theirs"

        def test_it(
            toxiproxy, chaos_link, mock_upstream, reconnect_proxy_server, scenario_runner, serve_app, ledger
        ):
            first = [toxiproxy, chaos_link, mock_upstream, reconnect_proxy_server]
            assert [*first, scenario_runner, serve_app, ledger].count(THEIRS) == 1
            if ledger != THEIRS:
                assert ledger.client("ann").received("no message of the ledger") is None
            if toxiproxy != THEIRS:
                assert toxiproxy.url.startswith("http://127.0.0.1:")
            url = "ws://127.0.0.1:9/"
            if mock_upstream != THEIRS:
                url = mock_upstream().url
            if chaos_link != THEIRS:
                url = chaos_link(url).url
            if reconnect_proxy_server != THEIRS:
                url = reconnect_proxy_server(url).url
            if mock_upstream != THEIRS:
                with connect(url, proxy=None) as ws:
                    ws.send("here")
                    assert ws.recv(timeout=10) == "here"
            if scenario_runner != THEIRS:
                scenario_runner(Path(__file__).parent / "mine.yaml")
        """,
    )
    done = project.pytest("--toxiproxy=embedded")
    assert done.code == 0, done.out + done.err
    assert "1 passed" in done.out


UNREGISTERS = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    config.pluginmanager.unregister(name="terminalreporter")
"""


@pytest.mark.parametrize(("system", "code"), [("direct", 0), (LOSSY, 1)], ids=["valid", "invalid"])
@pytest.mark.parametrize("words", [["-p", "no:terminal"], []], ids=["no:terminal", "unregistered"])
def test_without_a_terminal_reporter_scenarios_run_silently(
    project: Project, words: list[str], system: str, code: int
) -> None:
    """The exit code and the files of the run say what was found."""
    project.write_scenario()
    if not words:
        project.write(conftest=UNREGISTERS)
    done = project.pytest(*words, "--scenario=mine.yaml", "--sut", system)
    assert (done.code, done.out, done.err) == (code, "", "")
    assert (project.folder / "scenario-runs" / f"mine-{folder_name(system)}-1" / "report.html").is_file()


@pytest.fixture
def bare(environment: Callable[..., Environment], tmp_path: Path) -> Project:
    """A project that has pytest and the proxy, and not what the harness needs."""
    return Project(tmp_path, environment("reconnect-proxy", "pytest"))


def test_where_only_the_proxy_is_installed_the_plugin_does_nothing(bare: Project) -> None:
    """Tests run, with a short name of ours as well, and a fixture of ours says what to install."""
    bare.write(test_it="def test_theirs(): pass\ndef test_ours(chaos_link): pass\n")
    done = bare.pytest("-k", "theirs")
    assert done.code == 0, done.out + done.err
    ours = bare.pytest("-k", "ours")
    assert ours.code == 1
    said = [line for line in ours.lines if "pip install 'reconnect-proxy[harness]'" in line]
    assert re.match(r"this needs the Python package \w+, which is not installed: ", said[0])
    assert "Traceback" not in ours.out


@pytest.mark.parametrize("long", [True, False], ids=["long", "short"])
@pytest.mark.parametrize("option", OPTIONS, ids=[option.word for option in OPTIONS])
def test_where_only_the_proxy_is_installed_each_option_says_what_to_install(
    bare: Project, option: Option, long: bool
) -> None:
    """One line, and the exit code of a usage error."""
    bare.write(test_it="def test_it(): pass")
    name = option.long if long else option.short
    done = bare.pytest(f"{name}=1")
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert done.out == ""
    (said,) = [line for line in done.err.splitlines() if line]
    assert said.startswith(f"ERROR: {name}: this needs the Python package ")
    assert said.endswith(", which is not installed: pip install 'reconnect-proxy[harness]'. The proxy works without it")


#: Other plugins that run items in their own ways, with the options that make them do so.
PLUGINS = {
    "pytest-randomly": ["-p", "randomly"],
    "pytest-repeat": ["--count", "2"],
    "pytest-rerunfailures": ["--reruns", "1"],
    "pytest-retry": ["--retries", "1"],
    "pytest-timeout": ["--timeout", "60"],
}
#: Those that run an item again when it has failed.
RERUN = {"pytest-rerunfailures", "pytest-retry"}

#: A system under test that loses messages in its first run only.
LOSSY_ONCE = f"""
import os, pathlib, shlex, sys
flag = pathlib.Path("has-run")
command = shlex.split({LOSSY!r}.format(listen=sys.argv[1], upstream=sys.argv[2]))
if flag.exists():
    del command[command.index("--drop") : command.index("--drop") + 2]
flag.touch()
os.execv(command[0], command)
"""


@pytest.mark.parametrize("name", PLUGINS)
def test_other_plugins_run_scenarios_in_their_ways(
    environment: Callable[..., Environment], tmp_path: Path, name: str
) -> None:
    """What has failed at first is run again by those that do that, and the last run is what counts."""
    project = Project(tmp_path, environment("reconnect-proxy[harness]", name))
    project.write(lossy_once=LOSSY_ONCE)
    project.write_scenario()
    system = "python lossy_once.py {listen} {upstream}"
    done = project.pytest(*PLUGINS[name], "--scenario=mine.yaml", "--sut", system, "--junitxml=junit.xml")
    verdict = "valid" if name in RERUN else "invalid"
    assert done.code == (0 if name in RERUN else 1), done.out + done.err
    assert f"mine[1]: {verdict}" in done.lines
    assert "INTERNALERROR" not in done.out
    assert (tmp_path / "junit.xml").read_text().count(f'name="verdict" value="{verdict}"') == 1


#: What the plugin loads into a run that does not use it.
LIGHT = {
    "reconnect_harness",
    "reconnect_harness.fixtures",
    "reconnect_harness.fixtures.fixtures",
    "reconnect_harness.missing",
    "reconnect_harness.plugin",
    "reconnect_harness.plugin_options",
}


@pytest.mark.parametrize("extras", ["reconnect-proxy[harness]", "reconnect-proxy"])
def test_a_run_that_does_not_use_the_plugin_imports_its_small_modules(
    environment: Callable[..., Environment], tmp_path: Path, extras: str
) -> None:
    """Those of the plugin, and no other of any package."""
    # With a plugin more, because pytest imports what it needs to name the plugins, if there is one.
    project = Project(tmp_path, environment(extras, "pytest-timeout"))
    project.write(
        conftest="""
        import sys

        def pytest_unconfigure():
            with open("modules", "w") as file:
                file.write("\\n".join(sys.modules))
        """,
        test_it="def test_it(): pass",
    )

    def modules(*options: str) -> set[str]:
        done = project.pytest(*options)
        assert done.code == 0, done.out + done.err
        return set((tmp_path / "modules").read_text().split())

    # A first run may import more, because it writes compiled modules.
    modules()
    assert modules() - modules("-p", "no:reconnect_harness") == LIGHT
