"""What a scenario says about the upstream: a mock upstream of `peers.upstreams`, a program, or a container.

{kind: push, push: 100/s}
{command: "uvicorn app:app --port {port}", env: {LOG: debug}}
{image: "my-server:1"}
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from reconnect_harness.containers.spec import HOST, ContainerSpec
from reconnect_harness.peers.kinds import GATE_FIRST_MESSAGE, GATE_PREFIX, MISBEHAVIOURS, UpstreamKind
from reconnect_harness.peers.workload import MESSAGE_TYPES, MIXED, Workload
from reconnect_harness.values import CloseCodes, PositiveSeconds, Rate, Seconds, Section, Sizes, Statuses, known


class MisbehaviourSpec(Section):
    """What an upstream does wrong on purpose: see `peers.misbehaviour`."""

    reject: Statuses = Field(default_factory=list)
    reject_again: Statuses = Field(default_factory=list)
    close: CloseCodes = Field(default_factory=list)
    deaf: Seconds = 0.0
    mute: bool = False
    after: Seconds = 1.0


#: Keys that only a container has; a program has the first two as well.
_CONTAINER_ONLY: tuple[str, ...] = ("command", "env", "network", "port")

#: Keys of which an upstream that is not one of the harness has one.
FOREIGN = frozenset({"image", "label", "command"})

#: Keys that only a mock upstream has.
_MOCK_ONLY = ("gate", "rude", "late", "push", "size", "type", "shapes", "compress", "ping")


class UpstreamSpec(ContainerSpec):
    """The upstream behind the system under test, and what it pushes to each client: a mock upstream, or a container."""

    kind: Annotated[UpstreamKind, known("kind of upstream", UpstreamKind)]
    gate: str | None = Field(None, pattern=rf"^({GATE_FIRST_MESSAGE}|{GATE_PREFIX}.+)$")
    rude: MisbehaviourSpec = MisbehaviourSpec()
    late: Seconds = 0.0
    count: int = Field(1, ge=1, le=9)
    push: Rate = 0.0
    size: Sizes = (16, 4096)
    type: Annotated[str, known("type of message", MESSAGE_TYPES)] = MIXED
    shapes: bool = False
    compress: bool = False
    ping: PositiveSeconds | None = None

    @model_validator(mode="before")
    @classmethod
    def _foreign_ones_echo(cls, value: object) -> object:
        if isinstance(value, dict) and FOREIGN & value.keys() and "kind" not in value:
            return {**value, "kind": "echo"}
        return value

    @model_validator(mode="after")
    def _keys_fit_a_mock_or_a_container(self) -> UpstreamSpec:
        if not self.is_container:
            given = [key for key in _CONTAINER_ONLY[2 * self.is_program :] if key in self.model_fields_set]
            if given:
                raise ValueError(f"`{given[0]}` is for an upstream in a container: it needs `image` or `label`")
            if not self.is_program:
                return self
        what = "an upstream in a container" if self.is_container else "an upstream of a `command`"
        if self.kind is not UpstreamKind.ECHO:
            raise ValueError(
                f"{what} is seen from outside only and must send back what it receives: its kind is "
                f"echo, not {self.kind}"
            )
        given = [key for key in _MOCK_ONLY if key in self.model_fields_set]
        if given:
            raise ValueError(f"{what} is a program of its own: it cannot be told `{given[0]}`")
        if self.is_program:
            return self
        if self.label is not None and (self.port is None or self.count != 1):
            problem = "needs `port`: where it listens, in the container" if self.port is None else "is one: no `count`"
            raise ValueError(f"an upstream that is found by its label {problem}")
        if self.network != HOST and self.port is None:
            raise ValueError(f"on the network {self.network} a container has its own ports: give `port`")
        if self.count > 1 and self.network == HOST and self.port is not None:
            raise ValueError(f"{self.count} containers on the host's network cannot all have port {self.port}")
        return self

    @model_validator(mode="after")
    def _image_or_label(self) -> UpstreamSpec:
        return self if self.is_program else super()._image_or_label()  # type: ignore[operator]

    @property
    def is_program(self) -> bool:
        """Whether it is a program of the user's own, which is started at a free port."""
        return self.command is not None and not self.is_container

    @property
    def is_foreign(self) -> bool:
        """Whether it is not one of the harness: it records nothing, and is judged by what the clients get."""
        return self.is_container or self.is_program

    @property
    def chooses_port(self) -> bool:
        """Whether it is a container that is told at which port to listen."""
        return self.image is not None and self.port is None

    @model_validator(mode="after")
    def _pushes(self) -> UpstreamSpec:
        if self.kind is UpstreamKind.PUSH and not self.push:
            raise ValueError("an upstream of kind push needs `push`: how much, for instance 100/s")
        return self

    @model_validator(mode="after")
    def _has_a_gate(self) -> UpstreamSpec:
        if (self.kind is UpstreamKind.GATE) != (self.gate is not None):
            allowed = f"{GATE_FIRST_MESSAGE} or {GATE_PREFIX}TEXT, as the proxy's"
            raise ValueError(f"an upstream of kind gate, and no other, needs `gate`: {allowed}")
        return self

    @property
    def load(self) -> Workload:
        """What it pushes to each client."""
        return Workload(self.push, *self.size, self.type, shapes=self.shapes)

    @property
    def misbehaviours(self) -> list[str]:
        """What it does wrong on purpose, in the words of the history."""
        return [*(key for key in MISBEHAVIOURS if getattr(self.rude, key)), *(["late"] if self.late else [])]

    @property
    def actor_spec(self) -> dict[str, Any]:
        """The part of the spec of `peers.upstreams` that the scenario gives."""
        return {
            "kind": self.kind,
            "gate": self.gate,
            "load": self.load.to_spec(),
            "rude": self.rude.model_dump(),
            "late": self.late,
            "compress": self.compress,
            "ping": self.ping,
        }
