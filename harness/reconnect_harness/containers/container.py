"""The containers of a run: started from an image or found by a label, and at the end removed or restored.

A container on the host's network listens on loopback, at a port that it is told; one on another network has an address
there, which programs on a Linux host can reach. All calls block until the engine has confirmed; a container is started
when it listens.
"""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

from reconnect_harness.containers.engine import Engine, EngineError, refusals
from reconnect_harness.containers.snapshot import endpoint
from reconnect_harness.containers.spec import HOST, ContainerSpec

#: How long a container may take to listen, and to die of SIGKILL, in seconds.
START_SECONDS = 30.0
_KILL_SECONDS = 10

#: How long a container may take to end after SIGTERM, in seconds: as long as `docker stop` gives it.
STOP_SECONDS = 10

_POLL_SECONDS = 0.02


class ContainerFailed(EngineError):
    """A container did not start or does not listen. The message ends with its last lines of output."""


class Container:
    """One container. Make it with `from_image` or `by_label`.

    Args:
        engine: where it is.
        name: what the scenario calls it.
        handle: what the docker SDK calls it.
        port: where it listens, in the container; None if it need not listen.
        snapshot: the state to which a container that was found is restored (`containers.snapshot`); None for one that
            was made for this run, and is removed at its end.

    Attributes:
        address: HOST:PORT where it can be reached from this machine; None without `port`, or when it is not started.

    """

    def __init__(
        self, engine: Engine, name: str, handle: Any, *, port: int | None, snapshot: dict[str, Any] | None = None
    ) -> None:
        self.name = name
        self.address: str | None = None
        self._engine = engine
        self._handle = handle
        self._port = port
        self._snapshot = snapshot
        self._hurried = threading.Event()
        # The networks that a fault has disconnected it from, with the state of the connection before.
        self._off: dict[str, dict[str, Any]] = {}

    @classmethod
    def from_image(cls, engine: Engine, name: str, spec: ContainerSpec, port: int | None) -> Container:
        """Make a container of an image, not started yet, which will listen at `port`.

        Raises:
            EngineUnavailable: there is no such image.
            EngineError: the engine refuses.

        """
        assert spec.image is not None
        network = HOST if spec.network == HOST else engine.network(spec.network).name
        handle = engine.create(
            spec.image, name=f"reconnect-{name}-{engine.run}", network=network, **spec.settings(port)
        )
        return cls(engine, name, handle, port=port)

    @classmethod
    def by_label(cls, engine: Engine, name: str, spec: ContainerSpec) -> Container:
        """Find the only running container with the label of `spec`.

        Raises:
            EngineError: there is no such container, or more than one; or it cannot be reached at its port.

        """
        assert spec.label is not None
        carriers = engine.labelled(spec.label)
        running = [one for one in carriers if one.attrs["State"]["Running"]]
        if len(running) != 1:
            there = ", ".join(one.name for one in running) or "none"
            if carriers and not running:
                there += f" ({', '.join(one.name for one in carriers)} has the label, and does not run)"
            raise EngineError(
                f"container {name}: exactly one running container must have the label {spec.label}; there is {there}"
            )
        (handle,) = running
        container = cls(engine, name, handle, port=spec.port, snapshot=engine.take_snapshot(handle))
        container.address = container._find_address()
        if spec.port is not None and container.address is None:
            on = ", ".join(container._networks()) or "no network"
            raise EngineError(f"container {name} cannot be reached from this machine: it is on {on}")
        return container

    def start(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            ContainerFailed: it ends, or does not listen in time.

        """
        self._begin()
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            state = self._state()
            if not state["Running"]:
                raise ContainerFailed(self._complaint(f"ended with status {state['ExitCode']}"))
            if time.monotonic() > deadline:
                raise ContainerFailed(self._complaint(f"does not listen at {self.address} after {START_SECONDS:g} s"))
            if self._hurried.wait(_POLL_SECONDS):
                raise ContainerFailed(f"container {self.name} did not listen before the run was cancelled")

    def hurry(self) -> None:
        """Make `start` stop waiting, because the run is cancelled. May be called from any thread."""
        self._hurried.set()

    def _begin(self) -> None:
        with self._refusals("start"):
            self._handle.start()

    def kill(self) -> None:
        """Send it SIGKILL, and wait until it has ended."""
        self._must_come_back()
        with self._refusals("kill"):
            self._handle.kill()
            self._handle.wait(timeout=_KILL_SECONDS)

    def stop(self) -> None:
        """Tell it to end, and wait until it has ended; it is killed after `STOP_SECONDS`."""
        self._must_come_back()
        with self._refusals("stop"):
            self._handle.stop(timeout=STOP_SECONDS)

    def pause(self) -> None:
        """Freeze its processes."""
        with self._refusals("pause"):
            self._handle.pause()

    def unpause(self) -> None:
        """Let its processes continue."""
        with self._refusals("unpause"):
            self._handle.unpause()

    def disconnect(self, network: str | None) -> None:
        """Disconnect it from a network; from its only one, if none is named."""
        on = self._networks()
        if network is None:
            if len(on) != 1:
                raise EngineError(f"container {self.name} is on {', '.join(on) or 'no network'}: name one as `network`")
            (network,) = on
        if network == HOST:
            raise EngineError(f"container {self.name} cannot be disconnected from the network of the host itself")
        asked, network = network, self._engine.network_name(network)
        if network not in on:
            there = ", ".join(on) or "none"
            raise EngineError(f"container {self.name} is on no network called {asked}; there is {there}")
        with self._refusals(f"disconnect from the network {network}"):
            self._engine.network(network).disconnect(self._handle)
        self._off[network] = on[network]

    def connect(self, network: str | None) -> None:
        """Connect it to a network; to the one that a fault has disconnected it from, if none is named.

        If it was connected to that network before, it gets the same names and address there.
        """
        if network is None:
            if len(self._off) != 1:
                raise EngineError(
                    f"container {self.name} was disconnected from {len(self._off)} networks: name one as `network`"
                )
            (network,) = self._off
        else:
            network = self._engine.network(network).name
        with self._refusals(f"connect to the network {network}"):
            was = self._off.get(network)
            as_before = {} if was is None else endpoint(was, self._handle)
            self._engine.network(network).connect(self._handle, **as_before)
        if self._off.pop(network, None) is not None:
            self._must_be_where_it_was(self._find_address())

    def restore(self) -> None:
        """Undo the faults that have no end: unpause, connect. One that was found is brought back to its snapshot."""
        if self._snapshot is not None:
            with self._refusals("restore"):
                self._engine.restore(self._snapshot)
            self._off.clear()
            self._must_be_where_it_was(self._find_address())
            return
        if self._state()["Paused"]:
            self.unpause()
        for network in list(self._off):
            self.connect(network)

    def ended(self) -> int | None:
        """Return its exit status, None while it runs."""
        state = self._state()
        return None if state["Running"] else int(state["ExitCode"])

    def remove(self, log: Path | None = None) -> None:
        """Remove it, if it was made for this run. Its output goes to the file `log`."""
        if self._snapshot is None:
            if log is not None:
                with self._refusals("give the output of"):
                    log.write_bytes(self._handle.logs())
            with self._refusals("remove"):
                self._handle.remove(force=True, v=True)

    def _listens(self) -> bool:
        if self._port is None:
            return bool(self._state()["Running"])
        address = self._find_address()
        if address is None:
            # A fault has disconnected it from its network, so only its state can be checked.
            return bool(self._off) and bool(self._state()["Running"])
        if self.address is not None:
            self._must_be_where_it_was(address)
        self.address = address
        host, _, port = self.address.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=1.0):
                return True
        except OSError:
            return False

    def _find_address(self) -> str | None:
        """Return where it can be reached: on loopback, at a published port of the host, or on its network."""
        networks = self._networks()
        if self._port is None:
            return None
        if HOST in networks:
            return f"127.0.0.1:{self._port}"
        for published in self._handle.attrs["NetworkSettings"]["Ports"].get(f"{self._port}/tcp") or []:
            host = published["HostIp"]
            return f"{'127.0.0.1' if host in ('', '0.0.0.0', '::') else host}:{published['HostPort']}"
        addresses = [network["IPAddress"] for network in networks.values() if network["IPAddress"]]
        return f"{addresses[0]}:{self._port}" if addresses else None

    def _networks(self) -> dict[str, dict[str, Any]]:
        self._state()
        return dict(self._handle.attrs["NetworkSettings"]["Networks"])

    def _state(self) -> dict[str, Any]:
        with self._refusals("tell the state of"):
            self._handle.reload()
        state: dict[str, Any] = self._handle.attrs["State"]
        return state

    def _must_run(self) -> None:
        state = self._state()
        if not state["Running"]:
            raise EngineError(f"container {self.name} has ended already, with {state['ExitCode']}")

    def _must_come_back(self) -> None:
        self._must_run()
        if self._handle.attrs["HostConfig"]["AutoRemove"]:
            raise EngineError(
                f"container {self.name} was started with --rm: the engine removes it when it has ended, so it cannot "
                "be started again"
            )
        if self._snapshot is not None:
            self._engine.announce_end(self._snapshot)

    def _must_be_where_it_was(self, address: str | None) -> None:
        if address not in (None, self.address):
            raise EngineError(
                f"container {self.name} was at {self.address}, and is at {address} now, which the run does not know: "
                "give its network a subnet of its own (`docker network create --subnet`), or publish its port at a "
                "fixed port of the host"
            )

    def _complaint(self, what: str) -> str:
        with self._refusals("give the output of"):
            lines = self._handle.logs(tail=15).decode(errors="replace").splitlines()
        said = "\n".join(f"    {line}" for line in lines) or "    (it said nothing)"
        return f"container {self.name} {what}. Its last lines of output:\n{said}"

    def _refusals(self, verb: str) -> Any:
        return refusals(f"to {verb} the container {self.name}")
