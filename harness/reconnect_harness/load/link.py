"""One WebSocket link under gevent: a socket of gevent's, and websocket-client on it.

websocket-client reads a frame with two or three calls of recv, and a handshake byte by byte. Here each read of the
system takes all that has come, and what was not asked for yet waits. Names are looked up once; of several addresses of
a host, and of several own ones, each link takes the next: one pair of addresses has no more than some 28,000 ports.
"""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
import gevent.socket
from websocket import ABNF, WebSocket, WebSocketBadStatusException, WebSocketException
from websocket._handshake import CookieJar

_READ = 1 << 16

#: The option of Linux that leaves the choice of a port to connect(), which may give it to several pairs of addresses.
_BIND_ADDRESS_NO_PORT = 24


class LinkFailed(Exception):
    """A link could not be made. `status` is the HTTP status where the server refused; the message says why."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class Ending(NamedTuple):
    """How a link ended: the close code and reason, RFC 6455 section 7.1.5; 1006 without a close frame."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".strip()


class BufferedSocket(gevent.socket.socket):
    """A socket that reads ahead."""

    _ahead = b""

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Return at most `bufsize` bytes of what was read ahead, or comes next; none at the end."""
        ahead = self._ahead
        if not ahead:
            ahead = super().recv(_READ, flags)
        if len(ahead) <= bufsize:
            self._ahead = b""
            return ahead
        self._ahead = ahead[bufsize:]
        return ahead[:bufsize]


class Dialler:
    """Makes links to one URL.

    Args:
        url: ws:// or wss://, with or without a path.
        sources: own addresses to connect from, in turn; the system's choice if there is none.
        ca: a file of certificates to trust with wss://, those of the system if not given.

    Raises:
        ValueError: the URL is no WebSocket URL with a host.

    """

    def __init__(self, url: str, sources: Iterable[str] = (), ca: str | None = None) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise ValueError(f"the host {url!r} has no port of 0 to 65535") from None
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"the host {url!r} is not of the form ws://HOST:PORT or wss://HOST:PORT")
        self._url = url
        self._host = parts.hostname
        self._port = port or (443 if parts.scheme == "wss" else 80)
        self._tls = ssl.create_default_context(cafile=ca) if parts.scheme == "wss" else None
        self._sources = itertools.cycle(sources) if sources else None
        self._addresses: Iterator[tuple[Any, ...]] | None = None

    def dial(self, path: str, headers: Mapping[str, str], subprotocols: Iterable[str], within: float) -> WebSocket:
        """Make a link, or raise LinkFailed; `within` is seconds."""
        link = WebSocket(skip_utf8_validation=True, enable_multithread=True)
        try:
            with gevent.Timeout(within, TimeoutError(f"no answer in {within:g} s")):
                link.connect(
                    self._at(path),
                    socket=self._connected(),
                    header=[f"{name}: {value}" for name, value in headers.items()],
                    subprotocols=list(subprotocols),
                    suppress_origin=True,
                )
        except WebSocketBadStatusException as refused:
            hang_up(link)
            raise LinkFailed(f"refused with HTTP {refused.status_code}", refused.status_code) from refused
        except (OSError, WebSocketException, ValueError) as failed:
            hang_up(link)
            raise LinkFailed(_reason(failed)) from failed
        finally:
            # websocket-client keeps cookies for the whole process; here each link is somebody else's.
            CookieJar.jar.clear()
        return link

    def _at(self, path: str) -> str:
        # The URL may be that of the place itself, which need not end with a slash.
        return self._url if path == "/" else self._url.rstrip("/") + path

    def _connected(self) -> socket.socket:
        if self._addresses is None:
            found = gevent.socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._addresses = itertools.cycle([(family, address) for family, _, _, _, address in found])
        family, address = next(self._addresses)
        made = BufferedSocket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._sources is not None:
                with suppress(OSError):
                    made.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                made.bind((next(self._sources), 0))
            made.connect(address)
            if self._tls is None:
                return made
            return self._tls.wrap_socket(made, server_hostname=self._host)
        except BaseException:
            made.close()
            raise


def hang_up(link: WebSocket) -> None:
    """Drop a link without a close frame, as a network does. What was sent before still goes out."""
    if link.sock is not None:
        with suppress(OSError):
            # Whoever reads from it sees its end now.
            link.sock.shutdown(socket.SHUT_RDWR)
    link.connected = False


def half_close(link: WebSocket) -> None:
    """End a link without a close frame: what was sent arrives, then the end; the reader sees it when the peer has."""
    if link.sock is not None:
        with suppress(OSError):
            link.sock.shutdown(socket.SHUT_WR)


def ending_of(frame: ABNF) -> Ending:
    """Return what a close frame says."""
    data = frame.data if isinstance(frame.data, bytes) else frame.data.encode()
    if len(data) < 2:
        return Ending(1005, "")
    return Ending(int.from_bytes(data[:2], "big"), data[2:].decode(errors="replace"))


def _reason(failed: BaseException) -> str:
    """Return why a connection failed, the same words for the same cause: statistics count by them."""
    if isinstance(failed, OSError) and failed.strerror:
        return failed.strerror.lower()
    return str(failed).partition("\n")[0][:120] or type(failed).__name__
