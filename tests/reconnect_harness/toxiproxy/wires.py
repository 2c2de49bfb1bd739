"""Shared by the tests of links and faults: a Toxiproxy, or the reason why there is none, and sockets through a link."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from reconnect_harness.toxiproxy.find import ToxiproxySource, find_toxiproxy
from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.server import ToxiproxyServer, ToxiproxyUnavailable

PATIENCE = 20.0
"""How long a test waits for something, in seconds."""


def source_or_skip() -> ToxiproxySource:
    """Return a Toxiproxy, or skip the test with the reason why there is none."""
    try:
        return find_toxiproxy()
    except ToxiproxyUnavailable as reason:
        pytest.skip(str(reason))


def startable_or_skip() -> ToxiproxySource:
    """Return a Toxiproxy that the test starts, or skip the test if it is a server that runs already."""
    source = source_or_skip()
    if source.url is not None:
        pytest.skip(f"the Toxiproxy is {source.url}, {source.origin}: there is none to start")
    return source


def kill(server: ToxiproxyServer) -> None:
    """Kill a started Toxiproxy, but not its shell."""
    assert server.pid is not None
    family = psutil.Process(server.pid).children(recursive=True)
    (process,) = [child for child in family if child.name().startswith(("toxiproxy", "python"))]
    process.kill()
    assert eventually(lambda: not process.is_running())


class Wires:
    """Makes links and TCP connections through them, and closes all of them at the end."""

    def __init__(self, server: ToxiproxyServer, stack: contextlib.ExitStack) -> None:
        self.server = server
        self._stack = stack
        self._count = 0
        self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listener.settimeout(PATIENCE)
        self.upstream = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def link(self, *, resets: bool = False) -> ToxiproxyLink:
        """Return a new link to the listener."""
        self._count += 1
        made = ToxiproxyLink(self.server, f"wire{self._count}", self.upstream, resets=resets)
        return self._stack.enter_context(made)

    def connect(self, link: ToxiproxyLink) -> tuple[socket.socket, socket.socket]:
        """Return the two ends of a new connection through `link`: the client's, the upstream's."""
        host, port = link.listen.split(":")
        client = self._stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))
        upstream, _ = self.listener.accept()
        self._stack.enter_context(upstream)
        upstream.settimeout(PATIENCE)
        return client, upstream


@contextlib.contextmanager
def wires_on(server: ToxiproxyServer) -> Iterator[Wires]:
    """Yield `Wires` for one test."""
    with contextlib.ExitStack() as stack:
        yield Wires(server, stack)


def read(end: socket.socket, count: int) -> bytes:
    """Read exactly so many bytes, or fewer if the connection ends before."""
    got = bytearray()
    while len(got) < count and (more := end.recv(count - len(got))):
        got += more
    return bytes(got)


def exchange(one: socket.socket, other: socket.socket) -> float:
    """Send a byte to the other end and another back; return the seconds that it took."""
    begun = time.monotonic()
    one.sendall(b"?")
    assert read(other, 1) == b"?"
    other.sendall(b"!")
    assert read(one, 1) == b"!"
    return time.monotonic() - begun


def is_faster_than(seconds: float, near: socket.socket, far: socket.socket) -> bool:
    """Return True once an exchange takes less. A busy machine slows some down, a delay on the link all of them."""
    deadline = time.monotonic() + PATIENCE
    while exchange(near, far) >= seconds:
        if time.monotonic() > deadline:
            return False
    return True


def hears_nothing(end: socket.socket, seconds: float = 0.3) -> bool:
    """Return whether neither data nor the end of the connection reaches `end` within so many seconds."""
    end.settimeout(seconds)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE)
    return False


def eventually(what: Callable[[], bool]) -> bool:
    """Wait until `what` is true; return False if it does not become true in time."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
