"""One proxy: it listens, and carries what connects to its upstream and back."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from reconnect_harness.toxiproxy.embedded.address import listen_on, listening_on, resolve_address
from reconnect_harness.toxiproxy.embedded.collection import ToxicCollection
from reconnect_harness.toxiproxy.embedded.connection import Connection, End

_log = logging.getLogger(__name__)


class ProxyAlreadyStarted(Exception):
    """A proxy that is enabled was to be started."""


class Proxy:
    """A proxy, at first not enabled.

    Attributes:
        name: what the API calls it.
        listen: "HOST:PORT" to listen on; once it did, with host and port looked up and fixed.
        upstream: "HOST:PORT" to dial for each client.
        enabled: whether it listens.
        toxics: what is on its connections; they stay when it is stopped.
    """

    def __init__(self, name: str, listen: str, upstream: str) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.enabled = False
        self.toxics = ToxicCollection()
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    async def start(self) -> None:
        """Listen.

        Raises:
            ProxyAlreadyStarted: it does.
            AddressError: it cannot, and why.
        """
        if self.enabled:
            raise ProxyAlreadyStarted("Proxy already started")
        listener = await listen_on(self.listen)
        self.listen = listening_on(listener)
        self._server = await asyncio.get_running_loop().create_server(self._accept, sock=listener)
        self.enabled = True
        _log.info("started proxy %s: %s -> %s", self.name, self.listen, self.upstream)

    async def stop(self) -> None:
        """Close all connections and do not listen; both are done when this returns."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self.enabled = False
        await asyncio.gather(*(connection.abort() for connection in self._connections))
        _log.info("terminated proxy %s", self.name)

    async def update(self, listen: str, upstream: str, enabled: bool) -> None:
        """Take on other addresses, for which it is stopped and started, and be enabled or not.

        Raises AddressError; then the proxy is as it was, or, where it cannot listen, stopped.
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
        """Return whether these are other addresses than it has; raises AddressError for one that cannot be."""
        return self.listen != await resolve_address(listen) or self.upstream != upstream

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it, toxics included."""
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            # The original shows a field of its innards; it is always empty.
            "Logger": {},
            "toxics": [toxic.as_json() for toxic in self.toxics],
        }

    def _accept(self) -> End:
        return Connection(self.upstream, self.toxics, self._connections).client
