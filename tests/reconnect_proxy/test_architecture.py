"""docs/architecture.md: its table has every module, and its arrows are those of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import reconnect_proxy

PACKAGE = Path(reconnect_proxy.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def known_to(module: str) -> set[str]:
    """Return the modules of this package that a module imports, as the table names them."""
    folder = Path(module).parent
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [folder, *folder.parents][node.level - 1].joinpath(*(node.module or "").split("."))
            names = [base / alias.name for alias in node.names] if (PACKAGE / base).is_dir() else [base]
            found |= {f"{name}.py" for name in names}
    return found


def test_the_table_has_every_module() -> None:
    """And none that is not there."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 3]
    named = {name for row in rows for name in re.findall(r"`([a-z_/]+\.py)`", row.split("|")[1])}
    assert named == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module: str) -> None:
    """From the program to the proxy, from there to the sockets, and from there to the core."""
    known = known_to(module)
    assert known <= set(MODULES), "each import is of a module"
    assert "cli.py" not in known
    leaves = ("events.py", "units.py", "close_codes.py", "suggestions.py")
    if module.startswith("core/"):
        assert [name for name in known if not name.startswith(("core/", *leaves))] == []
    elif module.startswith("net/"):
        assert [name for name in known if not name.startswith(("core/", "net/", *leaves))] == []
    elif module.startswith("client/"):
        assert [name for name in known if not name.startswith(("core/", "client/", *leaves))] == []
    elif module.startswith(("hooks/api", "config/")):
        assert {name for name in known if name.startswith("net/")} <= {"net/allow.py", "net/head.py", "net/tls.py"}
        assert "proxy.py" not in known
    elif module.startswith("observe/") and module != "observe/observers.py":
        assert not known & {"proxy.py", "serving.py"}
    elif module == "proxy.py":
        assert [name for name in known if name.startswith(("observe/", "admin/", "client/", "workers/"))] == []
