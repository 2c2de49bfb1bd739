"""Scenario files: where they are, and how they are read and parsed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.values import first_problem
from reconnect_proxy.suggestions import did_you_mean

#: Stands for all shipped scenarios.
ALL = "all"


def scenario_files(wanted: str) -> list[Path]:
    """Return the files that a name, a file, a folder or `all` stands for.

    Raises:
        ScenarioError: there is no such scenario, file or folder.

    """
    shipped = shipped_scenarios()
    if wanted == ALL:
        return sorted(shipped.values())
    path = Path(wanted)
    if wanted in shipped and not path.is_file():
        return [shipped[wanted]]
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
        if not found:
            raise ScenarioError(f"the folder {wanted} holds no scenario (*.yaml)")
        return found
    raise ScenarioError(
        f"there is no scenario {wanted!r}: {did_you_mean(wanted, shipped)}It may be a file, a folder, all, or one that "
        "`reconnect-harness list` shows"
    )


def shipped_scenarios() -> dict[str, Path]:
    """Return the scenarios that come with the harness, by name: those in the wheel, or in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "scenarios", package.parents[1] / "scenarios"):
        if folder.is_dir():
            return {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    return {}


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ScenarioError: it cannot be read, or its content is not valid.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise ScenarioError(f"{path}: it cannot be read: {failure}") from None
    try:
        given = yaml.load(text, _StrictLoader)
    except yaml.YAMLError as failure:
        raise ScenarioError(f"{path}: it is not YAML: {_yaml_problem(failure)}") from None
    except RecursionError:
        raise ScenarioError(f"{path}: it cannot be read: lists and mappings are nested too deeply") from None
    return parse_scenario(given, str(path))


def parse_scenario(given: object, origin: str) -> Scenario:
    """Make a scenario of the content of a file; `origin` is what errors call the file.

    Raises:
        ScenarioError: the content is not valid.

    """
    try:
        return Scenario.model_validate(given)
    except ValidationError as error:
        path, sentence = first_problem(error)
        at = f"{path}: " if path else ""
        raise ScenarioError(f"{origin}: {at}{sentence}") from None


def bare_scenario(name: str, proxy: Mapping[str, Any]) -> Scenario:
    """Return a scenario that only has options of the proxy: systems under test are started with one."""
    told = {"name": name, "summary": name, "proxy": dict(proxy), "upstream": {"kind": "echo"}, "expect": {"lost": 0}}
    return parse_scenario({**told, "clients": {"kind": "plain", "send": "1/s", "for": "1s"}}, name)


def _yaml_problem(failure: yaml.YAMLError) -> str:
    """Return in one line what is wrong with a YAML file, and where."""
    mark = getattr(failure, "problem_mark", None)
    if mark is None:
        return " ".join(str(failure).split())
    context, problem = (getattr(failure, name, None) for name in ("context", "problem"))
    what = ": ".join(filter(None, (context, problem)))
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}"


class _StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key that is given twice. YAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
