"""Which address a session counts for.

Behind a load balancer every connection comes from one address, and the client's own is in `X-Forwarded-For`. Any client
can send that header, so it is believed only as far as trusted peers have written it: read from its end, the first
address that is not one of theirs is the client's. Addresses are written as nginx's realip module reads them: with or
without a port, IPv6 in brackets if there is a port, with commas or spaces between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

#: `192.0.2.1:80`, `[2001:db8::1]:80`, `[2001:db8::1]`: an address in groups 1 or 2. A bare IPv6 address has no port.
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")

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
    for text in reversed([part for value in forwarded_for for part in re.split(r"[,\s]+", value.strip(", \t"))]):
        if not is_trusted(address, trusted):
            break
        match = _WITH_PORT.fullmatch(text)
        bare = (match[1] or match[2]) if match else text
        if _parsed(bare) is None:
            # The trusted peer did not write an address, so the client counts for that peer.
            break
        address = bare
    return address


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Tell whether an address is in one of the `trusted` networks."""
    parsed = _parsed(address) if trusted else None
    return parsed is not None and any(parsed in network for network in trusted)


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
