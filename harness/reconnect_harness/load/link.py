"""One WebSocket link under gevent: a socket of gevent, and websocket-client on it.

    send_frame ──► the socket, as far as it takes bytes at once
        └── the rest ──► a greenlet that waits until the socket takes it

So no write waits, and none can come between the parts of another. Who must wait calls `Link.flush`.

websocket-client reads a frame with two or three calls of recv, and a handshake byte by byte. Here each system call
reads all that has arrived, and keeps what was not asked for yet. Names are resolved once. If a host has several
addresses, or this machine, each link uses the next one: one pair of addresses has some 28,000 ports only.
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
from websocket import (
    ABNF,
    WebSocket,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
)
from websocket._handshake import CookieJar

_READ = 1 << 16

#: An option of Linux: connect() chooses the port, and may use it for several pairs of addresses at a time.
_BIND_ADDRESS_NO_PORT = 24


#: What reads and writes raise on a lost link.
LOST = (OSError, WebSocketException, UnicodeDecodeError)


class LinkFailed(Exception):
    """A link could not be made. The message says why; `status` is the HTTP status, where the server refused."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class LinkEnd(NamedTuple):
    """How a link ended: the close code and reason, RFC 6455 section 7.1.5; 1006 without a close frame."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".strip()


class BufferedSocket(gevent.socket.socket):
    """A socket that reads ahead."""

    _ahead = b""

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Return at most `bufsize` bytes; b"" at the end of the stream."""
        ahead = self._ahead
        if not ahead:
            ahead = super().recv(_READ, flags)
        if len(ahead) <= bufsize:
            self._ahead = b""
            return ahead
        self._ahead = ahead[bufsize:]
        return ahead[:bufsize]


class Link(WebSocket):
    """A link whose writes do not wait."""

    def __init__(self) -> None:
        super().__init__(skip_utf8_validation=True)
        # What the system has not taken yet, and the greenlet that writes it.
        self._rest = bytearray()
        self._writer: gevent.Greenlet[..., None] | None = None

    def send_frame(self, frame: ABNF) -> int:
        """Write a frame. websocket-client calls it for everything that it sends, Pongs included."""
        data = frame.format()
        if self._rest:
            self._rest += data
        else:
            self._rest += data[self._send_at_once(data) :]
            if self._rest:
                self._writer = gevent.spawn(self._write_rest)
        return len(data)

    @property
    def waiting(self) -> int:
        """How many bytes the system has not taken yet."""
        return len(self._rest)

    def flush(self) -> None:
        """Wait until the system has taken everything that was written; raise one of `LOST` if it will not."""
        while self._rest and self._writer is not None:
            writer = self._writer
            writer.join()
            if self._rest and writer is self._writer:
                raise WebSocketConnectionClosedException("the link was lost before all was written")

    def shutdown(self) -> None:
        """Close the socket at once, without a close frame."""
        WebSocket.shutdown(self)

    def _send_at_once(self, data: bytes) -> int:
        if self.sock is None:
            raise WebSocketConnectionClosedException("the socket is closed already")
        timeout = self.sock.gettimeout()
        # A greenlet that waits for what arrives does not run before this is back to what it was.
        self.sock.settimeout(0.0)
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        finally:
            self.sock.settimeout(timeout)

    def _write_rest(self) -> None:
        # If the link is lost, the greenlet that reads from it sees its end.
        with suppress(*LOST):
            while self._rest and self.sock is not None:
                # It grows while this greenlet waits.
                written = bytes(self._rest)
                self.sock.sendall(written)
                del self._rest[: len(written)]


class LinkMaker:
    """Makes links to one URL.

    Args:
        url: ws:// or wss://, with or without a path.
        sources: own addresses to connect from, in turn; without any the system chooses.
        ca: a file of certificates to trust with wss://; without it those of the system.

    Raises:
        ValueError: the URL is not a WebSocket URL with a host.

    """

    def __init__(self, url: str, sources: Iterable[str] = (), ca: str | None = None) -> None:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ValueError(f"the host {url!r} is not a URL: {error}") from None
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

    def dial(self, path: str, headers: Mapping[str, str], subprotocols: Iterable[str], within: float) -> Link:
        """Make a link, or raise LinkFailed; `within` is seconds."""
        link = Link()
        try:
            with gevent.Timeout(within, TimeoutError(f"no answer in {within:g} s")):
                WebSocket.connect(
                    link,
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
            # websocket-client keeps cookies for the whole process, but each link is another user's.
            CookieJar.jar.clear()
        return link

    def reach(self, within: float) -> None:
        """Open a connection, with TLS if the URL says so, and close it. Raises LinkFailed; `within` is seconds."""
        try:
            with gevent.Timeout(within, TimeoutError(f"no answer in {within:g} s")):
                self._connected().close()
        except OSError as failed:
            raise LinkFailed(_reason(failed)) from failed

    def _at(self, path: str) -> str:
        # Without a path the URL is used as it was given, with or without a slash at its end.
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


def hang_up(link: Link) -> None:
    """Drop a link without a close frame, as a network does. What was sent before still arrives."""
    if link.sock is not None:
        with suppress(OSError):
            # A greenlet that reads from it sees its end now.
            link.sock.shutdown(socket.SHUT_RDWR)
    link.connected = False


def half_close(link: Link) -> None:
    """End the sending side of a link without a close frame. The reader sees the end when the peer has closed it too."""
    if link.sock is not None:
        with suppress(OSError):
            link.sock.shutdown(socket.SHUT_WR)


def link_end_of(frame: ABNF) -> LinkEnd:
    """Return what a close frame says."""
    data = frame.data if isinstance(frame.data, bytes) else frame.data.encode()
    if len(data) < 2:
        return LinkEnd(1005, "")
    return LinkEnd(int.from_bytes(data[:2], "big"), data[2:].decode(errors="replace"))


def _reason(failed: BaseException) -> str:
    """Return why a connection failed, in the same words for the same cause: statistics count by them."""
    if isinstance(failed, OSError) and failed.strerror:
        return failed.strerror.lower()
    return str(failed).partition("\n")[0][:120] or type(failed).__name__
