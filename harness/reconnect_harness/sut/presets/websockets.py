"""An ordinary relay on the library `websockets` (`sut.presets.relay`), to compare with a proxy that keeps nothing."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from reconnect_harness.profile import Profile
from reconnect_harness.sut.base import ListeningSystem


class Websockets(ListeningSystem):
    """The relay, as a process."""

    profile = Profile.TRANSPARENT

    def describe(self) -> str:
        """Return its name and the version of the library."""
        return f"a plain relay on websockets {version('websockets')}"

    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Return the command that runs it."""
        return [sys.executable, "-P", "-m", "reconnect_harness.sut.presets.relay", listen, upstream]
