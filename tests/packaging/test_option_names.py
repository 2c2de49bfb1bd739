"""The names of the plugin's options: a project's own options win, and ours have names that are always there."""

from __future__ import annotations

import pytest

from reconnect_harness.plugin_options import OPTIONS, SCENARIO, Option

from .project import Project

each_option = pytest.mark.parametrize("option", OPTIONS, ids=[option.word for option in OPTIONS])

#: What ours may be given in a test: two values of each option.
VALUES = {
    "scenario": ("mine.yaml", "other.yaml"),
    "sut": ("direct", "nginx"),
    "profile": ("transparent", "reconnecting"),
    "toxiproxy": ("embedded", "docker"),
    "scenario-seed": ("5", "6"),
    "scenario-out": ("one", "two"),
}

#: How the plugin reads the first of them.
READ = {word: first for word, (first, _) in VALUES.items()} | {"scenario": ["mine.yaml"], "scenario-seed": 5}


def registers(name: str) -> str:
    """Return the text of a plugin or conftest that adds an option, as people do."""
    return f"def pytest_addoption(parser):\n    parser.addoption('{name}', default='nothing')\n"


def has_value(dest: str, value: object) -> str:
    """Return the text of a test that passes if an option has a value."""
    return f"def test_value(pytestconfig):\n    assert pytestconfig.getoption('{dest}') == {value!r}\n"


def shows(**dests: str) -> str:
    """Return the text of a plugin or conftest that shows options in the header, also where no test is run."""
    values = ", ".join(f"'{said} is ' + repr(config.getoption('{dest}'))" for said, dest in dests.items())
    return f"def pytest_report_header(config):\n    return [{values}]\n"


@each_option
def test_an_option_of_the_project_wins(project: Project, option: Option) -> None:
    """It has its own value, given or not; the header says where ours is; and ours still works."""
    project.write_scenario()
    project.write(
        conftest=registers(option.short)
        + shows(value=option.word.replace("-", "_"), value_by_name=option.short, ours=option.dest),
        test_it="def test_it(): pass",
    )
    absent = project.pytest()
    assert absent.code == 0, absent.out + absent.err
    assert f"reconnect-harness: this project has its own {option.short}; ours: {option.long}" in absent.lines
    assert {"value is 'nothing'", "value_by_name is 'nothing'", "ours is None"} <= set(absent.lines)

    given = project.pytest("--collect-only", f"{option.short}=theirs", f"{option.long}={VALUES[option.word][0]}")
    assert given.code == 0, given.out + given.err
    assert {"value is 'theirs'", "value_by_name is 'theirs'", f"ours is {READ[option.word]!r}"} <= set(given.lines)
    assert ("<ScenarioItem mine[1]>" in given.out) == (option is SCENARIO)


@each_option
def test_an_option_that_the_project_does_not_have_is_ours(project: Project, option: Option) -> None:
    """Its short name works, also with its value in a word of its own, and the header has nothing to say."""
    project.write_scenario()
    project.write(conftest=shows(ours=option.dest), test_it="def test_it(): pass")
    given = VALUES[option.word][0]
    for words in ([f"{option.short}={given}"], [option.short, given]):
        done = project.pytest("--collect-only", *words)
        assert done.code == 0, done.out + done.err
        assert f"ours is {READ[option.word]!r}" in done.lines
        assert ("<ScenarioItem mine[1]>" in done.out) == (option is SCENARIO)
        assert "reconnect-harness:" not in done.out


def owned_by_a_conftest(project: Project) -> list[str]:
    project.write(conftest=registers("--scenario"))
    return []


def owned_by_a_conftest_in_a_folder(project: Project) -> list[str]:
    project.write_file("sub/conftest.py", registers("--scenario"))
    project.write_file("sub/test_it.py", has_value("scenario", "theirs"))
    return ["sub"]


def owned_by_a_conftest_in_testpaths(project: Project) -> list[str]:
    project.write_file("checks/conftest.py", registers("--scenario"))
    project.write_file("checks/test_it.py", has_value("scenario", "theirs"))
    project.write_settings("testpaths = checks")
    return []


def owned_by_a_plugin_of_a_conftest(project: Project) -> list[str]:
    project.write(theirs=registers("--scenario"), conftest="pytest_plugins = ['theirs']")
    return []


def owned_by_a_plugin_before_ours(project: Project) -> list[str]:
    project.write(theirs=registers("--scenario"))
    return ["-p", "theirs", "-p", "reconnect_harness"]


def owned_by_a_plugin_after_ours(project: Project) -> list[str]:
    project.write(theirs=registers("--scenario"))
    return ["-p", "reconnect_harness", "-p", "theirs"]


def owned_by_an_installed_plugin(project: Project) -> list[str]:
    project.write(theirs=registers("--scenario"))
    project.write_file("theirs-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    project.write_file("theirs-1.0.dist-info/entry_points.txt", "[pytest11]\ntheirs = theirs\n")
    return []


@pytest.mark.parametrize(
    "owner",
    [
        owned_by_a_conftest,
        owned_by_a_conftest_in_a_folder,
        owned_by_a_conftest_in_testpaths,
        owned_by_a_plugin_of_a_conftest,
        owned_by_a_plugin_before_ours,
        owned_by_a_plugin_after_ours,
        owned_by_an_installed_plugin,
    ],
    ids=lambda owner: owner.__name__.removeprefix("owned_by_"),
)
@pytest.mark.parametrize("words", [["--scenario=theirs"], ["--scenario", "theirs"]], ids=["one word", "two words"])
def test_who_the_option_belongs_to_does_not_matter(project: Project, owner: object, words: list[str]) -> None:
    """pytest loads its owner before ours or after it, by whichever of its ways."""
    assert callable(owner)
    options = owner(project)
    if not list(project.folder.rglob("test_it.py")):
        project.write(test_it=has_value("scenario", "theirs"))
    done = project.pytest(*options, *words, PYTHONPATH=str(project.folder))
    assert done.code == 0, done.out + done.err
    assert "this project has its own --scenario" in done.out
    assert "1 passed" in done.out


def test_a_plugin_named_in_the_environment_wins_too(project: Project) -> None:
    """`PYTEST_PLUGINS` is the last place from which pytest loads plugins."""
    project.write(theirs=registers("--scenario"), test_it=has_value("scenario", "theirs"))
    done = project.pytest("--scenario=theirs", PYTEST_PLUGINS="theirs", PYTHONPATH=str(project.folder))
    assert done.code == 0, done.out + done.err
    assert "1 passed" in done.out


def test_a_conftest_that_pytest_loads_late_can_still_add_the_option(project: Project) -> None:
    """pytest finds it during collection; the option has its default then."""
    project.write_file("first/second/conftest.py", registers("--scenario"))
    project.write_file("first/second/test_it.py", has_value("scenario", "nothing"))
    done = project.pytest()
    assert done.code == 0, done.out + done.err
    assert "1 passed" in done.out


def test_a_switch_of_the_project_does_not_swallow_the_path_after_it(project: Project) -> None:
    """Ours of that name takes a value, theirs does not; their conftest stands in the folder that they name."""
    switch = "def pytest_addoption(parser):\n    parser.addoption('--sut', action='store_true')\n"
    project.write_file("sub/conftest.py", switch)
    project.write_file("sub/test_it.py", has_value("sut", True))
    project.write(test_other="assert False")
    done = project.pytest("--sut", "sub")
    assert done.code == 0, done.out + done.err
    assert "1 passed" in done.out


@pytest.mark.parametrize("words", [["--toxiproxy", "embedded"], ["--toxiproxy=two words"]], ids=["two", "with a space"])
def test_a_value_of_ours_is_not_taken_for_the_path_of_a_test(project: Project, words: list[str]) -> None:
    """The conftests of `testpaths` are loaded, with their options, and the tests there are run."""
    project.write_file("checks/conftest.py", registers("--speed"))
    project.write_file("checks/test_it.py", has_value("speed", "9"))
    project.write_settings("testpaths = checks")
    done = project.pytest(*words, "--speed=9")
    assert done.code == 0, done.out + done.err
    assert "1 passed" in done.out


def test_an_option_whose_name_only_begins_like_ours_is_not_ours(project: Project) -> None:
    """And pytest accepts no abbreviation of ours."""
    project.write(conftest=registers("--scenario-file"), test_it=has_value("scenario_file", "theirs"))
    theirs = project.pytest("--scenario-file=theirs")
    assert theirs.code == 0, theirs.out + theirs.err
    assert "reconnect-harness:" not in theirs.out
    short = project.pytest("--scenari=mine.yaml")
    assert short.code == pytest.ExitCode.USAGE_ERROR
    assert "unrecognized arguments: --scenari=mine.yaml" in short.err


@pytest.mark.parametrize("where", ["addopts", "PYTEST_ADDOPTS", "file"])
@pytest.mark.parametrize("theirs", [True, False], ids=["theirs", "ours"])
def test_options_that_are_not_on_the_command_line_work_alike(project: Project, where: str, theirs: bool) -> None:
    """From the settings, from the environment, from a file of arguments."""
    project.write_scenario()
    if theirs:
        project.write(conftest=registers("--scenario"))
    project.write(test_it=has_value("scenario", "mine.yaml"))
    project.write_settings(*(["addopts = --scenario=mine.yaml"] if where == "addopts" else []))
    project.write_file("arguments", "--scenario=mine.yaml\n")
    variables = {"PYTEST_ADDOPTS": "--scenario=mine.yaml"} if where == "PYTEST_ADDOPTS" else {}
    done = project.pytest(*(["@arguments"] if where == "file" else []), "--collect-only", "-q", **variables)
    assert done.code == 0, done.out + done.err
    assert done.lines[0] == ("test_it.py::test_value" if theirs else "scenario::mine[1]")


@pytest.mark.parametrize("words", [["-p", "reconnect_harness"], []], ids=["command line", "conftest"])
def test_a_plugin_that_is_asked_for_has_its_short_names(project: Project, words: list[str]) -> None:
    """Where pytest loads no plugin by itself, a project names those that it wants."""
    project.write_scenario()
    if not words:
        project.write(conftest="pytest_plugins = ['reconnect_harness.plugin']")
    done = project.pytest(*words, "--scenario", "mine.yaml", "--collect-only", "-q", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.code == 0, done.out + done.err
    assert done.lines[0] == "scenario::mine[1]"


def test_a_conftest_that_asks_for_the_plugin_may_have_the_option_itself(project: Project) -> None:
    """Its option is there before our plugin is."""
    project.write(
        conftest="pytest_plugins = ['reconnect_harness.plugin']\n" + registers("--scenario"),
        test_it=has_value("scenario", "theirs"),
    )
    done = project.pytest("--scenario=theirs", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.code == 0, done.out + done.err
    assert "this project has its own --scenario; ours: --reconnect-scenario" in done.out


@each_option
def test_one_option_with_two_values_is_a_usage_error(project: Project, option: Option) -> None:
    """Given under both names; the same value twice is none."""
    project.write_scenario()
    one, two = VALUES[option.word]
    done = project.pytest(f"{option.long}={one}", f"{option.short}={two}")
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert [line for line in done.err.splitlines() if line] == [
        f"ERROR: {option.short}={two} and {option.long}={one}: these are two names of one option, and their values "
        "differ. Give one of them"
    ]
    project.write(conftest=shows(ours=option.dest), test_it="def test_it(): pass")
    same = project.pytest("--collect-only", f"{option.long}={one}", f"{option.short}={one}")
    assert same.code == 0, same.out + same.err
    assert f"ours is {READ[option.word]!r}" in same.lines


@pytest.mark.parametrize("theirs", [True, False], ids=["theirs", "ours"])
def test_the_workers_of_xdist_have_the_values(project: Project, theirs: bool) -> None:
    """pytest-xdist hands them the options, and no command line."""
    if theirs:
        project.write(conftest=registers("--toxiproxy"))
    project.write(
        test_theirs=has_value("toxiproxy", "given") if theirs else "",
        test_ours=has_value("reconnect_toxiproxy", None if theirs else "given"),
        test_worker="def test_worker(pytestconfig): assert pytestconfig.workerinput",
    )
    done = project.pytest("-n", "2", "--toxiproxy", "given")
    assert done.code == 0, done.out + done.err
    assert f"{3 if theirs else 2} passed" in done.out


def test_a_scenario_runs_in_a_worker_of_xdist(project: Project) -> None:
    """Under its long name, in a project with an option of the short one."""
    project.write(conftest=registers("--scenario"))
    project.write_scenario()
    done = project.pytest("-n", "2", "--reconnect-scenario=mine.yaml", "--sut=direct", "--scenario=theirs")
    assert done.code == 0, done.out + done.err
    assert "mine[1]: valid" in done.lines
    repeated = (project.folder / "scenario-runs" / "mine-direct-1" / "results.json").read_text()
    assert '"pytest --reconnect-scenario=mine.yaml --scenario-seed=1 --sut=direct"' in repeated


@pytest.mark.parametrize("theirs", [True, False], ids=["theirs", "nothing of theirs"])
def test_the_help_has_every_option_once(project: Project, theirs: bool) -> None:
    """In a group of ours, which explains the short names; and the project's own in its place."""
    if theirs:
        project.write(conftest=registers("--sut"))
    done = project.pytest("--help")
    assert done.code == 0, done.out + done.err
    for option in OPTIONS:
        shown = [line for line in done.lines if line.split("=")[0].strip() == option.long]
        assert len(shown) == 1, option
    shown = [line for line in done.lines if line.split("=")[0].strip() == "--sut"]
    assert shown == (["  --sut=SUT"] if theirs else [])
    assert "each option also has a short name without 'reconnect-'" in " ".join(done.out.split())
