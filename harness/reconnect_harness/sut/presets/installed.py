"""Programs that presets need: where they are, their version, and the error if one is not installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from reconnect_harness.sut.base import NotInstalled

#: How long a program may take to print its version, in seconds.
_VERSION_SECONDS = 10.0

#: Folders in which distributions install servers, and which are often not in the PATH of a user.
_SERVER_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Return the path of a program, or None if it is not installed."""
    return shutil.which(program) or shutil.which(program, path=_SERVER_PATH)


def require(program: str, preset: str, advice: str) -> str:
    """Return the path of a program.

    Raises NotInstalled if there is none; `advice` says how to install it.
    """
    path = find(program)
    if path is None:
        raise NotInstalled(f"--sut {preset} needs {program}, which is not installed: {advice}")
    return path


def version(program: str, *arguments: str) -> str:
    """Return the version of a program (`1.22.1`), or why it is not known."""
    path = find(program)
    return "not installed" if path is None else _printed_version([path, *arguments])


def _printed_version(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        return f"of unknown version: {failure}"
    found = re.search(rb"\d+(\.\d+)+", done.stdout)
    return found[0].decode() if found else "of unknown version"
