"""Which address a session counts for.

Behind a load balancer every connection comes from one address, and the client's own is in `X-Forwarded-For`. Any client
can send that header, so it is believed only as far as trusted peers have written it: read from its end, the first
address that is not one of theirs is the client's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

#: One subscriber has a whole /64 of IPv6 addresses (RFC 6177), so a limit for single ones would have no effect.
IPV6_PREFIX = 64


def client_address(peer: str, forwarded_for: Iterable[str], trusted: Sequence[Network]) -> str:
    """Return the address that a request comes from.

    Args:
        peer: the address of the socket.
        forwarded_for: the values of the request's X-Forwarded-For headers, in order.
        trusted: the networks of the peers whose X-Forwarded-For is believed.
    """
    address = peer
    for text in reversed([part.strip() for value in forwarded_for for part in value.split(",")]):
        parsed = _parsed(address)
        if parsed is None or not any(parsed in network for network in trusted):
            break
        if _parsed(text) is None:
            # The trusted peer did not write an address, so the client counts for that peer.
            break
        address = text
    return address


def counted_as(address: str) -> str:
    """Return the name under which `address` is counted: itself, or the /64 that it is in."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, IPV6_PREFIX), strict=False))
    return str(parsed) if parsed is not None else address


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
