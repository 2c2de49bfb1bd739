"""The programs of these tests: what each needs, and how it is installed, once, into the user's cache.

`python -m tests.real.install` installs what is missing and says what could not be had; `--at-most N` makes it fail if
those are more than N programs. The tests themselves install nothing, and skip what is not there.

Versions are pinned in `requirements.txt`, `package.json`, `programs/go/go.mod` and `GO_PROGRAMS`. What is changed there
is installed into another folder of the cache. Commands of the system (Chromium, its driver, mosquitto, Node, Go) are
used as they are found.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"

#: Servers that `go install` builds: the name of the binary, and its module.
GO_PROGRAMS = {
    "nats-server": "github.com/nats-io/nats-server/v2@v2.15.3",
    "centrifugo": "github.com/centrifugal/centrifugo/v6@v6.9.1",
}
#: Clients that are built of `programs/go`.
GO_CLIENTS = ("gorilla", "coder")

#: How long one command of an installation may take, in seconds.
INSTALL_SECONDS = 900.0

#: Where distributions put servers, and the PATH of an ordinary user often does not look.
_SERVERS = "/usr/local/sbin:/usr/sbin:/sbin"


class Needs(NamedTuple):
    """What a program needs: packages of pip and npm, binaries of Go, and commands of the system."""

    pip: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    go: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


#: By the name of the program.
REAL = {
    "Playwright": Needs(pip=("playwright",), commands=("chromium",)),
    "puppeteer-core": Needs(npm=("puppeteer-core",), commands=("chromium", "node")),
    "Selenium": Needs(pip=("selenium",), commands=("chromium", "chromedriver")),
    "Socket.IO": Needs(npm=("socket.io", "socket.io-client"), commands=("node",)),
    "NATS": Needs(pip=("nats-py", "aiohttp"), npm=("nats.ws", "ws"), go=("nats-server",), commands=("node",)),
    "MQTT": Needs(pip=("paho-mqtt",), npm=("mqtt",), commands=("mosquitto", "node")),
    "Centrifugo": Needs(npm=("centrifuge", "ws"), go=("centrifugo",), commands=("node",)),
    "Jupyter": Needs(pip=("jupyter_server", "ipykernel"), npm=("@jupyterlab/services", "ws"), commands=("node",)),
    "websockify": Needs(pip=("websockify",), npm=("ws",), commands=("node",)),
    "FastAPI": Needs(pip=("fastapi", "uvicorn", "websockets")),
    "websocket-client": Needs(pip=("websocket-client",)),
    "aiohttp": Needs(pip=("aiohttp",)),
    "websockets": Needs(pip=("websockets",)),
    "graphql-ws": Needs(npm=("graphql", "graphql-ws", "ws"), commands=("node",)),
    "stomp-broker-js": Needs(npm=("stomp-broker-js",), commands=("node",)),
    "ws": Needs(npm=("ws",), commands=("node",)),
    "undici": Needs(npm=("undici",), commands=("node",)),
    "gorilla/websocket": Needs(go=("gorilla",)),
    "coder/websocket": Needs(go=("coder",)),
}


def missing(name: str) -> str | None:
    """Return what a program of `REAL` lacks, or None if it can be run."""
    needs = REAL[name]
    lacks = [f"the command {command}" for command in needs.commands if command_path(command) is None]
    lacks += [f"{package} (pip)" for package in needs.pip if not _pip_has(package)]
    lacks += [f"{package} (npm)" for package in needs.npm if not _npm_has(package)]
    lacks += [f"{binary} (Go)" for binary in needs.go if not go_binary(binary).exists()]
    return ", ".join(lacks) or None


def command_path(command: str) -> str | None:
    """Return the path of a command of the system, or None."""
    return shutil.which(command) or shutil.which(command, path=_SERVERS)


def run_by(script: str) -> list[str]:
    """Return the command that runs a script of `programs/` (`x.py`, `x.js`) or a Go client (`x`)."""
    if script.endswith(".py"):
        return [str(python()), str(PROGRAMS / script)]
    if script.endswith(".js"):
        # Node looks for modules next to the script, where there are none, and then here.
        return ["env", f"NODE_PATH={node_folder() / 'node_modules'}", "node", str(PROGRAMS / script)]
    return [str(go_binary(script))]


def python() -> Path:
    """Return the interpreter that has the packages of `requirements.txt`, or will have them."""
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    return _cache() / f"python-{minor}-{_digest(HERE / 'requirements.txt')}" / "bin" / "python"


def node_folder() -> Path:
    """Return the folder that has the `node_modules` of `package.json`, or will have them."""
    return _cache() / f"node-{_digest(HERE / 'package.json')}"


def go_binary(name: str) -> Path:
    """Return where a binary is, or will be."""
    if name in GO_PROGRAMS:
        return _cache() / f"{name}-{GO_PROGRAMS[name].rpartition('@')[2]}"
    sources = sorted((PROGRAMS / "go").rglob("*.*"))
    return _cache() / f"{name}-{_digest(*sources)}"


def main() -> int:
    """Install what is missing; return the exit status."""
    parser = argparse.ArgumentParser(description="Install the programs of tests/real into the user's cache.")
    parser.add_argument("--at-most", type=int, metavar="N", help="fail if more than N programs cannot be had")
    allowed = parser.parse_args().at_most
    with _lock():
        for install in (_install_pip, _install_npm, _install_go_programs, _install_go_clients):
            install()
    lacking = {name: lack for name in REAL if (lack := missing(name)) is not None}
    for name, lack in lacking.items():
        print(f"{name} cannot be tested here: there is no {lack}", file=sys.stderr)
    if allowed is not None and len(lacking) > allowed:
        print(f"{len(lacking)} programs cannot be had; at most {allowed} may be missing", file=sys.stderr)
        return 1
    return 0


def _install_pip() -> None:
    """All at once; if that fails, each program by itself, so that one that is gone does not take the others along."""
    wanted = sorted({package for needs in REAL.values() for package in needs.pip})
    if all(map(_pip_has, wanted)):
        return
    place = python().parent.parent
    requirements = str(HERE / "requirements.txt")
    if not python().exists() and not _run([sys.executable, "-m", "venv", str(place)]):
        return
    pip = [str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if _run([*pip, "--requirement", requirements]):
        _note(place, wanted)
        return
    _note(place, [package for package in wanted if _run([*pip, "--constraint", requirements, package])])


def _install_npm() -> None:
    """As `_install_pip`."""
    wanted: dict[str, str] = json.loads((HERE / "package.json").read_text())["dependencies"]
    if all(map(_npm_has, wanted)):
        return
    npm = command_path("npm")
    if npm is None:
        return
    place = node_folder()
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", place)
    # A postinstall script would fetch a browser, or compile.
    command = [npm, "install", "--prefix", str(place), "--ignore-scripts", "--no-audit", "--no-fund"]
    if _run(command):
        _note(place, list(wanted))
        return
    (place / "package.json").write_text('{"private": true}')
    _note(place, [name for name, version in wanted.items() if _run([*command, f"{name}@{version}"])])


def _install_go_programs() -> None:
    for name, module in GO_PROGRAMS.items():
        _build(name, ["install", "-ldflags", "-s -w", module])


def _install_go_clients() -> None:
    for name in GO_CLIENTS:
        _build(name, ["install", "-C", str(PROGRAMS / "go"), f"./{name}"])


def _build(name: str, arguments: Sequence[str]) -> None:
    """Put a binary into the cache, whole or not at all, unless it is there."""
    go = command_path("go")
    if go is None or go_binary(name).exists():
        return
    with tempfile.TemporaryDirectory(dir=_cache(), prefix="build-") as folder:
        if _run(["env", f"GOBIN={folder}", "CGO_ENABLED=0", go, *arguments]):
            (Path(folder) / name).replace(go_binary(name))


def _run(command: Sequence[str]) -> bool:
    """Run a command of an installation; say what went wrong."""
    print(f"tests/real: {' '.join(command)}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        print(f"tests/real: {failure}", file=sys.stderr)
        return False
    if done.returncode != 0:
        print(done.stdout.decode(errors="replace")[-2000:], file=sys.stderr)
    return done.returncode == 0


def _note(place: Path, packages: Sequence[str]) -> None:
    """Note which packages are installed, with all that they need."""
    made = place / "installed.json.new"
    made.write_text(json.dumps(packages))
    made.replace(place / "installed.json")


def _noted(place: Path) -> list[str]:
    noted = place / "installed.json"
    return list(json.loads(noted.read_text())) if noted.exists() else []


def _pip_has(package: str) -> bool:
    return package in _noted(python().parent.parent)


def _npm_has(package: str) -> bool:
    return package in _noted(node_folder())


def _cache() -> Path:
    """Return the folder of the user's cache (XDG_CACHE_HOME, else ~/.cache)."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "reconnect-proxy" / "real"


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:8]


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Wait until no other process installs."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
