"""What a scenario says about the upstream: a mock upstream of `peers.upstreams`, or a container that echoes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from reconnect_harness.containers.spec import HOST, ContainerSpec
from reconnect_harness.peers import upstreams
from reconnect_harness.peers.gate import FIRST_MESSAGE, PREFIX
from reconnect_harness.peers.misbehaviour import Manners
from reconnect_harness.peers.workload import MIXED, Workload
from reconnect_harness.section import Codes, MessageType, Rate, Seconds, Section, Sizes, Statuses, known


class RudeSpec(Section):
    """What an upstream does wrong on purpose: see `peers.misbehaviour`."""

    reject: Statuses = Field(default_factory=list)
    reject_again: Statuses = Field(default_factory=list)
    close: Codes = Field(default_factory=list)
    deaf: Seconds = 0.0
    mute: bool = False
    after: Seconds = 1.0

    @property
    def manners(self) -> Manners:
        """The same as the upstream takes it."""
        return Manners.from_spec(self.model_dump())


#: What only a container can be told.
_CONTAINER_ONLY: tuple[str, ...] = ("command", "env", "network", "port")

#: What only a mock upstream of ours can be told.
_MOCK_ONLY = ("gate", "rude", "late", "push", "size", "type", "compress")


class UpstreamSpec(ContainerSpec):
    """The upstream behind the system under test, and what it pushes to each client: a mock upstream, or a container."""

    kind: Annotated[str, known("kind of upstream", upstreams.KINDS)]
    gate: str | None = Field(None, pattern=rf"^({FIRST_MESSAGE}|{PREFIX}.+)$")
    rude: RudeSpec = RudeSpec()
    late: Seconds = 0.0
    count: int = Field(1, ge=1, le=9)
    push: Rate = 0.0
    size: Sizes = (16, 4096)
    type: MessageType = MIXED
    compress: bool = False

    @model_validator(mode="before")
    @classmethod
    def _echoes_in_a_container(cls, value: object) -> object:
        if isinstance(value, dict) and ("image" in value or "label" in value) and "kind" not in value:
            return {**value, "kind": "echo"}
        return value

    @model_validator(mode="after")
    def _seen_from_outside(self) -> UpstreamSpec:
        if not self.is_container:
            told = [key for key in _CONTAINER_ONLY if key in self.model_fields_set]
            if told:
                raise ValueError(f"`{told[0]}` is for an upstream in a container: it needs `image` or `label`")
            return self
        if self.kind != "echo":
            raise ValueError(
                f"an upstream in a container is seen from outside only, and has to send back what it gets: its kind is "
                f"echo, and not {self.kind}"
            )
        told = [key for key in _MOCK_ONLY if key in self.model_fields_set]
        if told:
            raise ValueError(f"an upstream in a container is a program of its own: it cannot be told `{told[0]}`")
        if self.label is not None and (self.port is None or self.count != 1):
            problem = "needs `port`: where it listens, in the container" if self.port is None else "is one: no `count`"
            raise ValueError(f"an upstream that is found by its label {problem}")
        if self.network != HOST and self.port is None:
            raise ValueError(f"on the network {self.network} a container has its own ports: give `port`")
        if self.count > 1 and self.network == HOST and self.port is not None:
            raise ValueError(f"{self.count} containers on the host's network cannot all have port {self.port}")
        return self

    @property
    def chooses_port(self) -> bool:
        """Whether it is a container that listens at a port which has to be chosen, and that it is told."""
        return self.image is not None and self.port is None

    @model_validator(mode="after")
    def _pushes(self) -> UpstreamSpec:
        if self.kind == "push" and not self.push:
            raise ValueError("an upstream of kind push needs `push`: how much, for instance 100/s")
        return self

    @model_validator(mode="after")
    def _has_a_gate(self) -> UpstreamSpec:
        if (self.kind == "gate") != (self.gate is not None):
            allowed = f"{FIRST_MESSAGE} or {PREFIX}TEXT, as the proxy's"
            raise ValueError(f"an upstream of kind gate, and no other, needs `gate`: {allowed}")
        return self

    @property
    def load(self) -> Workload:
        """What it pushes to each client."""
        return Workload(self.push, *self.size, self.type)

    @property
    def deeds(self) -> list[str]:
        """What it is to do wrong on purpose, in the words of the history."""
        return [*self.rude.manners.deeds, *(["late"] if self.late else [])]

    @property
    def actor_spec(self) -> dict[str, Any]:
        """What `peers.upstreams` is told of it."""
        return {
            "kind": self.kind,
            "gate": self.gate,
            "load": self.load.to_spec(),
            "rude": self.rude.model_dump(),
            "late": self.late,
            "compress": self.compress,
        }
