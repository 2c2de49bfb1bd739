"""The container engine: docker, or what speaks its API. How it is reached, what it has, and why it cannot be used.

Everything that is made here carries labels that name the run and its owner, so that nothing stays behind:

    this process ==pipe==> containers.keeper      removes what the run still has when this process is gone,
                                                  and puts back what it has found and harmed
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
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from reconnect_harness.containers import owner as ownership
from reconnect_harness.containers import snapshot as as_found

#: The label of what a run has made: a token of the run's own.
RUN_LABEL = "reconnect-harness.run"

#: The label that says whose it is; see `containers.owner`.
OWNER_LABEL = "reconnect-harness.owner"

#: How long the engine may take to answer, in seconds. It may be pulling or removing meanwhile.
ANSWER_SECONDS = 60

_WITHOUT = (
    "All else works without it: every other --toxiproxy, and every scenario but those with containers "
    "(docs/containers.md)"
)


class EngineUnavailable(Exception):
    """There is no engine, or not the image. The message says what is missing, and what works without it."""


class EngineError(RuntimeError):
    """The engine refused something. The message says what was asked, and the engine's reason."""


class Engine:
    """A connection to the engine: a context manager. Leaving it removes all that was made through it.

    Entering it removes what earlier runs have left whose owner is dead.

    Attributes:
        run: the token of this run.

    Raises:
        EngineUnavailable: on entry, when there is none.

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
            # A session of its own: the Ctrl-C of a terminal is for us, and we want to clean up in good order.
            command = [sys.executable, "-P", "-m", "reconnect_harness.containers.keeper", self.run]
            self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Tell the keeper something: what has to be put back, or that all is done (None)."""
        assert self._keeper is not None
        assert self._keeper.stdin is not None
        # Somebody may have killed it.
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.write(json.dumps(what).encode() + b"\n")

    @property
    def labels(self) -> dict[str, str]:
        """The labels that everything which this run makes must carry."""
        return {RUN_LABEL: self.run, OWNER_LABEL: ownership.mine()}

    @property
    def version(self) -> str:
        """What the engine says it is."""
        return str(self._client.version()["Version"])

    def image(self, name: str, other: str = "name another one") -> Any:
        """Return the image called `name`, pulled if it is not here; `other` says how to do with another one.

        Raises:
            EngineUnavailable: it is not here, and cannot be pulled.
            EngineError: the engine does not take that for a name.

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
            EngineError: the engine does not want it.

        """
        self.image(image)
        with refusals(f"to make a container of {image}"):
            # Not every driver that an engine may have as its default can be read from.
            return self._client.containers.create(
                image, labels=self.labels, log_config={"type": "json-file"}, **settings
            )

    def labelled(self, label: str) -> list[Any]:
        """Return the containers that carry `label`, `key` or `key=value`, whether they run or not."""
        with refusals(f"for the containers with the label {label}"):
            return list(self._client.containers.list(all=True, filters={"label": label}, ignore_removed=True))

    def noted(self, handle: Any) -> dict[str, Any]:
        """Note how a container of somebody else was found, for `put_back`. Should this process be killed meanwhile, its
        keeper puts it back."""
        found = as_found.note(handle)
        self._tell_keeper(found)
        return found

    def ending(self, found: dict[str, Any]) -> None:
        """Say that one of somebody else is about to be ended: the engine goes on with it if this process is killed."""
        self._tell_keeper({**found, "ending": True})

    def put_back(self, found: dict[str, Any]) -> None:
        """Make a container of somebody else again what was noted of it.

        Raises what the docker SDK raises.

        """
        as_found.put_back(self._client, found)

    def network(self, name: str) -> Any:
        """Return the network called `name`; where there is none, one of this run's own, called `name-RUN`."""
        name = self.network_name(name)
        with refusals(f"for the network {name}"):
            found = [network for network in self._client.networks.list(names=[name]) if network.name == name]
            if found:
                return found[0]
            # Internal: what is tested has no business outside this machine.
            return self._client.networks.create(name, driver="bridge", internal=True, labels=self.labels)

    def network_name(self, name: str) -> str:
        """Return what the engine calls the network that a scenario calls `name`, be it there or not."""
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

    The SDK buries that error five deep, and leaves its socket open.
    """
    parts = urlsplit(where)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ANSWER_SECONDS)
            probe.connect(parts.path)
    elif parts.scheme == "tcp" and parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), ANSWER_SECONDS).close()


def _complaint(failure: Exception, where: str) -> str:
    """Say why no engine answers at `where`, and what would help."""
    if isinstance(failure, FileNotFoundError):
        return (
            f"there is no container engine: no socket at {where}. Install one and start it (on Debian "
            "`apt-get install docker.io`, then `dockerd`), or set DOCKER_HOST where it listens elsewhere"
        )
    if isinstance(failure, PermissionError):
        return (
            f"the container engine at {where} does not let this user in (permission denied): become a member of the "
            "group docker, or be root"
        )
    if isinstance(failure, ConnectionRefusedError):
        return f"no container engine listens at {where}: start it (`dockerd`, or `systemctl start docker`)"
    return f"the container engine at {where} cannot be used: {reason(failure)}"


def reason(failure: BaseException) -> str:
    """Return the sentence that the engine gives as its reason, on one line."""
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
    for owner in owners:
        if ownership.is_dead(owner):
            remove(client, f"{OWNER_LABEL}={owner}")


def remove(client: Any, label: str) -> None:
    """Remove the containers and networks that carry `label`. Others may be removing them at the same time."""
    with refusals(f"to remove what has the label {label}"):
        containers = client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        networks = client.networks.list(filters={"label": label})
        for container in containers:
            _unless_gone(container.remove, force=True, v=True)
        for network in networks:
            _unless_gone(network.reload)
            # Somebody else's container, that a fault has put on it.
            for container in network.attrs.get("Containers") or {}:
                _unless_gone(network.disconnect, container, force=True)
            _unless_gone(network.remove)


def _unless_gone(call: Callable[..., object], *arguments: object, **options: object) -> None:
    """Make a call of the docker SDK to remove something; that it is gone already is no error."""
    from docker.errors import APIError

    try:
        call(*arguments, **options)
    except APIError as failure:
        # 409: somebody else's removal is under way.
        if failure.status_code != 404 and not (failure.status_code == 409 and "in progress" in reason(failure)):
            raise
