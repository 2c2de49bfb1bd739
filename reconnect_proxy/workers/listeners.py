"""The listeners of all workers at one address.

The system gives each new connection to one of them (SO_REUSEPORT). They are the supervisor's, and stay open as long as
it runs: a worker that dies leaves its own behind, and whoever waits in its queue is served by the next.
"""

from __future__ import annotations

import socket

from ..config import Address
from ..proxy import BACKLOG

__all__ = ["listen"]


def listen(address: Address, count: int) -> list[socket.socket]:
    """Return `count` listeners at `address`, or where its port is 0 at one that is free.

    Raises:
        OSError: the address cannot be had.
    """
    listeners: list[socket.socket] = []
    try:
        for _ in range(count):
            listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if listener.family is socket.AF_INET6:
                # As `socket.create_server` has it.
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if len(listeners) > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((address.host, address.port))
            # Not before the first is bound: another program of this user that shares its port would let us in.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.listen(BACKLOG)
            address = Address(address.host, listener.getsockname()[1])
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners
