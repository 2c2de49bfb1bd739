"""docs/operations.md names exactly the options, metrics, refusals and log lines of the program."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

import reconnect_proxy
from reconnect_proxy import events
from reconnect_proxy.admin.view import SESSION_FIELDS
from reconnect_proxy.cli import configure, serve_command
from reconnect_proxy.config.presets import Preset
from reconnect_proxy.config.sources import PREFIX, load, variable_of
from reconnect_proxy.core.policy import Mode
from reconnect_proxy.core.target import UpstreamInfo
from reconnect_proxy.introspection import Usage
from reconnect_proxy.net.head import MalformedHead
from reconnect_proxy.observe.event_table import EVENTS
from reconnect_proxy.observe.gauges import NAMESPACE, WorkerGauges
from reconnect_proxy.observe.log_writer import DroppedLines
from reconnect_proxy.observe.metrics import Metrics

from .config.test_sources import from_flags
from .observe.every_event import CASES, URL
from .observe.log_table import FIELDS, NOTICES, log_table
from .observe.test_log_table import calls

PACKAGE = Path(reconnect_proxy.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "operations.md").read_text(encoding="utf-8")

#: Flags of other programs that the page calls, and of its own measuring script.
OTHER_FLAGS = {"--deploy-hook", "--held", "--sessions", "--tls", "--version"}


def rows(*header: str) -> list[tuple[str, ...]]:
    """Return the rows of the one table of the page with this header, cell by cell; `\\|` is a bar within a cell."""
    lines = PAGE.splitlines()
    starts = [number for number, line in enumerate(lines) if cells(line) == header]
    assert len(starts) == 1, f"there must be one table with the columns {', '.join(header)}"
    found = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        found.append(cells(line))
        assert len(found[-1]) == len(header), line
    return found


def cells(line: str) -> tuple[str, ...]:
    """Return the cells of a table's line; of any other line, nothing."""
    if not line.startswith("|"):
        return ()
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])


def quoted(text: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def row(*columns: str) -> tuple[str, ...]:
    """Return these columns as they are written in a table."""
    return tuple(column.replace("|", "\\|") for column in columns)


# Options.


def options() -> Iterator[tuple[str, ...]]:
    """Yield the row of each option, made of what `reconnect-proxy serve --help` says."""
    for option in serve_command.params:
        assert isinstance(option, click.Option) and option.name and option.help
        if option.name == "config":
            continue
        text, _, default = option.help.rpartition("  [")
        default = default.removesuffix("]").removeprefix("default: ")
        flags = [*option.opts, *option.secondary_opts] if option.is_flag else [f"{option.opts[0]} {option.metavar}"]
        shown = default if default in ("required", "none", "off", "yes", "no") else f"`{default}`"
        yield row(", ".join(f"`{flag}`" for flag in flags), f"`{variable_of(option.name)}`", shown, text)


def test_every_option_is_there_as_help_tells_of_it() -> None:
    """With its flag, variable, default and meaning, in the same order; so is its key, which is the flag's name."""
    assert rows("flag", "variable", "default", "meaning") == list(options())


def test_the_page_says_what_each_preset_sets() -> None:
    """As flags that can be given instead: they make the same configuration."""
    table = rows("preset", "sets", "for")
    assert [quoted(name) for name, _, _ in table] == [[preset] for preset in Preset]
    for name, sets, _ in table:
        by_preset = ["--preset", *quoted(name)]
        by_flags = [flag for text in quoted(sets) for flag in text.split()]
        found, expected = (from_flags("--upstream", "ws://h", *flags) for flags in (by_preset, by_flags))
        assert found.model_dump(exclude={"preset"}) == expected.model_dump(exclude={"preset"})


def test_the_page_names_no_flag_that_is_not_there() -> None:
    """Nor a variable: neither in its prose nor in its examples."""
    flags = {name for option in serve_command.params for name in (*option.opts, *option.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) - flags - OTHER_FLAGS == set()
    variables = {variable_of(option.name) for option in serve_command.params if option.name}
    assert set(re.findall(rf"\b{PREFIX}[A-Z_]+", PAGE)) <= variables


# Metrics.


def metrics() -> Iterator[tuple[str, str, frozenset[str], str]]:
    """Yield each metric as Prometheus stores it, its type, labels and help, of a registry like that of the program."""
    metrics = Metrics(CollectorRegistry())
    ProcessCollector(registry=metrics.registry)
    GCCollector(registry=metrics.registry)
    metrics.registry.register(DroppedLines())
    metrics.watch(Mode.DUPLEX, tuple)
    metrics.watch_upstreams(lambda: [UpstreamInfo(URL, 1, True, "", 0, 0, 0)])
    metrics.watch_limits(lambda: [Usage("held", 0, 1)])
    for case in CASES:
        metrics.count(case.event)
    for family in (*metrics.registry.collect(), *WorkerGauges([(True, 1)]).collect()):
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {label for sample in family.samples for label in sample.labels}
        yield family.name + suffix, family.type, frozenset(labels - {"le"}), family.documentation


def test_every_metric_is_there_with_its_type_and_labels() -> None:
    """The table has each metric once, and no other."""
    documented = {}
    for name, kind, labels, meaning, _ in rows("metric", "type", "labels", "meaning", "alert on"):
        assert meaning, name
        for each in quoted(name):
            assert each not in documented, each
            documented[each] = (kind, frozenset(quoted(labels)))
    assert documented == {name: (kind, labels) for name, kind, labels, _ in metrics()}


def test_the_meaning_of_a_metric_is_its_help_text() -> None:
    """The page only puts words in backticks. The metrics of the process come from a library with its own texts."""
    own = {name: text for name, _, _, text in metrics() if name.startswith(NAMESPACE)}
    table = rows("metric", "type", "labels", "meaning", "alert on")
    documented = {quoted(name)[0]: meaning.replace("`", "") for name, _, _, meaning, _ in table}
    assert {name: text for name, text in documented.items() if name.startswith(NAMESPACE)} == own


def test_the_page_names_no_metric_that_is_not_there() -> None:
    """In its prose and its examples; of a histogram also what belongs to it."""
    known = {name for name, *_ in metrics()}
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    assert set(re.findall(r"\breconnect_proxy_[a-z_0-9]+(?![a-z_0-9.:/])", PAGE)) - known == set()


# What clients are told.


def refusals() -> set[str]:
    """Return the short name of each refusal that the listener can answer, as the code has them."""
    names = {MalformedHead("", status).refusal.error for status in head_statuses()}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name in ("admin", "client"):
            continue
        text = path.read_text(encoding="utf-8")
        names |= set(re.findall(r'"error": "([a-z-]+)"', text))
        for node in ast.walk(ast.parse(text)):
            names |= set(names_in(node, path.name))
    return names


def names_in(node: ast.AST, file: str) -> Iterator[str]:
    """Yield the names of refusals that a piece of the program gives: where they are made, or where they are chosen."""
    match node:
        case ast.Call(func=ast.Name(id="Refusal"), args=[_, ast.Constant(value=str(name)), *_]):
            yield name
        case ast.Call(func=ast.Name(id="Refusal"), args=[_, ast.Name(id="error") | ast.Subscript(), *_]):
            # Chosen elsewhere: see the other cases, and `head_statuses`.
            pass
        case ast.Call(func=ast.Name(id="Refusal")):
            pytest.fail(f"{file}:{node.lineno}: this test does not understand how the refusal is called")
        case ast.Call(func=ast.Name(id="limit_reached"), args=[ast.Constant(value=str(name)), *_]):
            yield name
        case ast.Call(func=ast.Attribute(attr="close"), args=[_, _, ast.Constant(value=str(name))]):
            yield name
        case ast.FunctionDef(name="close", args=ast.arguments(defaults=[ast.Constant(value=str(name))])):
            if name:
                yield name


def head_statuses() -> Iterator[int]:
    """Yield each status that a head can be refused with."""
    from reconnect_proxy.net import head

    yield from head._ERRORS


def test_every_refusal_is_there() -> None:
    """By the short name that is in the answer and in the metric, and none that is not."""
    documented = [name for cell, _, _ in rows("error", "status", "when") for name in quoted(cell)]
    assert sorted(documented) == sorted(refusals())


def test_every_limit_is_there() -> None:
    """Those of a session, by the name that is in the metric and in the log."""
    column = " ".join(metric for *_, metric, _ in rows("limit", "option", "answer", "metric", "log event"))
    named = set(re.findall(r'limits_reached_total\{limit="([a-z-]+)"\}', column))
    assert named == {*events.Limit, "held"}


def test_every_field_of_a_session_is_there() -> None:
    """That `/sessions` shows."""
    named = [name for cell, _ in rows("field of a session", "what it means") for name in quoted(cell)]
    assert sorted(named) == sorted(SESSION_FIELDS)


# The log.


def levels() -> dict[tuple[str, tuple[str, ...]], str]:
    """Return for each kind of line, known by its name and fields, the levels it can have, the least first."""
    order = ["debug", "info", "warning", "error"]
    found: dict[str, set[str]] = {}
    for case in CASES:
        level, _, text = case.line.partition(" ")
        found.setdefault(f"event {events_name(text)}", set()).add(level.lower())
    for _, call in calls():
        assert isinstance(call.func, ast.Attribute) and isinstance(call.args[-1], ast.Constant)
        level = {"exception": "error", "log": "info, warning"}.get(call.func.attr, call.func.attr)
        found.setdefault(f"notice {call.args[-1].value}", set()).update(level.split(", "))
    kinds = ["event"] * len(EVENTS) + ["notice"] * len(NOTICES)
    return {
        (line.event, line.fields): ", ".join(sorted(found[f"{kind} {line.event}"], key=order.index))
        for kind, line in zip(kinds, log_table(), strict=True)
    }


def events_name(text: str) -> str:
    """Return the name of the event at the beginning of a line of text."""
    names = [line.event for line in log_table() if text.startswith(f"{line.event} ") or text == line.event]
    return max(names, key=len)


def test_every_log_line_is_there_with_its_level_and_fields() -> None:
    """As the program's own table has them, in the same order."""
    known = levels()
    expected = [
        row(
            f"`{line.event}`",
            known[line.event, line.fields],
            ", ".join(f"`{field}`" for field in line.fields),
            line.meaning,
        )
        for line in log_table()
    ]
    assert rows("event", "level", "fields", "what it tells") == expected


def fields() -> list[tuple[str, ...]]:
    """Return the rows of the table of fields, which has two of them in a line: those of the other half on the right."""
    explained = [row(f"`{field}`", meaning) for field, meaning in FIELDS.items()]
    half = (len(explained) + 1) // 2
    right = [*explained[half:], ("", "")][:half]
    return [(*one, *other) for one, other in zip(explained[:half], right, strict=True)]


def test_every_field_is_explained() -> None:
    """As the program's own table has it."""
    assert rows("field", "what it means", "field", "what it means") == fields()


# What can be run.


def test_the_file_of_the_page_is_a_configuration(tmp_path: Path) -> None:
    """Its options are those that it says."""
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "proxy.toml"
    file.write_text(example)
    config = load({}, {}, str(file))
    assert [server.weight for server in config.servers] == [3, 1]
    assert (config.drain, config.bind, config.keep_host) == (20.0, ("authorization",), True)


def test_the_examples_for_other_programs_can_be_read() -> None:
    """What Kubernetes is to start are options of this program; what Prometheus is to watch are metrics, see above."""
    documents = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    (deployment,) = [document for document in documents if document.get("kind") == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    serve, *arguments = container["args"]
    assert serve == "serve"
    with serve_command.make_context("serve", arguments) as context:
        assert configure(**context.params).drain == 20.0


def test_the_measuring_script_measures() -> None:
    """It starts a proxy, fills it, and says what a held message costs: no less than it has."""
    script = PACKAGE.parent / "docs" / "capacity.py"
    done = subprocess.run(
        [sys.executable, script, "--held", "1000", "--sessions", "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    match = re.fullmatch(r"a held message of 1000 bytes: (\d+) bytes\n", done.stdout)
    assert match is not None and int(match[1]) >= 900
