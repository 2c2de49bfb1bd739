"""An ordinary relay on the library `websockets` (`sut.presets.relay`): what a proxy is worth that keeps nothing."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from reconnect_harness.sut.base import Listening


class Websockets(Listening):
    """The relay, as a process."""

    def describe(self) -> str:
        """Return what it is made of."""
        return f"a plain relay on websockets {version('websockets')}"

    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Return the command that runs it."""
        return [sys.executable, "-P", "-m", "reconnect_harness.sut.presets.relay", listen, upstream]
