"""What a scenario says about a container: which image it is started from, or which running one it is.

{image: "my-server:1", command: [serve, --port, "{port}"], env: {LOG: debug}}      started, on the host's network
{image: "my-server:1", network: lab, port: 8080}                                   started, with an address of its own
{label: com.docker.compose.service=db}                                             one that runs already
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from reconnect_harness.values import Section, words

#: The text in `command` and `env` that is replaced with the port at which the container is to listen.
PORT_FIELD = "{port}"

#: The network of the host itself: the container has no address of its own, and cannot be disconnected from it.
HOST = "host"

_STARTED_ONLY = ("command", "env", "network")


def _variables(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is not a mapping of variables, such as {{LOG_LEVEL: debug}}")  # noqa: TRY004
    return {str(name): str(text) for name, text in value.items()}


class ContainerSpec(Section):
    """A container of a scenario: `image` to start one, or `label` (`key` or `key=value`) for one that runs already.

    `port` is where it listens, in the container; on the host's network a free port is chosen if it is not given.
    """

    image: str | None = Field(None, min_length=1)
    label: str | None = Field(None, min_length=1)
    command: Annotated[list[str], BeforeValidator(words)] | None = None
    env: Annotated[dict[str, str], BeforeValidator(_variables)] = Field(default_factory=dict)
    network: str = Field(HOST, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    port: int | None = Field(None, ge=1, le=65535)

    @model_validator(mode="after")
    def _image_or_label(self) -> ContainerSpec:
        if self.image is not None and self.label is not None:
            raise ValueError("there is `image` and `label`: give what to start, or which one that runs already")
        if self.image is None:
            given = [key for key in _STARTED_ONLY if key in self.model_fields_set]
            if given:
                raise ValueError(f"`{given[0]}` is for a container that is started: it needs `image`")
        if self.network == "none" and self.port is not None:
            raise ValueError("on the network none a container cannot be reached at its `port`")
        if self.network != HOST and self.port is None and self._takes_port:
            raise ValueError(f"on the network {self.network} a container has its own ports: give `port`")
        return self

    @property
    def is_container(self) -> bool:
        """Whether it names a container."""
        return self.image is not None or self.label is not None

    @property
    def has_network(self) -> bool:
        """Whether it may have a network that it can be disconnected from."""
        return self.label is not None or self.network != HOST

    @property
    def chooses_port(self) -> bool:
        """Whether a port is chosen for it, and it is told that port."""
        return self.image is not None and self.port is None and self.network == HOST and self._takes_port

    @property
    def _takes_port(self) -> bool:
        return any(PORT_FIELD in text for text in (*(self.command or []), *self.env.values()))

    def settings(self, port: int | None) -> dict[str, Any]:
        """Return the arguments for the docker SDK to make the container; it listens at `port`."""

        def told(text: str) -> str:
            return text if port is None else text.replace(PORT_FIELD, str(port))

        env = {name: told(text) for name, text in self.env.items()}
        return {
            "command": None if self.command is None else [told(word) for word in self.command],
            # Many programs take their port from this variable.
            "environment": env if port is None else {"PORT": str(port), **env},
        }
