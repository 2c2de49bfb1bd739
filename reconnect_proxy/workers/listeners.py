"""The listeners of all workers at one address.

The system gives each new connection to one of them (SO_REUSEPORT). They are the supervisor's, and stay open as long as
it runs: a worker that dies leaves its own behind, and whoever waits in its queue is served by the next. Only that of a
worker that dies over and over is closed in between, so that nobody comes to it who would wait in vain.
"""

from __future__ import annotations

import socket

from ..config.model import Address
from ..proxy import BACKLOG

__all__ = ["listen", "listen_again"]


def listen(address: Address, count: int) -> list[socket.socket]:
    """Return `count` listeners at `address`, or where its port is 0 at one that is free.

    Raises:
        OSError: the address cannot be had.
    """
    listeners: list[socket.socket] = []
    try:
        for _ in range(count):
            # Not the first: another program of this user that shares its port would let us in.
            listeners.append(_bound(address, share=bool(listeners)))
            address = Address(address.host, listeners[0].getsockname()[1])
        for listener in listeners:
            listener.listen(BACKLOG)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def listen_again(address: Address) -> socket.socket:
    """Return another listener at an address that is ours already. Raises OSError: it is not any more."""
    listener = _bound(address, share=True)
    listener.listen(BACKLOG)
    return listener


def _bound(address: Address, share: bool) -> socket.socket:
    """Return a socket that is bound to `address`, and shares it from then on; with `share`, from before."""
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family is socket.AF_INET6:
            # As `socket.create_server` has it.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
        listener.bind((address.host, address.port))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        listener.close()
        raise
    return listener
