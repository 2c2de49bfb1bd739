"""The options of the pytest plugin, and who may have their short names.

Each option has two names. The long one, `--reconnect-scenario`, always exists. The short one, `--scenario`, may be the
name of an option of the project whose tests run, or of another plugin. Then the project's option wins.

pytest loads plugins before conftests, and the second of two that add one name gets an error. So the short names come
last:

1. `add_options` adds the long names when pytest loads the plugin. If a conftest loads it, the short names come too.
2. `add_short_names` runs when pytest has loaded the initial conftests. It adds the short names that the command line
   uses and that are still unknown. A short name that the command line does not use is never added, because pytest may
   load more conftests during collection.
3. `join_names` runs when the command line is parsed. From then on the value of an option is that of its long name.

The cost: pytest reads `--sut NAME` before it knows `--sut`, and takes NAME for the path of a test. These paths decide
which conftests are the initial ones. So `add_short_names` also loads those that pytest would have loaded without NAME.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Option(NamedTuple):
    """An option under both its names. No option has a default: None says that it was not given."""

    word: str
    help: str
    #: How argparse reads it.
    attributes: dict[str, Any]

    @property
    def short(self) -> str:
        """The name that a project may have for itself, `--scenario-seed`."""
        return f"--{self.word}"

    @property
    def long(self) -> str:
        """The name that always exists, `--reconnect-scenario-seed`."""
        return f"--reconnect-{self.word}"

    @property
    def dest(self) -> str:
        """The attribute of pytest's options that has the value, `reconnect_scenario_seed`."""
        return self.long.removeprefix("--").replace("-", "_")

    @property
    def short_dest(self) -> str:
        """The attribute that has what was given under the short name."""
        return f"{self.dest}_by_short_name"


SCENARIO = Option(
    "scenario",
    "Run this scenario, and no other tests. May be given several times.",
    {"action": "append", "metavar": "NAME|FILE|FOLDER|all"},
)
SUT = Option(
    "sut",
    "The system under test: 'COMMAND {listen} {upstream}' (HOST:PORT each; {listen_port}, {upstream_port}), ws://URL "
    "of a service that echoes, or one of reconnect-proxy (the default), nginx, haproxy, fastify, websockets, and "
    "direct for none.",
    {"metavar": "NAME|COMMAND|URL"},
)
PROFILE = Option(
    "profile",
    "What the system under test claims: scenarios that ask for more are skipped. Default: what is known of a preset.",
    # Not as choices, because nothing else is imported in runs that do not use the plugin.
    {"metavar": "transparent|reconnecting|at-least-once|exactly-once"},
)
TOXIPROXY = Option(
    "toxiproxy",
    "Which Toxiproxy to use. Default: TOXIPROXY_URL, PATH, the user's cache, one built there with Go, or the embedded "
    "one.",
    {"metavar": "URL|BINARY|docker[:IMAGE]|embedded"},
)
SEED = Option("scenario-seed", "What random parts are drawn from. Default: 1.", {"type": int, "metavar": "N"})
OUT = Option(
    "scenario-out",
    "Where each run leaves report.html, results.json and history.jsonl. Default: scenario-runs.",
    {"metavar": "DIR"},
)
OPTIONS = (SCENARIO, SUT, PROFILE, TOXIPROXY, SEED, OUT)

_GROUP = "reconnect-harness"

#: The options whose short names are ours in this run.
_SHORT_NAMES = pytest.StashKey[list[Option]]()

#: What pytest returns for an option that does not exist.
_NO_OPTION = object()


def add_options(parser: pytest.Parser, plugins: pytest.PytestPluginManager) -> None:
    """Add each option under its long name, and under its short one too if a conftest loads the plugin."""
    group = parser.getgroup(
        _GROUP,
        "chaos scenarios for WebSocket proxies (reconnect-proxy); each option also has a short name without "
        "'reconnect-', as --scenario, unless the project has an option of that name",
    )
    for option in OPTIONS:
        group.addoption(option.long, dest=option.dest, help=option.help, **option.attributes)
    if any(_is_conftest(plugin) for plugin in plugins.get_plugins()):
        # pytest does not call pytest_load_initial_conftests of a plugin that is loaded so late.
        config: pytest.Config | None = plugins.get_plugin("pytestconfig")
        assert config is not None, "pytest registers it before any plugin"
        _add(config, parser, [option for option in OPTIONS if _unknown(config, parser, [option.short])])


def add_short_names(config: pytest.Config, parser: pytest.Parser, arguments: Sequence[str]) -> None:
    """Add the short names that the command line uses, and that belong to no other option."""
    ours = _unknown(config, parser, arguments)
    if not ours:
        return
    known = config.known_args_namespace
    paths = parser.parse_known_args(_with_long_names(arguments, ours), copy.copy(config.option)).file_or_dir
    if paths != known.file_or_dir:
        known.file_or_dir = paths
        config.pytest_load_initial_conftests(config)
        ours = _unknown(config, parser, arguments)
    _add(config, parser, ours)


def join_names(config: pytest.Config) -> None:
    """Give each option the value that was given under either of its names.

    Raises:
        pytest.UsageError: an option was given under both names, with different values.

    """
    for option in OPTIONS:
        short, long = config.getoption(option.short_dest, None), config.getoption(option.dest)
        if short is None:
            continue
        if long is not None and long != short:
            raise pytest.UsageError(
                f"{_words(option.short, short)} and {_words(option.long, long)}: these are two names of one option, "
                "and their values differ. Give one of them"
            )
        setattr(config.option, option.dest, short)


def name_here(config: pytest.Config, option: Option) -> str:
    """Return the name under which a user can give an option in this project: the short one where it is ours."""
    return option.long if option in _taken(config) else option.short


def name_given(config: pytest.Config, option: Option) -> str:
    """Return the name under which an option was given."""
    return option.long if config.getoption(option.short_dest, None) is None else option.short


def header(config: pytest.Config) -> list[str]:
    """Return the line that says which short names are not ours here, if there are any."""
    taken = _taken(config)
    if not taken:
        return []
    shorts, longs = (", ".join(names) for names in zip(*((option.short, option.long) for option in taken), strict=True))
    return [f"reconnect-harness: this project has its own {shorts}; ours: {longs}"]


def _taken(config: pytest.Config) -> list[Option]:
    """Return the options whose short names belong to other options."""
    ours = config.stash.get(_SHORT_NAMES, [])
    return [
        option
        for option in OPTIONS
        if option not in ours and config.getoption(option.short, _NO_OPTION) is not _NO_OPTION
    ]


def _add(config: pytest.Config, parser: pytest.Parser, options: Iterable[Option]) -> None:
    """Add the short names of some options. The help has them with the long names."""
    group = parser.getgroup(_GROUP)
    added = config.stash.setdefault(_SHORT_NAMES, [])
    for option in options:
        group.addoption(option.short, dest=option.short_dest, help=argparse.SUPPRESS, **option.attributes)
        added.append(option)


def _unknown(config: pytest.Config, parser: pytest.Parser, arguments: Sequence[str]) -> list[Option]:
    """Return the options that `arguments` give under their short names, if pytest does not know these names."""
    # `@FILE` stands for arguments in a file.
    if not any(word.startswith(("@", *(option.short for option in OPTIONS))) for word in arguments):
        return []
    try:
        values, unknown = parser.parse_known_and_unknown_args(arguments, copy.copy(config.option))
    except pytest.UsageError:
        # pytest parses the same arguments next, and reports what is wrong with them.
        return []
    # argparse takes an unknown option with a space in it, `--sut=COMMAND ARGUMENT`, for the path of a test.
    names = {word.partition("=")[0] for word in (*unknown, *values.file_or_dir)}
    return [option for option in OPTIONS if option.short in names]


def _with_long_names(arguments: Iterable[str], options: Iterable[Option]) -> list[str]:
    """Return `arguments` with the long names of some options instead of the short ones."""
    longs = {option.short: option.long for option in options}
    words = (word.partition("=") for word in arguments)
    return [longs.get(name, name) + equals + value for name, equals, value in words]


def _words(name: str, value: object) -> str:
    """Return an option as it may stand on a command line."""
    return " ".join(f"{name}={each}" for each in (value if isinstance(value, list) else [value]))


def _is_conftest(plugin: object) -> bool:
    """Whether a plugin is a conftest."""
    return Path(getattr(plugin, "__file__", None) or "").name == "conftest.py"
