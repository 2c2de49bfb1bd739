"""Listeners at all addresses of a host, for one process or several."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterable

import pytest

from reconnect_proxy.net import listeners as module
from reconnect_proxy.net.listeners import listen, listen_again


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


def name(monkeypatch: pytest.MonkeyPatch, addresses: Iterable[str]) -> None:
    """Let the name `several.test` have these addresses."""
    resolve = socket.getaddrinfo

    def found(host: str, *arguments: object, **more: object) -> list[object]:
        hosts = addresses if host == "several.test" else [host]
        return [entry for each in hosts for entry in resolve(each, *arguments, **more)]  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def names_of(listeners: Iterable[socket.socket]) -> list[tuple[str, int]]:
    """Return the addresses and ports of listeners."""
    return [listener.getsockname()[:2] for listener in listeners]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_all_processes_have_one_port_and_each_gets_connections(host: str) -> None:
    """Port 0 takes one free port for all of them."""
    listeners = [listener for (listener,) in listen(host, 0, 3)]
    assert len(set(names_of(listeners))) == 1
    connect_until_each_is_asked(*listeners)
    close(*listeners)


@pytest.mark.parametrize("processes", [1, 2])
def test_all_addresses_of_a_name_have_one_port(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have the same address twice, as localhost has in some files."""
    name(monkeypatch, ["127.0.0.1", "::1", "127.0.0.1", "127.0.0.2"])
    groups = listen("several.test", 0, processes)
    port = groups[0][0].getsockname()[1]
    for group in groups:
        assert names_of(group) == [("127.0.0.1", port), ("::1", port), ("127.0.0.2", port)]
    for same in zip(*groups, strict=True):
        connect_until_each_is_asked(*same)
    close(*(listener for group in groups for listener in group))


def test_a_name_may_have_an_ipv6_address_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family is that of the address, and not guessed from the name."""
    name(monkeypatch, ["::1"])
    ((listener,),) = listen("several.test", 0)
    assert listener.family is socket.AF_INET6
    close(listener)


def test_a_free_port_is_free_at_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the one that the first address got is taken at another, the next one is tried."""
    name(monkeypatch, ["127.0.0.1", "127.0.0.2"])
    taken: list[socket.socket] = []
    bound = module._bound

    def bind(address: module.SocketAddress, share: bool) -> socket.socket:
        listener = bound(address, share)
        if not taken:
            taken.append(socket.create_server(("127.0.0.2", listener.getsockname()[1])))
        return listener

    monkeypatch.setattr(module, "_bound", bind)
    (listeners,) = listen("several.test", 0)
    assert len({port for _, port in names_of(listeners)}) == 1
    assert listeners[0].getsockname()[1] != taken[0].getsockname()[1]
    close(*listeners, *taken)


def test_a_port_that_one_address_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise some clients would reach another program. Nothing stays open."""
    name(monkeypatch, ["127.0.0.1", "127.0.0.2"])
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen("several.test", port)
        close(socket.create_server(("127.0.0.1", port)))


def test_an_address_of_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is not that of this machine, or not of it alone."""
    name(monkeypatch, ["127.0.0.1", "192.0.2.1"])
    with pytest.raises(OSError) as refused:
        listen("several.test", 0)
    assert refused.value.errno == errno.EADDRNOTAVAIL


def test_localhost_works_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers often have `::1 localhost` in their files and no IPv6. Alone, such an address is an error."""
    name(monkeypatch, ["127.0.0.1", "::1"])
    bound = module._bound

    def bind(address: module.SocketAddress, share: bool) -> socket.socket:
        if ":" in address[0]:
            raise OSError(errno.EADDRNOTAVAIL, "no IPv6 here")
        return bound(address, share)

    monkeypatch.setattr(module, "_bound", bind)
    (listeners,) = listen("several.test", 0)
    assert [host for host, _ in names_of(listeners)] == ["127.0.0.1"]
    close(*listeners)
    with pytest.raises(OSError, match="no IPv6 here"):
        listen("::1", 0)


def test_an_unknown_host_is_refused() -> None:
    """Names in `.invalid` are never known (RFC 2606)."""
    with pytest.raises(socket.gaierror):
        listen("nowhere.invalid", 0)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_port_of_another_program_is_in_use(processes: int) -> None:
    """Even if that program shares it among its own workers: the two would take each other's clients."""
    listeners = [listener for (listener,) in listen("127.0.0.1", 0, 2)]
    host, port = listeners[0].getsockname()
    with pytest.raises(OSError, match="in use"):
        listen(host, port, processes)
    with pytest.raises(OSError, match="in use"):
        socket.create_server((host, port))
    close(*listeners)


def test_a_listener_can_be_closed_and_opened_again() -> None:
    """While it is closed, the others get all connections."""
    (first,), (second,) = listen("127.0.0.1", 0, 2)
    address = first.getsockname()
    second.close()
    clients = [socket.create_connection(address) for _ in range(20)]
    first.settimeout(10)
    for _ in range(20):
        first.accept()[0].close()
    (again,) = listen_again([address])
    connect_until_each_is_asked(first, again)
    close(first, again, *clients)
