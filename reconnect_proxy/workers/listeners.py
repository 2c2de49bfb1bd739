"""The listeners of all workers at one address.

The system gives each new connection to one of them (SO_REUSEPORT). The supervisor keeps them open as long as it runs.
So connections that wait in the queue of a worker that has died are served by the worker that replaces it. Only the
listener of a worker that dies again and again is closed in between: its queue would not be served for a while.
"""

from __future__ import annotations

import socket

from ..config.values import Address
from ..proxy import BACKLOG


def listen(address: Address, count: int) -> list[socket.socket]:
    """Return `count` listeners at `address`; if its port is 0, at a free one.

    Raises:
        OSError: the address cannot be opened.
    """
    listeners: list[socket.socket] = []
    try:
        for _ in range(count):
            # The first does not share: else it could bind to a port that another program of this user shares.
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
    """Return one more listener at an address that this program has. Raises OSError: another program has it now."""
    listener = _bound(address, share=True)
    listener.listen(BACKLOG)
    return listener


def _bound(address: Address, share: bool) -> socket.socket:
    """Return a socket that is bound to `address` and shares it from then on; with `share`, also with earlier ones."""
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family is socket.AF_INET6:
            # As in `socket.create_server`.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
        listener.bind((address.host, address.port))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        listener.close()
        raise
    return listener
