"""Virtual environments with the built wheel and the packages that it declares, and no others.

The wheel is built and unpacked once. An environment has links to it, and to packages of the environment in which the
tests run. So nothing is downloaded, modules are compiled once, and an environment takes a tenth of a second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: Where `make` puts pytest plugins that the tests of this project must not load.
PLUGINS = Path(sys.prefix) / "pytest-plugins"

#: How long a run of pytest may take, in seconds.
PATIENCE = 100


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it has written to its standard output."""
        return self.out.splitlines()


class Environment:
    """A virtual environment.

    Args:
        folder: where it is made.
        unpacked: the folder with the unpacked wheel.
        requirements: what else to install, in the words of `pip install`: `reconnect-proxy[harness]`, `pytest-retry`.

    """

    def __init__(self, folder: Path, unpacked: Path, requirements: Iterable[str]) -> None:
        venv.EnvBuilder(symlinks=True).create(folder)
        self._programs = folder / "bin"
        (packages,) = folder.glob("lib/python*/site-packages")
        for installed in _needed(unpacked, requirements):
            _link(installed, packages)
            self._write_programs(installed)

    def run(self, folder: Path, *command: str, **variables: str) -> Done:
        """Run one of its programs in a folder to its end, with some environment variables of its own."""
        program = self._programs / command[0]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
        done = subprocess.run(
            [program, *command[1:]],
            cwd=folder,
            env=inherited | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def _write_programs(self, installed: Distribution) -> None:
        for entry in installed.entry_points.select(group="console_scripts"):
            program = self._programs / entry.name
            called = f"from {entry.module} import {entry.attr} as main"
            program.write_text(f"#!{self._programs}/python\nimport sys\n{called}\nsys.exit(main())\n")
            program.chmod(0o755)


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of the project in `source`."""
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _needed(unpacked: Path, requirements: Iterable[str]) -> Iterator[Distribution]:
    """Return the distributions that pip would install for the unpacked wheel and some requirements."""
    here = {
        canonicalize_name(found.metadata["Name"]): found
        for found in (*distributions(), *distributions(path=[str(PLUGINS)]), *distributions(path=[str(unpacked)]))
    }
    waiting = [Requirement(text) for text in ["reconnect-proxy", *requirements]]
    seen: set[tuple[str, str]] = set()
    found: dict[str, Distribution] = {}
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        assert name in here, f"{wanted.name} is not installed: run make"
        found[name] = here[name]
        for extra in {"", *wanted.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                asked = [Requirement(text) for text in here[name].requires or []]
                waiting += [each for each in asked if each.marker is None or each.marker.evaluate({"extra": extra})]
    yield from found.values()


def _link(installed: Distribution, packages: Path) -> None:
    """Link the files and folders of a distribution into another `site-packages`."""
    tops = {PurePath(file).parts[0] for file in installed.files or []} - {"..", "__pycache__"}
    for top in tops:
        link = packages / top
        # Several distributions may have parts of one folder.
        if not link.exists():
            link.symlink_to(Path(str(installed.locate_file(top))))
