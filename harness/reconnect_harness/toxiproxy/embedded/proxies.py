"""All proxies of a server, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from reconnect_harness.toxiproxy.embedded.address import AddressError
from reconnect_harness.toxiproxy.embedded.body import FieldType, checked, decode, fields
from reconnect_harness.toxiproxy.embedded.errors import ApiError, ApiRefusal
from reconnect_harness.toxiproxy.embedded.metrics import ToxiproxyMetrics
from reconnect_harness.toxiproxy.embedded.proxy import ToxicProxy

PROXY_FIELDS = {
    "name": FieldType.TEXT,
    "listen": FieldType.TEXT,
    "upstream": FieldType.TEXT,
    "enabled": FieldType.BOOLEAN,
}
"""The fields of a proxy that a request may set."""


class ProxyCollection:
    """The proxies, in the order in which they were made."""

    def __init__(self, metrics: ToxiproxyMetrics) -> None:
        self._metrics = metrics
        self._proxies: dict[str, ToxicProxy] = {}

    def __iter__(self) -> Iterator[ToxicProxy]:
        return iter(list(self._proxies.values()))

    def get(self, name: str) -> ToxicProxy:
        """Return a proxy; raises ApiError if there is none of that name."""
        try:
            return self._proxies[name]
        except KeyError:
            raise ApiError(ApiRefusal.PROXY_NOT_FOUND) from None

    async def create(self, body: bytes) -> ToxicProxy:
        """Make the proxy that a request asks for; raises ApiError, AddressError."""
        asked = fields(decode(body), PROXY_FIELDS)
        for name in ("name", "upstream"):
            if not asked.get(name):
                raise ApiError(ApiRefusal.MISSING_FIELD, name)
        if asked["name"] in self._proxies:
            raise ApiError(ApiRefusal.PROXY_ALREADY_EXISTS)
        proxy = self._make(asked)
        if asked.get("enabled", True):
            await proxy.start()
        self._proxies[proxy.name] = proxy
        return proxy

    async def populate(self, body: bytes) -> tuple[list[ToxicProxy], ApiError | AddressError | None]:
        """Make or replace the proxies of a list; one with the same addresses stays unchanged, with its toxics.

        Nothing is made if an entry is malformed. Returns the proxies up to the first that could not be made,
        and why it could not.
        """
        made: list[ToxicProxy] = []
        try:
            for asked in _entries(body):
                made.append(await self._add_or_replace(self._make(asked), asked.get("enabled", True)))
        except (ApiError, AddressError) as failure:
            return made, failure
        return made, None

    async def remove(self, name: str) -> None:
        """Stop and forget a proxy; raises ApiError if there is none of that name."""
        await self.get(name).stop()
        del self._proxies[name]

    async def close(self) -> None:
        """Stop all proxies."""
        await asyncio.gather(*(proxy.stop() for proxy in self))

    def _make(self, asked: dict[str, Any]) -> ToxicProxy:
        return ToxicProxy(asked["name"], asked.get("listen", ""), asked["upstream"], self._metrics)

    async def _add_or_replace(self, proxy: ToxicProxy, enabled: bool) -> ToxicProxy:
        existing = self._proxies.get(proxy.name)
        if existing is not None:
            if not await existing.differs(proxy.listen, proxy.upstream):
                return existing
            await existing.stop()
        if enabled:
            await proxy.start()
        self._proxies[proxy.name] = proxy
        return proxy


def _entries(body: bytes) -> list[dict[str, Any]]:
    value = decode(body)
    if value is None:
        return []
    entries = []
    for number, given in enumerate(checked(value, FieldType.LIST, "it"), 1):
        asked = fields(given, PROXY_FIELDS, f"proxy {number}")
        for name in ("name", "upstream"):
            if not asked.get(name):
                raise ApiError(ApiRefusal.MISSING_FIELD, f"{name} at proxy {number}")
        entries.append(asked)
    return entries
