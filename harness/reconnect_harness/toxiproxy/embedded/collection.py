"""The toxics of one proxy, and the links that they are on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from reconnect_harness.toxiproxy.embedded.body import decode, fields
from reconnect_harness.toxiproxy.embedded.errors import ApiError, Refusal
from reconnect_harness.toxiproxy.embedded.link import Source, ToxicLink
from reconnect_harness.toxiproxy.embedded.stub import Sink
from reconnect_harness.toxiproxy.embedded.toxic import REGISTRY, Direction, Toxic, ToxicWrapper

_WRAPPER_FIELDS = {
    "name": "string",
    "type": "string",
    "stream": "string",
    "toxicity": "float32",
    "attributes": "toxics.NoopToxic",
}

# What Go says about the body of an update, whose type has no name.
_UPDATE_TYPE = 'struct { Attributes interface {} "json:\\"attributes\\""; Toxicity float32 "json:\\"toxicity\\"" }'


class ToxicCollection:
    """A chain of toxics for each direction. A change returns when it is felt by all links."""

    def __init__(self) -> None:
        self._chains: dict[Direction, list[ToxicWrapper]] = {direction: [] for direction in Direction}
        self._links: set[ToxicLink] = set()

    def __iter__(self) -> Iterator[ToxicWrapper]:
        """Give the toxics in the order in which the API lists them."""
        return (toxic for chain in self._chains.values() for toxic in chain)

    @property
    def lingers(self) -> bool:
        """Whether connections that begin now are closed with an RST."""
        return any(toxic.toxic.lingers for toxic in self)

    def start_link(self, direction: Direction, source: Source, destination: Sink) -> ToxicLink:
        """Return a new link that has the toxics of its direction on it."""
        link = ToxicLink(direction, source, destination, self._chains[direction], self._links.discard)
        self._links.add(link)
        return link

    def get(self, name: str) -> ToxicWrapper:
        """Return a toxic; raises ApiError where there is none of that name."""
        for toxic in self:
            if toxic.name == name:
                return toxic
        raise ApiError(Refusal.TOXIC_NOT_FOUND)

    def add(self, body: bytes) -> ToxicWrapper:
        """Put the toxic that a request asks for at the end of its chain; raises ApiError."""
        asked = fields(decode(body), _WRAPPER_FIELDS, "ToxicWrapper", "toxics.ToxicWrapper")
        toxic_type, stream = asked.get("type", ""), asked.get("stream", Direction.DOWNSTREAM.value)
        if stream.lower() not in {direction.value for direction in Direction}:
            raise ApiError(Refusal.INVALID_STREAM)
        if toxic_type not in REGISTRY:
            raise ApiError(Refusal.INVALID_TOXIC_TYPE)
        name = asked.get("name") or f"{toxic_type}_{stream}"
        if any(toxic.name == name for toxic in self):
            raise ApiError(Refusal.TOXIC_ALREADY_EXISTS)
        toxic = REGISTRY[toxic_type]()
        _set(toxic, _attributes(toxic, asked.get("attributes", {})))
        wrapper = ToxicWrapper(name, toxic_type, stream, asked.get("toxicity", 1.0), toxic)
        self._chains[wrapper.direction].append(wrapper)
        for link in self._links_of(wrapper):
            link.add_toxic(wrapper)
        return wrapper

    async def update(self, name: str, body: bytes) -> ToxicWrapper:
        """Change the attributes and the toxicity of a toxic as a request asks.

        Raises ApiError, and changes nothing then. (The original keeps what it read before the mistake.)
        """
        wrapper = self.get(name)
        own = f"toxics.{type(wrapper.toxic).__name__}"
        asked = fields(decode(body), {"attributes": own, "toxicity": "float32"}, "", _UPDATE_TYPE)
        attributes = _attributes(wrapper.toxic, asked.get("attributes", {}))
        _set(wrapper.toxic, attributes)
        wrapper.toxicity = asked.get("toxicity", wrapper.toxicity)
        async with asyncio.TaskGroup() as changes:
            for link in self._links_of(wrapper):
                changes.create_task(link.update_toxic(wrapper))
        return wrapper

    async def remove(self, wrapper: ToxicWrapper) -> None:
        """Take a toxic off."""
        self._chains[wrapper.direction].remove(wrapper)
        async with asyncio.TaskGroup() as changes:
            for link in self._links_of(wrapper):
                changes.create_task(link.remove_toxic(wrapper))

    async def reset(self) -> None:
        """Take all toxics off."""
        for wrapper in list(self):
            await self.remove(wrapper)

    def _links_of(self, wrapper: ToxicWrapper) -> list[ToxicLink]:
        return [link for link in self._links if link.direction is wrapper.direction]


def _attributes(toxic: Toxic, given: Any) -> dict[str, int]:
    kind = type(toxic)
    known = dict.fromkeys(kind.__annotations__, kind.integer)
    return fields(given, known, f"{kind.__name__}.attributes", kind.__name__)


def _set(toxic: Toxic, attributes: dict[str, int]) -> None:
    for name, value in attributes.items():
        setattr(toxic, name, value)
