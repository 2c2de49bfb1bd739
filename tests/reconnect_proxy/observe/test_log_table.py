"""The table of log lines names every line that the code writes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import reconnect_proxy

from .every_event import CASES
from .log_table import FIELDS, NOTICES, LogLine, log_table

LEVELS = {"debug", "info", "warning", "error", "exception", "log"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a logger in the proxy's modules.

    Without those of the client library, which logs for its user, and those of `logs`, which writes the events.
    """
    for path in sorted(Path(reconnect_proxy.__file__).parent.rglob("*.py")):
        if path.parent.name == "client" or path.name == "logs.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger" | "_LOG"), attr=level)) if level in LEVELS:
                    yield f"{path.name}:{node.lineno}", node


def test_every_line_that_is_no_event_is_in_the_table() -> None:
    """The texts are constants, because alerts are made of them; and the table has no further lines."""
    found = set()
    for place, call in calls():
        assert isinstance(call.func, ast.Attribute)
        *level, message = call.args
        assert isinstance(message, ast.Constant), f"{place}: the text is not a constant: put what varies into fields"
        assert len(level) == (call.func.attr == "log"), f"{place}: put what varies into fields"
        found.add(message.value)
    assert found == {line.event for line in NOTICES}


def test_names_are_stable_and_tell_kinds_apart() -> None:
    """A name is one kind of line. Only the failure of a hook has two: its error and its event."""
    names = [line.event for line in log_table()]
    assert {name for name in names if names.count(name) > 1} == {"hook failed"}
    assert {"session opened", "session ended", "leg lost", "resumed", "redial", "refused", "stopping"} <= set(names)


@pytest.mark.parametrize("line", list(log_table()), ids=lambda line: line.event)
def test_every_line_and_each_of_its_fields_is_explained(line: LogLine) -> None:
    """In the table of fields, or by name in what the line tells."""
    assert line.meaning.endswith(".")
    assert [name for name in line.fields if name not in FIELDS and f"`{name}`" not in line.meaning] == []


def test_the_table_has_the_fields_that_are_written() -> None:
    """In their order, as the lines of all events show."""
    fields = {line.event: line.fields for line in reversed(list(log_table()))}
    for case in CASES:
        _, _, text = case.line.partition(" ")
        name = next(name for name in fields if text.startswith(f"{name} "))
        places = [text.index(f" {field}=") for field in fields[name]]
        assert places == sorted(places)
