"""The toxics of one proxy, and the links that they are on."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any

from reconnect_harness.toxiproxy.embedded.body import FieldType, decode, fields
from reconnect_harness.toxiproxy.embedded.errors import ApiError, ApiRefusal
from reconnect_harness.toxiproxy.embedded.link import ChunkSource, ToxicLink
from reconnect_harness.toxiproxy.embedded.registry import TOXIC_TYPES
from reconnect_harness.toxiproxy.embedded.stub import Sink
from reconnect_harness.toxiproxy.embedded.toxic import EmbeddedToxic, ToxicDirection, ToxicWrapper

_UPDATE_FIELDS = {"toxicity": FieldType.NUMBER, "attributes": FieldType.OBJECT}
_TOXIC_FIELDS = {**dict.fromkeys(("name", "type", "stream"), FieldType.TEXT), **_UPDATE_FIELDS}


class ToxicCollection:
    """A chain of toxics for each direction. A change returns when all links have it."""

    def __init__(self) -> None:
        self._chains: dict[ToxicDirection, list[ToxicWrapper]] = {direction: [] for direction in ToxicDirection}
        self._links: set[ToxicLink] = set()

    def __iter__(self) -> Iterator[ToxicWrapper]:
        """Yield the toxics in the order in which the API lists them."""
        return (toxic for chain in self._chains.values() for toxic in chain)

    @property
    def lingers(self) -> bool:
        """Whether connections that begin now are closed with an RST."""
        return any(toxic.toxic.lingers for toxic in self)

    def start_link(self, direction: ToxicDirection, source: ChunkSource, destination: Sink) -> ToxicLink:
        """Return a new link that has the toxics of its direction on it."""
        link = ToxicLink(direction, source, destination, self._chains[direction], self._links.discard)
        self._links.add(link)
        return link

    def get(self, name: str) -> ToxicWrapper:
        """Return a toxic; raises ApiError if there is none of that name."""
        for toxic in self:
            if toxic.name == name:
                return toxic
        raise ApiError(ApiRefusal.TOXIC_NOT_FOUND)

    def add(self, body: bytes) -> ToxicWrapper:
        """Put the toxic that a request asks for at the end of its chain; raises ApiError."""
        asked = fields(decode(body), _TOXIC_FIELDS)
        toxic_type, stream = asked.get("type", ""), asked.get("stream", ToxicDirection.DOWNSTREAM.value)
        if stream.lower() not in {direction.value for direction in ToxicDirection}:
            raise ApiError(ApiRefusal.INVALID_STREAM)
        if toxic_type not in TOXIC_TYPES:
            raise ApiError(ApiRefusal.INVALID_TOXIC_TYPE)
        name = asked.get("name") or f"{toxic_type}_{stream}"
        if any(toxic.name == name for toxic in self):
            raise ApiError(ApiRefusal.TOXIC_ALREADY_EXISTS)
        toxic = TOXIC_TYPES[toxic_type]()
        _set(toxic, _attributes(toxic, asked.get("attributes")))
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
        asked = fields(decode(body), _UPDATE_FIELDS)
        _set(wrapper.toxic, _attributes(wrapper.toxic, asked.get("attributes")))
        wrapper.toxicity = asked.get("toxicity", wrapper.toxicity)
        async with asyncio.TaskGroup() as changes:
            for link in self._links_of(wrapper):
                changes.create_task(link.update_toxic(wrapper))
        return wrapper

    async def remove(self, wrapper: ToxicWrapper) -> None:
        """Remove a toxic."""
        self._chains[wrapper.direction].remove(wrapper)
        async with asyncio.TaskGroup() as changes:
            for link in self._links_of(wrapper):
                changes.create_task(link.remove_toxic(wrapper))

    async def reset(self) -> None:
        """Remove all toxics."""
        for wrapper in list(self):
            await self.remove(wrapper)

    def _links_of(self, wrapper: ToxicWrapper) -> list[ToxicLink]:
        return [link for link in self._links if link.direction is wrapper.direction]


def _attributes(toxic: EmbeddedToxic, given: Any) -> dict[str, int]:
    """Return the attributes of a request that this toxic has; raises ApiError for one that is not a whole number."""
    names = [field.name for field in dataclasses.fields(toxic)]  # type: ignore[arg-type]  # a subclass is a dataclass
    return fields(given, dict.fromkeys(names, FieldType.WHOLE_NUMBER), "attributes")


def _set(toxic: EmbeddedToxic, attributes: dict[str, int]) -> None:
    for name, value in attributes.items():
        setattr(toxic, name, value)
