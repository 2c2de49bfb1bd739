"""What a scenario says about its clients: which kind, how many, what each of them sends, and for how long."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from reconnect_harness.peers.kinds import ClientKind
from reconnect_harness.peers.workload import MESSAGE_TYPES, MIXED, Workload
from reconnect_harness.values import CloseCodes, PositiveSeconds, Rate, Seconds, Section, Sizes, known, words

#: The kinds of ordinary clients: they can send a message in fragments, and have handshakes of the scenario's.
_ORDINARY = (ClientKind.PLAIN, ClientKind.RECONNECTING, ClientKind.VISITING)


class SlowSpec(Section):
    """The first `count` clients read slowly while the traffic lasts, and as fast as they can afterwards."""

    count: int = Field(1, ge=1)
    takes: Rate = Field(gt=0)


class VisitsSpec(Section):
    """How clients come and go: each stays, is away, and connects again, one after the other and equally often."""

    stay: PositiveSeconds
    away: PositiveSeconds


class AbsenceSpec(Section):
    """When a half-open or vanishing client is absent, counted from the start of the traffic, and for how long."""

    after: Seconds = 1.0
    lasts: Seconds = Field(2.0, alias="for")


class HandshakeSpec(Section):
    """What clients ask for in their handshakes; `{client}` stands for the name of each."""

    path: str = Field("/", pattern=r"^/[!-~]*$")
    subprotocols: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_|~-]+$")]] = Field(default_factory=list)
    headers: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_|~-]+$")], Annotated[str, Field(pattern=r"^[ -~]*$")]
    ] = Field(default_factory=dict)


class ClientsSpec(Section):
    """The clients, what each of them sends, and for how long."""

    kind: Annotated[ClientKind, known("kind of client", ClientKind)] = ClientKind.PLAIN
    command: Annotated[list[str], BeforeValidator(words)] | None = None
    count: int = Field(1, ge=1, le=100_000)
    send: Rate = 0.0
    size: Sizes = (16, 4096)
    type: Annotated[str, known("type of message", MESSAGE_TYPES)] = MIXED
    shapes: bool = False
    compress: bool = False
    lasts: PositiveSeconds = Field(alias="for")
    ping: PositiveSeconds | None = None
    slow: SlowSpec | None = None
    absence: AbsenceSpec = AbsenceSpec.model_validate({})
    visits: VisitsSpec | None = None
    handshake: HandshakeSpec | None = None
    leaves: CloseCodes = Field(default_factory=list)

    @model_validator(mode="after")
    def _only_visiting_clients_have_visits(self) -> ClientsSpec:
        if (self.kind is ClientKind.VISITING) != (self.visits is not None):
            raise ValueError("clients of kind visiting, and no others, need `visits`, such as {stay: 500ms, away: 1s}")
        return self

    @model_validator(mode="after")
    def _ordinary_clients_have_shapes(self) -> ClientsSpec:
        if self.shapes and self.kind not in _ORDINARY:
            raise ValueError(f"shapes: clients of kind {self.kind} do not send fragments; {', '.join(_ORDINARY)} do")
        if self.shapes and self.command is not None:
            raise ValueError("shapes: clients of a `command` are not told to send fragments")
        return self

    @model_validator(mode="after")
    def _ordinary_clients_have_handshakes(self) -> ClientsSpec:
        for key in ("handshake", "leaves"):
            if key in self.model_fields_set and (self.kind not in _ORDINARY or self.command is not None):
                who = "a `command`" if self.command is not None else f"kind {self.kind}"
                raise ValueError(f"{key}: it is for clients of kind {', '.join(_ORDINARY)}, not of {who}")
        return self

    @model_validator(mode="after")
    def _a_program_is_its_own_kind(self) -> ClientsSpec:
        given = [key for key in ("kind", "compress", "ping", "slow") if key in self.model_fields_set]
        if self.command is not None and given:
            raise ValueError(f"clients of a `command` are a program of your own: they cannot be told `{given[0]}`")
        if self.command is None and "kind" not in self.model_fields_set:
            raise ValueError("kind: it is missing; or give `command`, a program of your own")
        return self

    @property
    def load(self) -> Workload:
        """What each client sends."""
        return Workload(self.send, *self.size, self.type, shapes=self.shapes)
