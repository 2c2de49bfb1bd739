"""HAProxy in front of the upstream, in HTTP mode, where an upgraded connection becomes a tunnel.

As its manual advises for long-lived connections: `timeout tunnel` far above the length of a run, and
`timeout client-fin` as well. Everything else is its default, for instance that the number of connections is limited by
its descriptors only, and that a refused connection is tried again after a second, three times.
"""

from __future__ import annotations

from pathlib import Path

from reconnect_harness.profile import Profile
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.sut.base import ListeningSystem
from reconnect_harness.sut.presets import installed

_CONFIG = """\
global
    log stderr format raw local0 notice

defaults
    mode http
    log global
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    timeout tunnel 1h
    timeout client-fin 30s

frontend clients
    bind {listen}
    default_backend upstream

backend upstream
    server u1 {upstream}
"""


def config(listen: str, upstream: str) -> str:
    """Return an `haproxy.cfg` that proxies `listen` to `upstream` (HOST:PORT each)."""
    return _CONFIG.format(listen=listen, upstream=upstream)


class Haproxy(ListeningSystem):
    """HAProxy, in the foreground, with its configuration in the run's folder."""

    profile = Profile.TRANSPARENT

    def describe(self) -> str:
        """Return its name and version."""
        return f"HAProxy {installed.version('haproxy', '-v')}"

    def check(self, scenario: Scenario) -> None:
        """Raise NotInstalled if there is no HAProxy."""
        super().check(scenario)
        self._program()

    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Write `haproxy.cfg` into the folder, and return the command that uses it."""
        path = folder.absolute() / "haproxy.cfg"
        path.write_text(config(listen, upstream), encoding="utf-8")
        # -db: in the foreground, and one process.
        return [self._program(), "-db", "-f", str(path)]

    def _program(self) -> str:
        return installed.require("haproxy", "haproxy", "install it with the system's packages (apt install haproxy)")
