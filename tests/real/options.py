"""Options of the proxy that tests here need and that are not built yet: the one place that names them."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

#: Each option, and a word that `serve --help` has once the option is there.
COMING = {
    "--preset": "--preset",
    "--retry-on none": "abnormal|any|none",
    "--gate replay:N/M": "replay:",
}


def if_built(**options: Any) -> dict[str, Any]:
    """Return those of the options that are built."""
    return {name: value for name, value in options.items() if _missing(name, value) is None}


def require(options: Mapping[str, Any]) -> None:
    """Skip the test if it gives the proxy an option that is not built yet."""
    for name, value in options.items():
        if (option := _missing(name, value)) is not None:
            pytest.skip(f"the proxy has no {option} yet")


def _missing(name: str, value: Any) -> str | None:
    """Return which entry of `COMING` an option is, if it is not built yet."""
    flag = f"--{name.replace('_', '-')}"
    for option, sign in COMING.items():
        wanted_flag, _, wanted_value = option.partition(" ")
        if flag == wanted_flag and str(value).startswith(wanted_value.partition(":")[0]) and sign not in _help():
            return option
    return None


@functools.cache
def _help() -> str:
    command = [sys.executable, "-P", "-m", "reconnect_proxy.cli", "serve", "--help"]
    # Wide enough that no option is broken over two lines.
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
