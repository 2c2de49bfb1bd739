"""Whose a connection is: the address that sessions are counted by.

Behind a load balancer every connection comes from one address, and the client's own is in `X-Forwarded-For`. Anybody
may write that header, so it is believed only as far as it was written by peers that are trusted: read from its end, the
first address that is not one of theirs is the client's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from ..core.wire import Refusal

Network = IPv4Network | IPv6Network

#: One subscriber has a whole /64 of IPv6 addresses (RFC 6177), so counting single ones would limit nobody.
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
            # What a trusted peer wrote is no address, but it stands for somebody whom it knows.
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


class SessionsByAddress:
    """How many living sessions each address has opened. Addresses without one are forgotten."""

    def __init__(self, limit: int | None) -> None:
        """Count up to `limit` sessions for each address; None counts nothing."""
        self.limit = limit
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many addresses have a session."""
        return len(self._counts)

    def check(self, name: str) -> None:
        """Check that `name` (see `counted_as`) may have another session. Raises Refusal: 503."""
        if self.limit is not None and self.count(name) >= self.limit:
            raise self.refusal(name)

    def count(self, name: str) -> int:
        """Return how many sessions `name` has."""
        return self._counts.get(name, 0)

    def refusal(self, name: str) -> Refusal:
        """Make the refusal of another session for `name`."""
        detail = f"{name} has {self.limit} sessions, and no more are allowed for one address"
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too-many-sessions-of-address", detail, retry_after=1)

    def add(self, name: str) -> None:
        """Count a session for `name`."""
        self._counts[name] = self._counts.get(name, 0) + 1

    def remove(self, name: str) -> None:
        """Take a session of `name` out of the count."""
        left = self._counts.pop(name) - 1
        if left:
            self._counts[name] = left
