"""One proxy: it listens, and carries what connects to its upstream and back."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from reconnect_harness.toxiproxy.embedded.address import listen_on, listening_on, resolve_address
from reconnect_harness.toxiproxy.embedded.collection import ToxicCollection
from reconnect_harness.toxiproxy.embedded.connection import ProxiedConnection, SocketEnd
from reconnect_harness.toxiproxy.embedded.metrics import LinkBytes, ToxiproxyMetrics
from reconnect_harness.toxiproxy.embedded.toxic import ToxicDirection

_log = logging.getLogger(__name__)


class ToxicProxy:
    """A proxy, at first not enabled.

    Attributes:
        name: what the API calls it.
        listen: "HOST:PORT" to listen on; after the first start with the host looked up and the port fixed.
        upstream: "HOST:PORT" to dial for each client.
        enabled: whether it listens.
        toxics: the toxics of its connections; they stay when it is stopped.
    """

    def __init__(self, name: str, listen: str, upstream: str, metrics: ToxiproxyMetrics) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.enabled = False
        self.toxics = ToxicCollection()
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._connections: set[ProxiedConnection] = set()

    async def start(self) -> None:
        """Listen; the proxy must not be enabled yet. Raises AddressError if it cannot."""
        listener = await listen_on(self.listen)
        self.listen = listening_on(listener)
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
        return self.listen != await resolve_address(listen) or self.upstream != upstream

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it, toxics included."""
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            # The original shows this internal field; it is always empty.
            "Logger": {},
            "toxics": [toxic.as_json() for toxic in self.toxics],
        }

    def _accept(self) -> SocketEnd:
        return ProxiedConnection(self.upstream, self.toxics, self._connections, self._count).client

    def _count(self, direction: ToxicDirection) -> LinkBytes:
        return self._metrics.link_bytes(direction, self.name, self.listen, self.upstream)
