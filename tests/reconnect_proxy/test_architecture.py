"""docs/architecture.md: its tables have every module and room, and the code imports what they allow.

A room is a folder of a package, or a module next to the folders. Imports for type checkers and imports within functions
count like all others.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import reconnect_harness
import reconnect_proxy

PROXY = Path(reconnect_proxy.__file__).parent
HARNESS = Path(reconnect_harness.__file__).parent
PAGE = (PROXY.parent / "docs" / "architecture.md").read_text(encoding="utf-8")

#: The packages, and the headers of the tables of their rooms.
PACKAGES = {
    "reconnect_proxy": (PROXY, ("room", "what it is", "may import")),
    "reconnect_harness": (HARNESS, ("room", "what it is", "may import", "of the proxy")),
}

#: Rooms above one another, at most.
FLOORS = 12
#: Lines of a module, at most.
LINES = 450


@cache
def modules_of(package: str) -> dict[str, Path]:
    """Return the modules of a package by their names within it; that of the package itself is empty."""
    root, _ = PACKAGES[package]
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
        for path in root.rglob("*.py")
    }


@cache
def imports_of(package: str) -> dict[str, frozenset[tuple[str, str]]]:
    """Return what each module of a package imports: the package and the module, of all packages here."""
    found = {}
    for module, path in modules_of(package).items():
        names: set[str] = set()
        own = [package, *filter(None, module.split("."))]
        # Relative imports begin at the package of a module.
        base = own if path.name == "__init__.py" else own[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                start = base[: len(base) - node.level + 1] if node.level else []
                source = ".".join([*start, *(node.module.split(".") if node.module else [])])
                names |= {f"{source}.{alias.name}" for alias in node.names}
        targets = {target for name in names if (target := _module_of(name)) is not None}
        found[module] = frozenset(targets - {(package, module)})
    return found


def _module_of(name: str) -> tuple[str, str] | None:
    """Return the module that is imported by a dotted name, which may be that of something in it."""
    package, _, rest = name.partition(".")
    if package not in PACKAGES:
        return None
    modules = modules_of(package)
    while rest not in modules:
        rest = rest.rpartition(".")[0]
    return package, rest


def room_of(module: str) -> str:
    """Return the room that a module is in; the package itself has none."""
    return module.partition(".")[0]


class Room:
    """A row of the table: what a room may import of its own package and, in a further column, of the proxy."""

    def __init__(self, cells: list[str]) -> None:
        self.names = _quoted(cells[0])
        self.allowed = _quoted(cells[2])
        self.of_the_proxy = _quoted(cells[3]) if len(cells) > 3 else []


def rooms(package: str) -> list[Room]:
    """Return the rows of the table of rooms, the lowest first."""
    header = "| " + " | ".join(PACKAGES[package][1]) + " |\n"
    assert PAGE.count(header) == 1
    found = []
    for line in PAGE.partition(header)[2].splitlines()[1:]:
        if not line.startswith("|"):
            break
        found.append(Room([cell.strip() for cell in line.split("|")[1:-1]]))
    return found


def _quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected parts of a graph that have more than one member (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        path.append(name)
        for other in sorted(graph[name]):
            if other not in order:
                visit(other)
            if other in path:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == order[name]:
            part = set(path[path.index(name) :])
            del path[path.index(name) :]
            if len(part) > 1:
                found.append(part)

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return found


def within(package: str) -> dict[str, set[str]]:
    """Return which modules of the same package each module imports."""
    return {
        module: {name for other, name in imports if other == package} for module, imports in imports_of(package).items()
    }


def test_a_circle_is_found() -> None:
    """The search for circles finds those that there are, and nothing else."""
    graph = {"a": {"b"}, "b": {"c", "e"}, "c": {"b"}, "d": {"a"}, "e": {"f"}, "f": {"g"}, "g": {"e"}}
    assert circles(graph) == [{"e", "f", "g"}, {"b", "c"}]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    """The modules of a package have an order in which each imports only those before it."""
    assert circles(within(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_is_short_enough_to_read(package: str) -> None:
    """A longer one has more than one subject."""
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules_of(package).items()}
    assert {name: length for name, length in lengths.items() if length > LINES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_in_the_table_once(package: str) -> None:
    """The table has the folders and the modules next to them, and no others."""
    named = [name for room in rooms(package) for name in room.names]
    assert sorted(named) == sorted({room_of(module) for module in modules_of(package)} - {""})


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_imports_only_rooms_above_it_in_the_table(package: str) -> None:
    """So no import points upwards from a lower floor, and rooms make no circle either."""
    floors: dict[str, int] = {}
    for room in rooms(package):
        below = [room_of(name) for name in room.allowed]
        assert [name for name in below if name not in floors] == [], f"{', '.join(room.names)} imports upwards"
        floor = 1 + max((floors[name] for name in below), default=0)
        floors |= dict.fromkeys(room.names, floor)
    assert max(floors.values()) <= FLOORS


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_are_those_that_the_table_allows(package: str) -> None:
    """Each room imports what its row names, a whole room or one module of it, and everything that it names."""
    for room in rooms(package):
        members = [module for module in modules_of(package) if room_of(module) in room.names]
        imported = {
            target
            for module in members
            for target in imports_of(package)[module]
            if target[0] != package or room_of(target[1]) not in room.names
        }
        for other in PACKAGES:
            allowed = room.allowed if other == package else room.of_the_proxy
            names = {name for each, name in imported if each == other}
            _compare(f"{package}: {', '.join(room.names)} -> {other}", names, allowed)


def _compare(where: str, imported: set[str], allowed: list[str]) -> None:
    """Check that modules are imported exactly as the allowed rooms and modules say; the package itself is `public`."""
    used = set()
    for module in imported:
        matching = [each for each in allowed if each in (module or "public", room_of(module))]
        assert matching, f"{where} imports {module or 'public names'}"
        used |= set(matching)
    assert set(allowed) == used, f"{where} does not import what the table allows"


def test_the_table_of_modules_has_every_module_of_the_proxy() -> None:
    """And no other."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 3]
    named = {name for row in rows for name in re.findall(r"`([a-z_/]+\.py)`", row.split("|")[1])}
    assert named == {
        str(path.relative_to(PROXY)) for path in modules_of("reconnect_proxy").values() if path.name != "__init__.py"
    }
