"""The sockets at which clients connect: one for each address of a host, all at one port, for one process or several.

A name such as localhost may have several addresses, and a client tries any of them. So each gets a listener at the port
that is announced, or the start fails.

Several processes can share a port: the system gives each new connection to one of their listeners (SO_REUSEPORT). The
supervisor keeps them open as long as it runs. So connections that wait in the queue of a worker that has died are
served by the worker that replaces it. Only the listeners of a worker that dies again and again are closed in between:
their queues would not be served for a while.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any

#: Connections that may wait to be accepted: after an outage all clients connect at once.
BACKLOG = 4096
#: Free ports of the first address that are tried at the others.
ATTEMPTS = 16
#: The system has no IPv6, although its files have an IPv6 address for localhost.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

#: As `socket.getsockname` returns it: IP address and port, and for IPv6 two more numbers.
SocketAddress = tuple[Any, ...]


def listen(host: str, port: int, processes: int = 1) -> list[list[socket.socket]]:
    """Return listeners at all addresses of a host, a list of them for each process; if `port` is 0, at a free one.

    Raises:
        OSError: an address cannot be opened, or the host is unknown (`socket.gaierror`).
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(address for *_, address in found))
    for _ in range(ATTEMPTS - 1):
        try:
            return _listen(addresses, port, processes)
        except OSError as error:
            if port or len(addresses) == 1 or error.errno != errno.EADDRINUSE:
                raise
    return _listen(addresses, port, processes)


def _listen(addresses: Sequence[SocketAddress], port: int, processes: int) -> list[list[socket.socket]]:
    groups: list[list[socket.socket]] = [[] for _ in range(processes)]
    with ExitStack() as bound:
        for host, _, *more in addresses:
            for group in groups:
                try:
                    # The first does not share: else it could bind to a port that another program of this user shares.
                    listener = _bound((host, port, *more), share=group is not groups[0])
                except OSError as error:
                    if len(addresses) > 1 and error.errno in _NOT_HERE and ip_address(host).is_loopback:
                        break
                    raise
                bound.callback(listener.close)
                group.append(listener)
                if processes > 1:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                port = listener.getsockname()[1]
        if not groups[0]:
            raise OSError(errno.EADDRNOTAVAIL, "this machine has none of the addresses")
        for group in groups:
            for listener in group:
                listener.listen(BACKLOG)
        bound.pop_all()
    return groups


def listen_again(addresses: Iterable[SocketAddress]) -> list[socket.socket]:
    """Return one more listener at each of the addresses that other processes of this program share.

    Raises:
        OSError: another program has one of them now.
    """
    with ExitStack() as bound:
        listeners = []
        for address in addresses:
            listeners.append(_bound(address, share=True))
            bound.callback(listeners[-1].close)
            listeners[-1].listen(BACKLOG)
        bound.pop_all()
    return listeners


def _bound(address: SocketAddress, share: bool) -> socket.socket:
    """Return a socket that is bound to `address`; with `share`, in addition to others that share it."""
    listener = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family is socket.AF_INET6:
            # As in `socket.create_server`.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener
