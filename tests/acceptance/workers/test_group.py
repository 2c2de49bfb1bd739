"""The choice of a worker, on listeners of a test's own."""

import select

import pytest

from reconnect_proxy.net.listeners import listen

from .group import bound_for, place_by_port


@pytest.mark.parametrize("count", [2, 3])
def test_a_connection_comes_to_the_listener_that_was_chosen(count: int) -> None:
    """Left to the kernel's hash, not all of forty would."""
    listeners = [listener for (listener,) in listen("127.0.0.1", 0, count)]
    address = listeners[0].getsockname()
    place_by_port(address, count)
    for number in [*range(count)] * (40 // count):
        with bound_for(number, count) as client:
            client.setblocking(True)
            client.connect(address)
            assert select.select(listeners, [], [], 10)[0] == [listeners[number]]
            listeners[number].accept()[0].close()
    for listener in listeners:
        listener.close()
