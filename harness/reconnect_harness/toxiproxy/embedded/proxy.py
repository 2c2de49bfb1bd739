"""One proxy: it listens, and carries what connects to its upstream and back. Its toxics change what its links carry."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from reconnect_harness.toxiproxy.embedded.address import listen_on, resolve_address
from reconnect_harness.toxiproxy.embedded.body import ToxicBody, ToxicChange, whole_numbers
from reconnect_harness.toxiproxy.embedded.connection import ProxiedConnection, SocketEnd
from reconnect_harness.toxiproxy.embedded.errors import BadRequest, Conflict, NotFound
from reconnect_harness.toxiproxy.embedded.link import ToxicLink
from reconnect_harness.toxiproxy.embedded.metrics import ToxiproxyMetrics
from reconnect_harness.toxiproxy.embedded.stub import ToxicDirection, ToxicWrapper
from reconnect_harness.toxiproxy.embedded.toxics import TOXIC_KINDS
from reconnect_harness.toxiproxy.toxics import TOXICS
from reconnect_proxy.config.values import Address

_log = logging.getLogger(__name__)


class ToxicProxy:
    """A proxy, at first not enabled.

    Attributes:
        name: what the API calls it.
        listen: "HOST:PORT" to listen on; after the first start with the host looked up and the port fixed.
        upstream: "HOST:PORT" to dial for each client.
        enabled: whether it listens.
        toxics: the toxics of its connections, the oldest first; they stay when it is stopped.
    """

    def __init__(self, name: str, listen: str, upstream: str, metrics: ToxiproxyMetrics) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.enabled = False
        self.toxics: list[ToxicWrapper] = []
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._connections: set[ProxiedConnection] = set()

    async def start(self) -> None:
        """Listen; the proxy must not be enabled yet. Raises AddressError if it cannot."""
        listener = await listen_on(self.listen)
        self.listen = str(Address(*listener.getsockname()[:2]))
        self._server = await asyncio.get_running_loop().create_server(self._accept, sock=listener)
        self.enabled = True
        _log.info("started proxy %s: %s -> %s", self.name, self.listen, self.upstream)

    async def stop(self) -> None:
        """Stop listening and close all connections; both are done when this returns."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self.enabled = False
        await asyncio.gather(*(connection.abort() for connection in self._connections))
        _log.info("terminated proxy %s", self.name)

    async def update(self, listen: str, upstream: str, enabled: bool) -> None:
        """Change the addresses, for which it is stopped and started, and whether it is enabled.

        Raises AddressError; then the proxy is unchanged, or, where it cannot listen, stopped.
        """
        if await self.differs(listen, upstream):
            await self.stop()
            self.listen = listen
            self.upstream = upstream
        if enabled and not self.enabled:
            await self.start()
        elif not enabled:
            await self.stop()

    async def differs(self, listen: str, upstream: str) -> bool:
        """Return whether these addresses differ from its own; raises AddressError for one that is malformed."""
        return self.listen != str(await resolve_address(listen)) or self.upstream != upstream

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it, toxics included."""
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            # The original shows this internal field; it is always empty.
            "Logger": {},
            "toxics": self.toxics_as_json(),
        }

    def toxics_as_json(self) -> list[dict[str, Any]]:
        """Return its toxics as the API lists them: those of the upstream stream first."""
        ordered = sorted(self.toxics, key=lambda toxic: toxic.direction is ToxicDirection.DOWNSTREAM)
        return [toxic.as_json() for toxic in ordered]

    def toxic(self, name: str) -> ToxicWrapper:
        """Return a toxic; raises NotFound if there is none of that name."""
        for toxic in self.toxics:
            if toxic.name == name:
                return toxic
        raise NotFound("toxic not found")

    def add_toxic(self, asked: ToxicBody) -> ToxicWrapper:
        """Put a toxic at the end of all links of its direction; raises BadRequest, Conflict."""
        if asked.stream.lower() not in [direction.value for direction in ToxicDirection]:
            raise BadRequest("stream was invalid, can be either upstream or downstream")
        kind = TOXIC_KINDS.get(asked.type)
        if kind is None:
            raise BadRequest("invalid toxic type")
        name = asked.name or f"{asked.type}_{asked.stream}"
        if any(toxic.name == name for toxic in self.toxics):
            raise Conflict("toxic already exists")
        attributes = whole_numbers(asked.attributes, dict.fromkeys(TOXICS.get(asked.type, ()), 0))
        toxic = ToxicWrapper(kind, attributes, name, asked.type, asked.stream, asked.toxicity)
        self.toxics.append(toxic)
        for link in self._links(toxic):
            link.add(toxic)
        return toxic

    def change_toxic(self, toxic: ToxicWrapper, asked: ToxicChange) -> None:
        """Change the attributes and the toxicity of a toxic that are given.

        Raises BadRequest, and changes nothing then. (The original keeps what it read before the mistake.)
        """
        toxic.attributes = whole_numbers(asked.attributes, toxic.attributes)
        if "toxicity" in asked.model_fields_set:
            toxic.toxicity = asked.toxicity
        for link in self._links(toxic):
            link.update(toxic)

    def remove_toxic(self, toxic: ToxicWrapper) -> None:
        """Remove a toxic from all links."""
        self.toxics.remove(toxic)
        for link in self._links(toxic):
            link.remove(toxic)

    def _links(self, toxic: ToxicWrapper) -> list[ToxicLink]:
        return [connection.links[toxic.direction] for connection in self._connections if connection.links]

    def _accept(self) -> SocketEnd:
        counted = {
            direction: self._metrics.link_bytes(direction.value, self.name, self.listen, self.upstream)
            for direction in ToxicDirection
        }
        return ProxiedConnection(self.upstream, self.toxics, self._connections, counted).client
