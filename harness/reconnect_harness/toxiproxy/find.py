"""Where a Toxiproxy server comes from: given by the user, on PATH, in the user's cache, built with Go, or embedded.

Each place is one function that returns a `ToxiproxySource`, or the reason why it has none; they are
asked in the order of `_PLACES`. A new place is a new function there. If none of them has a real Toxiproxy, the
embedded one is used, `toxiproxy.embedded`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from reconnect_harness.toxiproxy.container import image_by
from reconnect_harness.toxiproxy.server import ToxiproxyApi, ToxiproxyServer, ToxiproxyUnavailable

VERSION = "2.12.0"
"""The Toxiproxy that is built where none is found."""

_MODULE = "github.com/Shopify/toxiproxy/v2"
_BUILD_SECONDS = 600.0


class ToxiproxySource(NamedTuple):
    """A Toxiproxy that can be used: exactly one of `url`, `binary`, `image` and `embedded` is set."""

    origin: str
    """How it was found, in a few words."""
    url: str | None = None
    """A server that runs already."""
    binary: str | None = None
    """The path of a `toxiproxy-server` to start."""
    image: str | None = None
    """The name of an image to run in a container."""
    embedded: bool = False
    """The server in this package."""

    def server(self, log: Path | None = None) -> ToxiproxyServer:
        """Return the server, not yet started: a context manager. `log` is a file for the output of a
        started one."""
        return ToxiproxyServer(
            url=self.url, binary=self.binary, image=self.image, embedded=self.embedded, origin=self.origin, log=log
        )


def find_toxiproxy(option: str | None = None, environ: Mapping[str, str] | None = None) -> ToxiproxySource:
    """Find a Toxiproxy, in the order of `_PLACES`; build one with Go if no place has one.

    Args:
        option: what the user asked for: a URL, the path of a binary, ``docker``, ``docker:IMAGE`` or ``embedded``;
            None to search.
        environ: the environment to search by, `os.environ` if not given.

    Raises:
        ToxiproxyUnavailable: what was asked for does not exist.
    """
    environ = os.environ if environ is None else environ
    if option is not None:
        return _asked_for(option, "--toxiproxy", environ)
    reasons = []
    for place in _PLACES:
        found = place(environ)
        if isinstance(found, ToxiproxySource):
            return found
        reasons.append(found)
    return ToxiproxySource(f"no real one: {'; '.join(reasons)}", embedded=True)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the harness's folder in the user's cache (XDG_CACHE_HOME, else ~/.cache)."""
    home = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".cache")
    return Path(home) / "reconnect-harness"


def cached_binary(environ: Mapping[str, str]) -> Path:
    """Return the path of the built server in the user's cache."""
    return cache_folder(environ) / f"toxiproxy-server-{VERSION}"


def _asked_for(wanted: str, by: str, environ: Mapping[str, str]) -> ToxiproxySource:
    if wanted == "embedded":
        return ToxiproxySource(f"from {by}", embedded=True)
    if wanted == "docker" or wanted.startswith("docker:"):
        return ToxiproxySource(f"from {by}", image=wanted.partition(":")[2] or image_by(environ))
    if "://" in wanted:
        return ToxiproxySource(f"from {by}", url=ToxiproxyApi(wanted).url)
    path = shutil.which(str(Path(wanted).expanduser()), path=environ.get("PATH", ""))
    if path is None:
        raise ToxiproxyUnavailable(
            f"{by} names {wanted!r}, which is not a program that can be run: "
            "give a URL (http://HOST:PORT), the path of a toxiproxy-server, docker, docker:IMAGE, or embedded"
        )
    return ToxiproxySource(f"from {by}", binary=str(Path(path).absolute()))


def _from_environment(environ: Mapping[str, str]) -> ToxiproxySource | str:
    url = environ.get("TOXIPROXY_URL")
    return _asked_for(url, "TOXIPROXY_URL", environ) if url else "TOXIPROXY_URL is not set"


def _from_path(environ: Mapping[str, str]) -> ToxiproxySource | str:
    binary = shutil.which("toxiproxy-server", path=environ.get("PATH", ""))
    return "no toxiproxy-server on PATH" if binary is None else ToxiproxySource("on PATH", binary=binary)


def _from_cache(environ: Mapping[str, str]) -> ToxiproxySource | str:
    binary = cached_binary(environ)
    if os.access(binary, os.X_OK):
        return ToxiproxySource("from the cache", binary=str(binary))
    return f"no copy at {binary}"


def _from_go(environ: Mapping[str, str]) -> ToxiproxySource | str:
    go = shutil.which("go", path=environ.get("PATH", ""))
    if go is None:
        return "no Go toolchain on PATH to build it with"
    binary = cached_binary(environ)
    try:
        binary.parent.mkdir(parents=True, exist_ok=True)
        with binary.with_name(binary.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another run may have built it while we waited for the lock.
            if not os.access(binary, os.X_OK):
                problem = _build(go, binary, environ)
                if problem:
                    print(problem, file=sys.stderr, flush=True)
                    return problem
    except OSError as failure:
        return f"the cache {binary.parent} cannot be written ({failure.strerror})"
    return ToxiproxySource("built with Go into the cache", binary=str(binary))


def _build(go: str, binary: Path, environ: Mapping[str, str]) -> str | None:
    """Build Toxiproxy as `binary`, whole or not at all; return what went wrong."""
    print(f"building Toxiproxy {VERSION} into {binary} (once, about a minute)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=binary.parent, prefix="build-") as folder:
        # Without the flag the server would say that its version is "git".
        command = [go, "install", "-ldflags", f"-s -w -X {_MODULE}.Version={VERSION}"]
        try:
            done = subprocess.run(
                [*command, f"{_MODULE}/cmd/server@v{VERSION}"],
                # Static, as the released ones are: a binary that needs no libc also runs in any container.
                env={**environ, "GOBIN": folder, "CGO_ENABLED": "0"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_BUILD_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"building it with {go} took longer than {_BUILD_SECONDS:.0f} s"
        if done.returncode != 0:
            said = done.stdout.decode(errors="replace").strip().splitlines()[-5:]
            return f"building it with {go} failed: {' | '.join(said)}"
        (Path(folder) / "server").replace(binary)
    return None


_PLACES: tuple[Callable[[Mapping[str, str]], ToxiproxySource | str], ...] = (
    _from_environment,
    _from_path,
    _from_cache,
    _from_go,
)
