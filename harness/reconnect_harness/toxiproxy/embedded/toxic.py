"""What a toxic is, and which ones there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from reconnect_harness.toxiproxy.embedded.stub import ToxicStub

_Class = TypeVar("_Class", bound="type[Toxic]")


class Direction(Enum):
    """The way of the bytes that a link carries; in the order in which a proxy's toxics are listed."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


class Toxic(ABC):
    """A harm to the bytes of a link: a dataclass whose fields are its attributes, whole numbers all.

    One toxic is on many links at once, so it keeps its settings only. What belongs to one link is the
    `ToxicStub`'s.
    """

    buffer: ClassVar[int] = 0
    """How many chunks may wait in front of it."""
    closes_when_removed: ClassVar[bool] = False
    """Whether its removal closes the connections that it was on."""
    lingers: ClassVar[bool] = False
    """Whether connections that begin while it is there are closed with an RST (SO_LINGER 0)."""
    integer: ClassVar[str] = "int64"
    """What the original calls the type of its attributes; it can be read in error texts."""

    @abstractmethod
    async def pipe(self, stub: ToxicStub) -> None:
        """Carry chunks from the stub's input to its output until the input ends.

        When this returns the stub is closed, and with it the rest of the link. It is begun anew after every
        change of the toxic.

        Raises:
            Interrupted: from `stub.read`, to be let through: the toxic is to be changed or removed. What was
                read before has been written by then.
        """


REGISTRY: dict[str, type[Toxic]] = {}
"""The toxics by the name of their type."""


def register(name: str) -> Callable[[_Class], _Class]:
    """Enter a class as the toxics of type `name`."""

    def enter(kind: _Class) -> _Class:
        REGISTRY[name] = kind
        return kind

    return enter


@dataclass(slots=True, eq=False)
class ToxicWrapper:
    """A toxic that is on a proxy.

    Attributes:
        stream: the direction as it was asked for, whatever the case of its letters.
        toxicity: the probability that it is felt; drawn for each link, and anew when it is changed.
    """

    name: str
    type: str
    stream: str
    toxicity: float
    toxic: Toxic

    @property
    def direction(self) -> Direction:
        """The direction of the links that it is on."""
        return Direction(self.stream.lower())

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "attributes": asdict(self.toxic),  # type: ignore[call-overload]  # its subclasses are dataclasses
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": int(self.toxicity) if self.toxicity.is_integer() else self.toxicity,
        }
