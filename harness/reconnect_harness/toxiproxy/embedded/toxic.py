"""What a toxic is: a coroutine that carries chunks, and what it can ask of its place in a link.

A toxic waits in three ways, all of them methods of `StubInterface`: for input, for room in the output, and for time.
Each wait ends when the toxic is interrupted, because it is to be changed or removed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol


class ToxicDirection(Enum):
    """The direction of the bytes that a link carries; in the order in which a proxy's toxics are listed."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


class Chunk(NamedTuple):
    """Some bytes on their way."""

    data: bytes
    at: float
    """When they came to the link, in seconds of time.monotonic()."""


class Interrupted(Exception):
    """A toxic is to be changed or removed, and must return."""


class StubInterface(Protocol):
    """What a toxic needs of its place in one link: see `ToxicStub`."""

    passed: int
    """How many bytes the toxic has let through, if it counts them; kept when it is changed."""

    async def read(self, within: float | None = None) -> Chunk | None:
        """Wait for a chunk, and take it; None at the end, and at each read after it.

        Args:
            within: seconds to wait at most.

        Raises:
            Interrupted: the toxic must return.
            TimeoutError: nothing came in time.
        """

    async def write(self, chunk: Chunk) -> None:
        """Pass on a chunk, then wait until there is room for another."""

    async def sleep(self, seconds: float) -> bool:
        """Wait; return False if an interrupt ended the wait early."""

    def finish_anyway(self) -> None:
        """Accept no interrupt from now on: the toxic is about to return and end the connection."""


class EmbeddedToxic(ABC):
    """Changes the bytes of a link: a dataclass whose fields are its attributes, all of them whole numbers.

    One toxic is on many links at once, so it keeps its settings only. The state of one link is in its stub.
    """

    buffer: ClassVar[int] = 0
    """How many chunks may wait in front of it."""
    closes_when_removed: ClassVar[bool] = False
    """Whether its removal closes the connections that it was on."""
    lingers: ClassVar[bool] = False
    """Whether connections that begin while it is there are closed with an RST (SO_LINGER 0)."""

    @abstractmethod
    async def pipe(self, stub: StubInterface) -> None:
        """Carry chunks from the stub's input to its output until the input ends.

        When this returns, the stub is closed, and with it the rest of the link. It is called again after every change
        of the toxic.

        Raises:
            Interrupted: from `stub.read`, which is not caught: the toxic is to be changed or removed. What was read
                before has been written by then.
        """


@dataclass(slots=True, eq=False)
class ToxicWrapper:
    """A toxic that is on a proxy.

    Attributes:
        stream: the direction as the request wrote it, in any case.
        toxicity: the probability that it affects a link; drawn for each link, and again when it is changed.
    """

    name: str
    type: str
    stream: str
    toxicity: float
    toxic: EmbeddedToxic

    @property
    def direction(self) -> ToxicDirection:
        """The direction of the links that it is on."""
        return ToxicDirection(self.stream.lower())

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "attributes": asdict(self.toxic),  # type: ignore[call-overload]  # its subclasses are dataclasses
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": int(self.toxicity) if self.toxicity.is_integer() else self.toxicity,
        }
