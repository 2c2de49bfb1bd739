"""The container engine: docker, or a program with its API. How to connect to it, what it has, what it refuses.

Everything that is made here carries labels that name the run and its owner, so that nothing is left behind:

    this process ==pipe==> containers.keeper      removes what the run has made when this process dies,
                                                  and restores what it has found
    the next run ---labels---> the engine         removes what has no living owner, if the keeper died too

The engine must be on this machine: containers are reached over its loopback and its bridges.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import urlsplit

from reconnect_harness.containers import owner
from reconnect_harness.containers.snapshot import restore, take_snapshot

#: The label of everything that a run makes: the token of the run.
RUN_LABEL = "reconnect-harness.run"

#: The label of the owner; see `containers.owner`.
OWNER_LABEL = "reconnect-harness.owner"

#: How long the engine may take to answer, in seconds. It may be pulling or removing at the same time.
ANSWER_SECONDS = 60

_WITHOUT = (
    "Everything else works without it: every other --toxiproxy, and every scenario without containers "
    "(docs/containers.md)"
)


class EngineUnavailable(Exception):
    """There is no engine, or no such image. The message says what is missing, and what works without it."""


class EngineError(RuntimeError):
    """The engine refused something. The message says what was asked, and the engine's reason."""


class Engine:
    """A connection to the engine: a context manager. Leaving it removes everything that was made through it.

    Entering it removes what earlier runs have left, if their owner is dead.

    Attributes:
        run: the token of this run.

    Raises:
        EngineUnavailable: on entry, when there is no engine.

    """

    def __init__(self) -> None:
        self.run = secrets.token_hex(6)
        self._client: Any = None
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self._client = connect()
            undo.callback(self._client.close)
            remove_leftovers(self._client)
            # A session of its own: the Ctrl-C of a terminal goes to this process, which then cleans up itself.
            command = [sys.executable, "-P", "-m", "reconnect_harness.containers.keeper", self.run]
            self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
            undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._keeper is not None
        assert self._keeper.stdin is not None
        try:
            remove(self._client, f"{RUN_LABEL}={self.run}")
            self._tell_keeper(None)
        finally:
            self._keeper.stdin.close()
            self._client.close()
            self._keeper.wait()

    def _tell_keeper(self, what: object) -> None:
        """Send the keeper a snapshot, or None when the run has cleaned up."""
        assert self._keeper is not None
        assert self._keeper.stdin is not None
        # It may have been killed.
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.write(json.dumps(what).encode() + b"\n")

    @property
    def labels(self) -> dict[str, str]:
        """The labels of everything that this run makes."""
        return {RUN_LABEL: self.run, OWNER_LABEL: owner.this_process()}

    @property
    def version(self) -> str:
        """The version of the engine."""
        return str(self._client.version()["Version"])

    def image(self, name: str, other: str = "name another one") -> Any:
        """Return the image called `name`, pulled if it is not here; `other` says how to use another one.

        Raises:
            EngineUnavailable: it is not here, and cannot be pulled.
            EngineError: the engine refuses the name.

        """
        from docker.errors import DockerException, ImageNotFound

        with refusals(f"for the image {name}"), contextlib.suppress(ImageNotFound):
            return self._client.images.get(name)
        print(f"pulling the image {name} (once; it may take a minute)", file=sys.stderr, flush=True)
        try:
            return self._client.images.pull(name)
        except DockerException as failure:
            raise EngineUnavailable(
                f"the image {name} is not on this machine and cannot be pulled ({reason(failure)}): build it, "
                f"load it with `docker load`, or {other}. {_WITHOUT}"
            ) from None

    def create(self, image: str, **settings: Any) -> Any:
        """Make a container of an image, not started yet; `settings` are those of the docker SDK.

        Raises:
            EngineUnavailable: there is no such image.
            EngineError: the engine refuses.

        """
        self.image(image)
        with refusals(f"to make a container of {image}"):
            # The output cannot be read from every log driver that may be the engine's default.
            return self._client.containers.create(
                image, labels=self.labels, log_config={"type": "json-file"}, **settings
            )

    def labelled(self, label: str) -> list[Any]:
        """Return the containers that carry `label`, `key` or `key=value`, whether they run or not."""
        with refusals(f"for the containers with the label {label}"):
            return list(self._client.containers.list(all=True, filters={"label": label}, ignore_removed=True))

    def take_snapshot(self, handle: Any) -> dict[str, Any]:
        """Return the snapshot of a container that was found. If this process is killed, the keeper restores it."""
        snapshot = take_snapshot(handle)
        self._tell_keeper(snapshot)
        return snapshot

    def announce_end(self, snapshot: dict[str, Any]) -> None:
        """Tell the keeper that a found container is about to be ended: the engine does so even if this process dies."""
        self._tell_keeper({**snapshot, "ending": True})

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Bring a found container back to the state of its snapshot.

        Raises what the docker SDK raises.

        """
        restore(self._client, snapshot)

    def network(self, name: str) -> Any:
        """Return the network called `name`; if there is none, one that this run makes, called `name-RUN`."""
        name = self.network_name(name)
        with refusals(f"for the network {name}"):
            found = [network for network in self._client.networks.list(names=[name]) if network.name == name]
            if found:
                return found[0]
            # Internal: the containers under test must not reach anything outside this machine.
            return self._client.networks.create(name, driver="bridge", internal=True, labels=self.labels)

    def network_name(self, name: str) -> str:
        """Return what the engine calls the network that a scenario calls `name`, whether it exists or not."""
        with refusals(f"for the network {name}"):
            there = {network.name for network in self._client.networks.list(names=[name])}
        return name if name in there else f"{name}-{self.run}"


def connect() -> Any:
    """Return a client of the docker SDK whose engine answers.

    Raises:
        EngineUnavailable: the package is not installed, or no engine answers.

    """
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        raise EngineUnavailable(
            f"the Python package docker is not installed: pip install 'reconnect-proxy[harness]', or docker. {_WITHOUT}"
        ) from None
    where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        _knock(where)
        return docker.from_env(timeout=ANSWER_SECONDS)
    except (DockerException, OSError, ValueError) as failure:
        raise EngineUnavailable(f"{_complaint(failure, where)}. {_WITHOUT}") from None


def _knock(where: str) -> None:
    """Connect to the engine's address once, or raise the OSError that says why not.

    The SDK nests that error five levels deep, and leaves its socket open.
    """
    parts = urlsplit(where)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ANSWER_SECONDS)
            probe.connect(parts.path)
    elif parts.scheme == "tcp" and parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), ANSWER_SECONDS).close()


def _complaint(failure: Exception, where: str) -> str:
    """Return why no engine answers at `where`, and what would help."""
    if isinstance(failure, FileNotFoundError):
        return (
            f"there is no container engine: no socket at {where}. Install one and start it (on Debian "
            "`apt-get install docker.io`, then `dockerd`), or set DOCKER_HOST where it listens elsewhere"
        )
    if isinstance(failure, PermissionError):
        return (
            f"the container engine at {where} refuses this user (permission denied): become a member of the group "
            "docker, or be root"
        )
    if isinstance(failure, ConnectionRefusedError):
        return f"no container engine listens at {where}: start it (`dockerd`, or `systemctl start docker`)"
    return f"the container engine at {where} cannot be used: {reason(failure)}"


def reason(failure: BaseException) -> str:
    """Return the reason that the engine gives, on one line."""
    said = getattr(failure, "explanation", None) or str(failure)
    if isinstance(said, bytes):
        said = said.decode(errors="replace")
    return " ".join(str(said).split())


@contextlib.contextmanager
def refusals(asked: str) -> Iterator[None]:
    """Turn errors of the docker SDK into an EngineError: the engine was asked `asked`."""
    from docker.errors import DockerException
    from requests import RequestException

    try:
        yield
    except (DockerException, RequestException) as failure:
        raise EngineError(f"the container engine was asked {asked}, and refused: {reason(failure)}") from failure


def remove_leftovers(client: Any) -> None:
    """Remove the containers and networks of earlier runs whose owner is dead."""
    owners = set()
    with refusals("for what earlier runs have left"):
        for container in client.containers.list(all=True, filters={"label": OWNER_LABEL}, ignore_removed=True):
            owners.add(container.labels[OWNER_LABEL])
        for network in client.networks.list(filters={"label": OWNER_LABEL}):
            owners.add(network.attrs["Labels"][OWNER_LABEL])
    for line in owners:
        if owner.is_dead(line):
            remove(client, f"{OWNER_LABEL}={line}")


def remove(client: Any, label: str) -> None:
    """Remove the containers and networks that carry `label`. Other processes may be removing them too."""
    with refusals(f"to remove what has the label {label}"):
        containers = client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        networks = client.networks.list(filters={"label": label})
        for container in containers:
            _unless_gone(container.remove, force=True, v=True)
        for network in networks:
            _unless_gone(network.reload)
            # A container that the run did not make, which a fault has connected to it.
            for container in network.attrs.get("Containers") or {}:
                _unless_gone(network.disconnect, container, force=True)
            _unless_gone(network.remove)


def _unless_gone(call: Callable[..., object], *arguments: object, **options: object) -> None:
    """Make a call of the docker SDK to remove something; it is not an error if that is gone already."""
    from docker.errors import APIError

    try:
        call(*arguments, **options)
    except APIError as failure:
        # 409: another process is removing it.
        if failure.status_code != 404 and not (failure.status_code == 409 and "in progress" in reason(failure)):
            raise
