"""A link of a test's own: a URL behind which the network can be made to misbehave."""

from __future__ import annotations

from urllib.parse import urlsplit

from harness.links import Link, ToxiproxyServer


class ChaosLink(Link):
    """A `Link` in front of a server that a test knows by its URL.

    Args:
        server: a started Toxiproxy.
        upstream: the server's URL, `ws://HOST:PORT/path`, or `HOST:PORT` alone.
        resets: whether `reset` is to be possible; see `Link`.

    Raises:
        ValueError: there is no host or no port in it.

    Attributes:
        url: where to connect instead: `upstream` with another host and port.

    """

    def __init__(self, server: ToxiproxyServer, upstream: str, *, resets: bool = False) -> None:
        whole = upstream if "://" in upstream else f"ws://{upstream}"
        parts = urlsplit(whole)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{upstream!r} has no host and port: it must be HOST:PORT or ws://HOST:PORT/path")
        super().__init__(server, "chaos", f"{parts.hostname}:{parts.port}", resets=resets)
        self.url = parts._replace(netloc=self.listen).geturl()
