"""The listeners of several workers at one address."""

from __future__ import annotations

import select
import socket

import pytest

from reconnect_proxy.config.values import Address
from reconnect_proxy.workers.listeners import listen, listen_again


def close(*listeners: socket.socket) -> None:
    """Close them."""
    for listener in listeners:
        listener.close()


def connect_until_each_is_asked(*listeners: socket.socket) -> None:
    """Connect to the address that the listeners share, until each of them has been given a connection."""
    for listener in listeners:
        listener.setblocking(False)
    asked: set[socket.socket] = set()
    while len(asked) < len(listeners):
        with socket.create_connection(listeners[0].getsockname()[:2]):
            readable, _, _ = select.select(listeners, [], [], 10)
            (listener,) = readable
            listener.accept()[0].close()
            asked.add(listener)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_all_listeners_have_one_port_and_each_gets_connections(host: str) -> None:
    """Port 0 takes one free port for all of them."""
    listeners = listen(Address(host, 0), 3)
    assert len({listener.getsockname() for listener in listeners}) == 1
    connect_until_each_is_asked(*listeners)
    close(*listeners)


def test_a_port_of_another_program_is_in_use() -> None:
    """Even if that program shares it among its own workers: the two would take each other's clients."""
    listeners = listen(Address("127.0.0.1", 0), 2)
    with pytest.raises(OSError, match="in use"):
        listen(Address(*listeners[0].getsockname()), 2)
    with pytest.raises(OSError, match="in use"):
        socket.create_server(listeners[0].getsockname())
    close(*listeners)


def test_a_listener_can_be_closed_and_opened_again() -> None:
    """While it is closed, the others get all connections."""
    first, second = listen(Address("127.0.0.1", 0), 2)
    address = Address(*first.getsockname())
    second.close()
    clients = [socket.create_connection(address) for _ in range(20)]
    first.settimeout(10)
    for _ in range(20):
        first.accept()[0].close()
    again = listen_again(address)
    connect_until_each_is_asked(first, again)
    close(first, again, *clients)
