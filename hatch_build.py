"""The compiled build: `COMPILE_RECONNECT_PROXY=1 pip install .` puts the path of a message into the wheel as C as well.

mypyc compiles the modules below as they are, from their type annotations. The Python files stay beside what it makes of
them, and are what an interpreter runs that finds no compiled ones. Without the variable the wheel is pure Python.

All happens in a copy: compiled modules in a source tree would hide later changes of the files they were made from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: Not RECONNECT_PROXY_…: those are options of the proxy, which refuses to start with one that it does not know.
VARIABLE = "COMPILE_RECONNECT_PROXY"
#: What a message passes, what a session is opened with, and what these need to know of each other at compile time.
MODULES = (
    "core/backpressure.py",
    "core/budget.py",
    "core/clients.py",
    "core/context.py",
    "core/filtered.py",
    "core/link.py",
    "core/opening.py",
    "core/outbox.py",
    "core/pool.py",
    "core/target.py",
    "core/throttle.py",
    "core/timers.py",
    "core/traffic.py",
    "core/upstream.py",
    "core/wire.py",
    "net/burst.py",
    "net/head.py",
)


class CompileHook(BuildHookInterface[Any]):
    """Adds compiled modules to a wheel if the environment asks for them."""

    def dependencies(self) -> list[str]:
        """Return what the build needs in addition."""
        return ["mypy>=1.11", "setuptools"] if _wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless the wheel is that of an editable install. Raises CalledProcessError if that fails."""
        self._folder: TemporaryDirectory[str] | None = None
        if self.target_name != "wheel" or version == "editable" or not _wanted():
            return
        self._folder = TemporaryDirectory()
        copy = Path(self._folder.name)
        shutil.copytree(Path(self.root) / "reconnect_proxy", copy / "reconnect_proxy")
        arguments = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports"]
        subprocess.run(
            [sys.executable, "-m", "mypyc", *arguments, *(f"reconnect_proxy/{module}" for module in MODULES)],
            cwd=copy,
            # What is said to mypyc in the environment wins.
            env={"MYPYC_DEBUG_LEVEL": "0", **os.environ},
            check=True,
        )
        shutil.rmtree(copy / "build")
        for made in copy.rglob("*.so"):
            build_data["force_include"][str(made)] = str(made.relative_to(copy))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the copy."""
        if self._folder is not None:
            self._folder.cleanup()


def _wanted() -> bool:
    return os.environ.get(VARIABLE, "") not in ("", "0")
