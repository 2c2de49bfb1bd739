"""The server: the API on its address, until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from pathlib import Path

from reconnect_harness.toxiproxy.embedded.address import reason
from reconnect_harness.toxiproxy.embedded.api import VERSION, Api, refusal
from reconnect_harness.toxiproxy.embedded.errors import AddressError
from reconnect_harness.toxiproxy.embedded.metrics import ToxiproxyMetrics
from reconnect_proxy.admin.server import AdminServer
from reconnect_proxy.config.values import Address

_log = logging.getLogger(__name__)


async def serve(address: Address, config: Path | None, metrics: ToxiproxyMetrics) -> None:
    """Serve the API at `address` until SIGTERM or SIGINT.

    Args:
        address: port 0 for any; the log says which.
        config: a JSON file with proxies to make at the start, in the form of /populate. As in the original, the
            server logs a mistake in it, and starts anyway.
        metrics: what /metrics shows.

    Raises:
        AddressError: it cannot listen there.
    """
    # A full collection of what was imported would take some 50 ms, in which nothing is passed on.
    gc.freeze()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    api = Api(metrics)
    try:
        async with AdminServer(address, api.answer, refusal) as server:
            _log.info("Starting Toxiproxy %s (embedded) on %s", VERSION, server.url)
            if config is not None:
                await _populate(api, config)
            await stopping.wait()
            _log.info("shutdown started")
    except socket.gaierror:
        raise AddressError(f"listen tcp: lookup {address.host}: no such host") from None
    except OSError as failure:
        raise AddressError(f"listen tcp {address}: {reason(failure)}") from None
    finally:
        await api.close()


async def _populate(api: Api, config: Path) -> None:
    try:
        made, failure = await api.populate(await asyncio.to_thread(config.read_bytes))
    except OSError as unreadable:
        _log.error("cannot read the config file %s: %s", config, unreadable.strerror)
        return
    if failure is not None:
        _log.error("failed to populate proxies from %s: %s", config, failure)
    _log.info("populated %d proxies from %s", len(made), config)
