"""What the URL of an upstream says: where to connect, and the beginning of the path."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple
from urllib.parse import urlsplit


class Endpoint(NamedTuple):
    """What an upstream's URL says.

    `authority` is the Host header, without the port if it is that of the scheme (RFC 6455 section 4.1, RFC 9110 section
    7.2). `base` is the path in front of the client's.
    """

    host: str
    port: int
    authority: str
    base: str
    secure: bool


# There are as many as are configured.
@cache
def endpoint_of(url: str) -> Endpoint:
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    default = 443 if secure else 80
    port = parts.port or default
    host = re.sub(r":[0-9]*\Z", "", parts.netloc)
    return Endpoint(parts.hostname or "", port, host if port == default else f"{host}:{port}", parts.path, secure)


def join_target(url: str, target: str) -> str:
    """Return the request target at an upstream: the path of its URL, then the client's path and query."""
    base = endpoint_of(url).base
    path, mark, query = target.partition("?")
    if base and path == "/":
        path = ""
    elif base.endswith("/"):
        path = path[1:]
    return (f"{base}{path}" or "/") + mark + query
