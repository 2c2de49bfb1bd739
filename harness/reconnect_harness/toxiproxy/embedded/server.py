"""The server: the API on its address, until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from reconnect_harness.toxiproxy.embedded.address import join_address, listen_on, listening_on
from reconnect_harness.toxiproxy.embedded.api import VERSION, Api
from reconnect_harness.toxiproxy.embedded.http import serve_requests
from reconnect_harness.toxiproxy.embedded.metrics import ToxiproxyMetrics
from reconnect_harness.toxiproxy.embedded.proxies import ProxyCollection

_log = logging.getLogger(__name__)


class ApiServer:
    """Serves the API, and owns the proxies that are made with it.

    Args:
        host: address or name to listen on.
        port: 0 for any.
        metrics: what /metrics shows.
    """

    def __init__(self, host: str, port: int, metrics: ToxiproxyMetrics) -> None:
        self._address = join_address(host, port)
        self.proxies = ProxyCollection(metrics)
        self._api = Api(self.proxies, metrics)
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen, and return the address; raises AddressError."""
        listener = await listen_on(self._address)
        self._server = await asyncio.start_server(self._serve, sock=listener)
        return listening_on(listener)

    async def close(self) -> None:
        """Stop listening, end the open requests, and close all proxies."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self.proxies.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await serve_requests(reader, writer, self._api.answer)
        except asyncio.CancelledError:
            # `close` cancels this task, and is the only one that awaits it; asyncio.streams would log an error.
            pass
        finally:
            self._clients.discard(task)


async def serve(host: str, port: int, config: Path | None = None, metrics: ToxiproxyMetrics | None = None) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        host: address or name to listen on.
        port: 0 for any; the log says which.
        config: a JSON file with proxies to make at the start, in the form of /populate. As in the original, the
            server logs a mistake in it, and starts anyway.
        metrics: what /metrics shows; nothing if not given.

    Raises:
        AddressError: it cannot listen there.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    server = ApiServer(host, port, metrics or ToxiproxyMetrics())
    try:
        address = await server.start()
        _log.info("Starting Toxiproxy %s (embedded) on http://%s", VERSION, address)
        if config is not None:
            await _populate(server.proxies, config)
        await stopping.wait()
        _log.info("shutdown started")
    finally:
        await server.close()


async def _populate(proxies: ProxyCollection, config: Path) -> None:
    try:
        made, failure = await proxies.populate(await asyncio.to_thread(config.read_bytes))
    except OSError as unreadable:
        _log.error("cannot read the config file %s: %s", config, unreadable.strerror)
        return
    if failure is not None:
        _log.error("failed to populate proxies from %s: %s", config, failure)
    _log.info("populated %d proxies from %s", len(made), config)
