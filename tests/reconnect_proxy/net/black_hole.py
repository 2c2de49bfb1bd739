"""Addresses of loopback on which no program accepts: the system completes connections, or does not even do that."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def listener() -> Iterator[str]:
    """Listen without ever accepting; yields the URL. The system completes connections, as many as the backlog holds."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as server:
        yield f"ws://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def black_hole(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Listen with a backlog that is full, so that an attempt to connect gets no answer; yields the port."""
    sockets: list[socket.socket] = []
    with socket.create_server((host, port), backlog=0) as server:
        port = server.getsockname()[1]
        try:
            for _ in range(8):
                each = socket.socket()
                each.setblocking(False)
                sockets.append(each)
                each.connect_ex((host, port))
            yield port
        finally:
            for each in sockets:
                each.close()
