"""What the system says of bytes that were written, for sockets of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from reconnect_proxy.net import tcp_info
from reconnect_proxy.net.tcp_info import acceptance_of


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection, the first of which does not block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as near:
            far, _ = listener.accept()
            with far:
                near.setblocking(False)
                yield near, far


def fill(near: socket.socket) -> None:
    """Write until neither system takes more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(bytes(65536))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the system, which gives no event."""
    async with asyncio.timeout(10.0):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
async def test_bytes_are_accepted_by_a_peer_that_does_not_read_until_its_buffers_are_full(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """And it acknowledges in both cases."""
    near, far = ends
    before = acceptance_of(near.fileno(), 0)
    near.send(b"ten bytes.")
    await until(lambda: not acceptance_of(near.fileno(), 0).waiting)
    after = acceptance_of(near.fileno(), 0)
    assert (after.accepted - before.accepted, after.acknowledges) == (10, True)
    fill(near)
    # What its buffers still take leaves; then a probe is answered about four times a second.
    stalled = [acceptance_of(near.fileno(), 0)]
    while len(stalled) < 2 or stalled[-1] != stalled[-2]:
        await asyncio.sleep(0.5)
        stalled.append(acceptance_of(near.fileno(), 0))
    assert stalled[-1].waiting
    assert stalled[-1].acknowledges
    far.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while far.recv(1024 * 1024):
            pass
    await until(lambda: acceptance_of(near.fileno(), 0).accepted != stalled[-1].accepted)


def test_the_descriptor_stays_open(ends: tuple[socket.socket, socket.socket]) -> None:
    """It is only borrowed."""
    near, far = ends
    acceptance_of(near.fileno(), 0)
    near.send(b"x")
    assert far.recv(1) == b"x"


@pytest.mark.parametrize("waiting", [0, 5])
def test_where_the_system_tells_nothing_the_write_buffer_does(
    monkeypatch: pytest.MonkeyPatch, ends: tuple[socket.socket, socket.socket], waiting: int
) -> None:
    """A socket that is no TCP socket, or another system."""
    monkeypatch.setattr(tcp_info.sys, "platform", "other")
    assert acceptance_of(ends[0].fileno(), waiting) == (-waiting, waiting > 0, False)


def test_a_socket_that_is_no_tcp_socket_has_its_write_buffer() -> None:
    """Such as one of the file system."""
    near, far = socket.socketpair()
    with near, far:
        assert acceptance_of(near.fileno(), 3) == (-3, True, False)
