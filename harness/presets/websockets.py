"""An ordinary relay on the library `websockets` (`harness.presets.relay`): what a proxy is worth that keeps nothing."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from harness.sut import Listening


class Websockets(Listening):
    """The relay, as a process."""

    def describe(self) -> str:
        """Return what it is made of."""
        return f"a plain relay on websockets {version('websockets')}"

    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Return the command that runs it."""
        return [sys.executable, "-P", "-m", "harness.presets.relay", listen, upstream]
