"""How a TCP connection to an upstream is opened: all addresses of its name are tried (RFC 8305, "Happy Eyeballs").

    name ──Resolver──► addresses, IPv6 and IPv4 in turn ──► one attempt after the other, 250 ms apart
                                                            or sooner, if the one before has failed
                                                        ──► the first connection is taken, the others are dropped

So an address that swallows packets costs a dial 250 ms and not its whole timeout. The resolver's order says which
family comes first. Within a family each dial begins with another address, so that all servers of a name are used.

Unlike RFC 8305 section 3, the lookups of IPv4 and IPv6 addresses are not separate: `getaddrinfo` returns both together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import cast

from .endpoint import endpoint_of
from .resolver import Resolver

#: Seconds between the beginnings of two attempts (RFC 8305 section 5: Connection Attempt Delay).
ATTEMPT_DELAY = 0.25


class Connector:
    """Opens the TCP connections of one proxy."""

    def __init__(self, resolver: Resolver | None = None) -> None:
        """Make a connector that finds addresses with `resolver`."""
        self._resolver = resolver or Resolver()
        # The number of dials so far of each name that has several addresses.
        self._dials: dict[str, int] = {}

    async def connect(self, url: str, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Open a TCP connection to an upstream, for `protocol`, which makes the TLS handshake of wss:// itself.

        Raises:
            OSError: there is no connection.
        """
        host, port = endpoint_of(url)[:2]
        addresses = await self._resolver.addresses(host)
        if len(addresses) == 1:
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, addresses[0], port)
            return transport
        dial = self._dials[host] = self._dials.get(host, -1) + 1
        return await _Race(interleaved(addresses, dial), port, protocol).run()


def interleaved(addresses: Sequence[str], dial: int) -> list[str]:
    """Return addresses in the order in which dial number `dial` tries them.

    The two families take turns, that of the first address first. In each family the list is rotated by `dial`.
    """
    families = [[each for each in addresses if (":" in each) == version_6] for version_6 in (True, False)]
    if ":" not in addresses[0]:
        families.reverse()
    shifts = [dial % (len(family) or 1) for family in families]
    rotated = [[*family[shift:], *family[:shift]] for family, shift in zip(families, shifts, strict=True)]
    return [each for each in chain.from_iterable(zip_longest(*rotated)) if each is not None]


class _Race:
    """The attempts of one dial. The first connection is given to the protocol, and the others are dropped."""

    def __init__(self, addresses: Sequence[str], port: int, protocol: asyncio.Protocol) -> None:
        self._left = list(addresses)
        self._port = port
        self._protocol = protocol
        # The attempts in progress, and their addresses. The result is whether the attempt has won.
        self._attempts: dict[asyncio.Task[bool], str] = {}
        self._failures: list[str] = []
        self._winner: asyncio.Transport | None = None

    async def run(self) -> asyncio.Transport:
        """Return the first connection. Raises OSError: every attempt has failed."""
        try:
            while True:
                if self._left and self._winner is None:
                    address = self._left.pop(0)
                    self._attempts[asyncio.create_task(self._attempt(address))] = address
                if not self._attempts:
                    raise OSError("; ".join(self._failures))
                delay = ATTEMPT_DELAY if self._left and self._winner is None else None
                done, _ = await asyncio.wait(self._attempts, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    address, error = self._attempts.pop(task), task.exception()
                    if error is not None:
                        self._failures.append(f"{address}: {error}")
                    elif self._winner is not None and task.result():
                        return self._winner
        finally:
            for task in self._attempts:
                task.cancel()
            await asyncio.gather(*self._attempts, return_exceptions=True)

    async def _attempt(self, address: str) -> bool:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: _Candidate(self), address, self._port)
        return transport is self._winner

    def on_connected(self, transport: asyncio.Transport) -> None:
        """Take a connection if it is the first, and drop any other."""
        if self._winner is not None:
            transport.abort()
            return
        self._winner = transport
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)


class _Candidate(asyncio.Protocol):
    """The protocol object of an attempt, until it is connected."""

    __slots__ = ("_race",)

    def __init__(self, race: _Race) -> None:
        self._race = race

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Report the connection."""
        self._race.on_connected(cast(asyncio.Transport, transport))
