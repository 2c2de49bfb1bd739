"""A Toxiproxy server as a container: `--toxiproxy docker`.

It is on the host's network, for two reasons: its links connect to programs on the host's loopback and listen there, and
there may be any number of links, at ports that are not known when the container is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconnect_harness.containers.engine import Engine, EngineError, refusals

#: The image if no other is named.
IMAGE = "ghcr.io/shopify/toxiproxy:2.12.0"

#: The environment variable that names another image.
IMAGE_VARIABLE = "TOXIPROXY_IMAGE"

_OTHER = f"name another one with --toxiproxy docker:IMAGE or {IMAGE_VARIABLE}"


def image_by(environ: Mapping[str, str]) -> str:
    """Return the image that an environment asks for."""
    return environ.get(IMAGE_VARIABLE) or IMAGE


class ServerContainer:
    """A server in a container of `image`, whose entry point is a toxiproxy-server.

    Args:
        image: its name. It is pulled if it is not on this machine.
        log: a file to which its output is appended when it is stopped.
    """

    def __init__(self, image: str, log: Path | None = None) -> None:
        self.name = f"the image {image} in docker"
        self._image = image
        self._log = log
        self._open = contextlib.ExitStack()
        self._container: Any = None

    def launch(self, port: int) -> None:
        """Start it, to listen for its API at this port of 127.0.0.1.

        Raises:
            EngineUnavailable: there is no engine, or no such image.
            EngineError: the engine refuses.
        """
        engine = self._open.enter_context(Engine())
        self._container = engine.create(
            self._image,
            entrypoint=_entrypoint(engine.image(self._image, _OTHER)),
            command=["-host", "127.0.0.1", "-port", str(port)],
            environment={"LOG_LEVEL": "debug"},
            name=f"reconnect-toxiproxy-{engine.run}",
            network_mode="host",
        )
        with refusals(f"to start {self._image}"):
            self._container.start()

    def last_output(self) -> str:
        """Return the last lines that the server wrote."""
        with refusals(f"for the output of {self._image}"):
            said: bytes = self._container.logs(tail=40)
        return said[-4096:].decode(errors="replace").strip()

    def ended(self) -> str | None:
        """Return how it has ended, None while it runs."""
        with refusals(f"for the state of {self._image}"):
            self._container.reload()
        state = self._container.attrs["State"]
        return None if state["Running"] else f"ended with status {state['ExitCode']}"

    def stop(self) -> None:
        """Remove it. May be called twice."""
        container, self._container = self._container, None
        try:
            if container is not None and self._log is not None:
                # If the log cannot be read, the container is removed anyway.
                with contextlib.suppress(EngineError), refusals(f"for the output of {self._image}"):
                    said: bytes = container.logs()
                    with self._log.open("ab") as file:
                        file.write(said)
        finally:
            self._open.close()


def _entrypoint(image: Any) -> list[str] | None:
    """Return the entry point to set: none where the image has one, else the image's command."""
    config = image.attrs["Config"]
    return None if config.get("Entrypoint") else (config.get("Cmd") or [])[:1] or None
