"""Addresses in the form HOST:PORT, and sockets that listen on them."""

from __future__ import annotations

import asyncio
import os
import socket
from urllib.parse import urlsplit

from reconnect_harness.toxiproxy.embedded.errors import AddressError
from reconnect_proxy.config.values import Address

_BACKLOG = 4096


def split_address(address: str) -> Address:
    """Return host and port of "HOST:PORT", "[IPV6]:PORT" or ":PORT"; an empty host and port 0 if there is nothing.

    Raises AddressError if it is malformed.
    """
    try:
        parts = urlsplit(f"//{address}")
        port = parts.port
    except ValueError as mistake:
        raise AddressError(f"address {address}: {mistake}") from None
    if address and port is None:
        raise AddressError(f"address {address}: missing port in address")
    return Address(parts.hostname or "", port or 0)


async def resolve_address(address: str) -> Address:
    """Return an address with its host looked up, an IPv4 address if there is one; an empty host stays empty.

    Raises AddressError if it is malformed, or the host is unknown.
    """
    host, port = split_address(address)
    if not host:
        return Address(host, port)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise AddressError(f"lookup {host}: no such host") from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return Address(str(found[0][4][0]), port)


async def listen_on(address: str) -> socket.socket:
    """Return a socket that listens on `address`; without a host, on all addresses of this machine.

    Raises AddressError if it cannot.
    """
    try:
        resolved = await resolve_address(address)
        any_host = not resolved.host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if any_host or ":" in resolved.host else socket.AF_INET
        return socket.create_server(resolved, family=family, backlog=_BACKLOG, dualstack_ipv6=any_host)
    except AddressError as failure:
        raise AddressError(f"listen tcp: {failure}") from None
    except OSError as failure:
        raise AddressError(f"listen tcp {resolved}: {reason(failure)}") from None


def reason(failure: OSError) -> str:
    """Return why an address cannot be listened on, as the original says it: clients look for "in use" there."""
    return f"bind: {os.strerror(failure.errno or 0).lower()}"
