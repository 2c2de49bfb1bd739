"""Addresses in the form HOST:PORT, and sockets that listen on them."""

from __future__ import annotations

import asyncio
import os
import socket

_BACKLOG = 4096


class AddressError(ValueError):
    """An address is malformed, cannot be looked up, or cannot be listened on."""


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT", "[IPV6]:PORT" or ":PORT"; both may be empty, as may be all of it.

    Raises:
        AddressError: it is malformed.
    """
    if not address:
        return "", 0
    host, colon, port = address.rpartition(":")
    if not colon or (address.startswith("[") and address.endswith("]")):
        raise AddressError(f"address {address}: missing port in address")
    if host.startswith("["):
        if not host.endswith("]"):
            raise AddressError(f"address {address}: missing ']' in address")
        host = host[1:-1]
    elif ":" in host:
        raise AddressError(f"address {address}: too many colons in address")
    return host, _port(port)


def join_address(host: str, port: int) -> str:
    """Return the address of host and port, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def resolve_address(address: str) -> str:
    """Return the address with its host looked up, an IPv4 address if there is one; an empty host stays empty.

    Raises:
        AddressError: it is malformed, or the host is unknown.
    """
    host, port = split_address(address)
    if not host:
        return f":{port}"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise AddressError(f"lookup {host}: no such host") from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    address_found = found[0][4]
    return join_address(str(address_found[0]), int(address_found[1]))


async def listen_on(address: str) -> socket.socket:
    """Return a socket that listens on `address`; without a host, on all addresses of this machine.

    Raises:
        AddressError: why it cannot.
    """
    try:
        resolved = await resolve_address(address)
    except AddressError as failure:
        raise AddressError(f"listen tcp: {failure}") from None
    host, port = split_address(resolved)
    family = socket.AF_INET6 if ":" in host or (not host and socket.has_dualstack_ipv6()) else socket.AF_INET
    # Told to be TCP: asyncio sets TCP_NODELAY on what it accepts only where the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not host and family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as failure:
        listener.close()
        reason = os.strerror(failure.errno or 0)
        raise AddressError(f"listen tcp {resolved}: bind: {reason[:1].lower()}{reason[1:]}") from None
    return listener


def listening_on(listener: socket.socket) -> str:
    """Return the address that a socket listens on."""
    host, port = listener.getsockname()[:2]
    return join_address(host, port)


def _port(port: str) -> int:
    if not port:
        return 0
    if port.isascii() and port.isdigit():
        if len(port) > 9 or int(port) > 65535:
            raise AddressError(f"address {port}: invalid port")
        return int(port)
    try:
        return socket.getservbyname(port, "tcp")
    except OSError:
        raise AddressError(f"lookup tcp/{port}: unknown port") from None
