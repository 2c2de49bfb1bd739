"""All proxies of a server, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from reconnect_harness.toxiproxy.embedded.address import AddressError
from reconnect_harness.toxiproxy.embedded.body import check_kind, decode, fields
from reconnect_harness.toxiproxy.embedded.errors import ApiError, Refusal
from reconnect_harness.toxiproxy.embedded.proxy import Proxy

PROXY_FIELDS = {"name": "string", "listen": "string", "upstream": "string", "enabled": "bool"}
"""The fields of a proxy that a request may set, with their Go types."""

# What Go says about an entry of /populate, whose type has no name.
_ENTRY_TYPE = 'struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }'


class ProxyCollection:
    """The proxies, in the order of their making."""

    def __init__(self) -> None:
        self._proxies: dict[str, Proxy] = {}

    def __iter__(self) -> Iterator[Proxy]:
        return iter(list(self._proxies.values()))

    def get(self, name: str) -> Proxy:
        """Return a proxy; raises ApiError where there is none of that name."""
        try:
            return self._proxies[name]
        except KeyError:
            raise ApiError(Refusal.PROXY_NOT_FOUND) from None

    async def create(self, body: bytes) -> Proxy:
        """Make the proxy that a request asks for; raises ApiError, AddressError."""
        asked = fields(decode(body), PROXY_FIELDS, "Proxy", "toxiproxy.Proxy")
        for name in ("name", "upstream"):
            if not asked.get(name):
                raise ApiError(Refusal.MISSING_FIELD, name)
        if asked["name"] in self._proxies:
            raise ApiError(Refusal.PROXY_ALREADY_EXISTS)
        proxy = Proxy(asked["name"], asked.get("listen", ""), asked["upstream"])
        if asked.get("enabled", True):
            await proxy.start()
        self._proxies[proxy.name] = proxy
        return proxy

    async def populate(self, body: bytes) -> tuple[list[Proxy], ApiError | AddressError | None]:
        """Make or replace the proxies of a list; one that has the same addresses stays as it is, toxics and all.

        Nothing is made if an entry is malformed. Returns the proxies up to the first that could not be made,
        and why it could not.
        """
        made: list[Proxy] = []
        try:
            for asked in _entries(body):
                proxy = Proxy(asked["name"], asked.get("listen", ""), asked["upstream"])
                made.append(await self._add_or_replace(proxy, asked.get("enabled", True)))
        except (ApiError, AddressError) as failure:
            return made, failure
        return made, None

    async def remove(self, name: str) -> None:
        """Stop and forget a proxy; raises ApiError where there is none of that name."""
        await self.get(name).stop()
        del self._proxies[name]

    async def close(self) -> None:
        """Stop all proxies."""
        await asyncio.gather(*(proxy.stop() for proxy in self))

    async def _add_or_replace(self, proxy: Proxy, enabled: bool) -> Proxy:
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
    check_kind(value, "array", f"[]{_ENTRY_TYPE}")
    enabled = {"enabled": PROXY_FIELDS["enabled"]}
    rest = {name: go_type for name, go_type in PROXY_FIELDS.items() if name not in enabled}
    entries = []
    for number, given in enumerate(value, 1):
        asked = fields(given, rest, ".Proxy", _ENTRY_TYPE) | fields(given, enabled, "", _ENTRY_TYPE)
        for name in ("name", "upstream"):
            if not asked.get(name):
                raise ApiError(Refusal.MISSING_FIELD, f"{name} at proxy {number}")
        entries.append(asked)
    return entries
