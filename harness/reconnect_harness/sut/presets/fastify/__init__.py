"""`@fastify/http-proxy` with `wsReconnect` in front of the upstream: another proxy that redials a lost upstream.

`server.js`, in this folder, is the server. Its packages are installed once, with npm and in the versions of
`package-lock.json`, into the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from reconnect_harness.processes.child import Child, Warden
from reconnect_harness.profile import Profile
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.sut.base import ListeningSystem
from reconnect_harness.sut.presets import installed
from reconnect_harness.toxiproxy.find import cache_folder

#: How long npm may take, in seconds.
INSTALL_SECONDS = 300.0

_HERE = Path(__file__).parent
_MANIFESTS = ("package.json", "package-lock.json")
_PLUGIN = "@fastify/http-proxy"


def cached_modules() -> Path:
    """Return the folder in the user's cache for `node_modules`; each lock file has a folder of its own."""
    lock = hashlib.sha256((_HERE / "package-lock.json").read_bytes()).hexdigest()
    return cache_folder(os.environ) / f"fastify-{pinned()}-{lock[:8]}"


def pinned() -> str:
    """Return the version of the plugin that is installed."""
    manifest = json.loads((_HERE / "package.json").read_text())
    return str(manifest["dependencies"][_PLUGIN])


class Fastify(ListeningSystem):
    """A Fastify server that is only a proxy, in a process of its own."""

    profile = Profile.RECONNECTING

    def describe(self) -> str:
        """Return its name, its version, and that of Node."""
        return f"{_PLUGIN} {pinned()} (wsReconnect), Node {installed.version('node', '--version')}"

    def check(self, scenario: Scenario) -> None:
        """Raise NotInstalled if there is no Node, or no npm to install the plugin with."""
        super().check(scenario)
        self._node()
        if not cached_modules().is_dir():
            self._npm()

    async def prepare(self, folder: Path, warden: Warden) -> None:
        """Install the plugin if that has not been done, completely or not at all."""
        modules = cached_modules()
        if modules.is_dir():
            return
        print(f"installing {_PLUGIN} {pinned()} into {modules} with npm (once)", file=sys.stderr, flush=True)
        modules.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=modules.parent, prefix="fastify-") as made:
            place = Path(made) / "place"
            place.mkdir()
            for name in _MANIFESTS:
                shutil.copy(_HERE / name, place)
            command = [self._npm(), "ci", "--prefix", str(place), "--ignore-scripts", "--no-audit", "--no-fund"]
            npm = await Child.start("npm", command, folder / "npm.log", warden)
            try:
                status = await npm.wait(INSTALL_SECONDS)
            finally:
                await npm.stop()
            if status is None:
                raise npm.failure(f"did not install {_PLUGIN} within {INSTALL_SECONDS:g} s")
            if status != 0:
                raise npm.failure(f"could not install {_PLUGIN}: it ended with status {status}")
            _move(place, modules)

    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Copy the server into the folder, so that a reader can see it, and return the command that runs it."""
        script = folder.absolute() / "fastify.js"
        shutil.copy(_HERE / "server.js", script)
        return [self._node(), str(script), listen, upstream, str(cached_modules())]

    def _node(self) -> str:
        return installed.require("node", "fastify", "install Node.js 20 or newer")

    def _npm(self) -> str:
        return installed.require("npm", "fastify", "install it with Node.js; it is needed once, to install the plugin")


def _move(place: Path, modules: Path) -> None:
    try:
        place.rename(modules)
    except OSError:
        # Another run has installed the same at the same time.
        if not modules.is_dir():
            raise
