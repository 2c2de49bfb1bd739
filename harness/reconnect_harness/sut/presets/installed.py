"""Programs that a preset needs: where they are, which version they are, and what to say where they are not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from reconnect_harness.sut.base import NotInstalled

#: How long a program may take to say its version, in seconds.
_SAY_SECONDS = 10.0

#: Where distributions put servers, and the PATH of an ordinary user often does not look.
_SERVERS = "/usr/local/sbin:/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Return the path of a program, or None where it is not installed."""
    return shutil.which(program) or shutil.which(program, path=_SERVERS)


def require(program: str, preset: str, advice: str) -> str:
    """Return the path of a program.

    Raises NotInstalled where there is none; `advice` says how to install it.
    """
    path = find(program)
    if path is None:
        raise NotInstalled(f"--sut {preset} needs {program}, which is not installed: {advice}")
    return path


def version(program: str, *arguments: str) -> str:
    """Return what a program calls its version (`1.22.1`), or why there is none to tell."""
    path = find(program)
    return "not installed" if path is None else _said([path, *arguments])


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SAY_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        return f"of unknown version: {failure}"
    found = re.search(rb"\d+(\.\d+)+", done.stdout)
    return found[0].decode() if found else "of unknown version"
