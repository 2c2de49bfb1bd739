"""All addresses of an upstream's name are tried (RFC 8305), with real sockets on addresses of loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Sequence

import psutil
import pytest

from reconnect_proxy.events import Event
from reconnect_proxy.net import connector
from reconnect_proxy.net.connector import ATTEMPT_DELAY, Connector, interleaved
from reconnect_proxy.net.resolver import Resolver, system_lookup
from reconnect_proxy.proxy import Proxy, ProxyParts

from .black_hole import black_hole
from .http_rig import HANDSHAKE, accept, hello
from .raw_http import Conversation, RawUpstream, ask, get

#: Three addresses of this machine; tests say on which of them a server is.
A, B, C = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def connector_of(*addresses: str) -> Connector:
    """Return a connector for which every name has these addresses."""
    return Connector(Resolver(lambda host: addresses))


class Taken(asyncio.Protocol):
    """The protocol object of a dial."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, which comes once."""
        assert self.transport is None
        self.transport = transport


async def answer(request: Conversation) -> None:
    """Accept a handshake, answer anything else."""
    await (hello if request.get("upgrade") is None else accept)(request)


def server(host: str, port: int = 0) -> RawUpstream:
    """Return a server at an address."""
    return RawUpstream(answer, address=(host, port))


def attempts(host: str) -> int:
    """Return how many attempts of this process to connect to `host` wait, those of the black hole itself included."""
    connections = psutil.Process(os.getpid()).net_connections("tcp4")
    return [each.status for each in connections if each.raddr and each.raddr.ip == host].count("SYN_SENT")


async def connect(by: Connector, port: int) -> tuple[str, float]:
    """Open a connection to a name; return the address that it went to, and the seconds that it took."""
    began, protocol = time.monotonic(), Taken()
    transport = await by.connect(f"ws://name.example:{port}", protocol)
    took = time.monotonic() - began
    assert protocol.transport is transport
    peer: str = transport.get_extra_info("peername")[0]
    transport.abort()
    return peer, took


async def test_an_address_that_swallows_packets_costs_a_moment() -> None:
    """The second one is tried while the first is still silent, and the first is given up when the second answers."""
    async with server(B) as found:
        with black_hole(A, found.port):
            before = attempts(A)
            peer, took = await connect(connector_of(A, B), found.port)
            assert peer == B
            assert took >= ATTEMPT_DELAY
            assert attempts(A) == before


async def test_without_the_second_attempt_that_dial_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control of the test above: the first address stays silent."""
    monkeypatch.setattr(connector, "ATTEMPT_DELAY", 1000.0)
    async with server(B) as found:
        with black_hole(A, found.port), pytest.raises(TimeoutError):
            async with asyncio.timeout(2 * ATTEMPT_DELAY):
                await connect(connector_of(A, B), found.port)


async def test_behind_a_refusal_the_next_address_is_tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delay is for addresses that are silent."""
    monkeypatch.setattr(connector, "ATTEMPT_DELAY", 1000.0)
    async with server(C) as found:
        assert (await connect(connector_of(A, B, C), found.port))[0] == C


async def test_a_dial_without_success_names_each_address() -> None:
    """And why it failed."""
    with socket.create_server((A, 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match=f"^{A}: .*; {B}: .*$"):
        await connect(connector_of(A, B), port)


async def test_a_dial_that_is_given_up_leaves_no_attempt() -> None:
    """As when the connect timeout is over."""
    with black_hole(A) as port, black_hole(B, port):
        before = attempts(A), attempts(B)
        dial = asyncio.create_task(connect(connector_of(A, B), port))
        # Nothing else tells that the second attempt has begun.
        while attempts(B) == before[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert attempts(A) == before[0] + 1
        dial.cancel()
        await asyncio.wait([dial])
        assert dial.cancelled()
        assert (attempts(A), attempts(B)) == before


async def test_the_servers_of_a_name_get_dials_in_turn() -> None:
    """So that none of them gets all sessions of ten seconds."""
    async with server(A) as one, server(B, one.port), server(C, one.port):
        by = connector_of(A, B, C)
        assert [(await connect(by, one.port))[0] for _ in range(6)] == [A, B, C] * 2


@pytest.mark.parametrize(
    ("addresses", "dial", "order"),
    [
        (["::1", "::2", "1.1.1.1"], 0, ["::1", "1.1.1.1", "::2"]),
        (["::1", "::2", "1.1.1.1"], 1, ["::2", "1.1.1.1", "::1"]),
        (["1.1.1.1", "::1", "::2", "2.2.2.2", "3.3.3.3"], 0, ["1.1.1.1", "::1", "2.2.2.2", "::2", "3.3.3.3"]),
        (["1.1.1.1", "::1", "::2", "2.2.2.2", "3.3.3.3"], 5, ["3.3.3.3", "::2", "1.1.1.1", "::1", "2.2.2.2"]),
        (["1.1.1.1"], 7, ["1.1.1.1"]),
    ],
)
def test_families_take_turns(addresses: Sequence[str], dial: int, order: list[str]) -> None:
    """RFC 8305 section 4; the family that the resolver prefers begins."""
    assert interleaved(addresses, dial) == order


async def test_the_system_knows_this_machine() -> None:
    """The addresses of a name come from getaddrinfo."""
    assert set(system_lookup("localhost")) <= {"127.0.0.1", "::1"}
    with pytest.raises(UnicodeError):
        system_lookup("host..name")


@pytest.mark.parametrize("handshake", [True, False], ids=["handshake", "plain"])
async def test_sessions_and_plain_http_reach_the_second_address(handshake: bool) -> None:
    """Through the proxy, well within the connect timeout; nothing is a failed dial."""
    events: list[Event] = []
    async with server(B) as found:
        with black_hole(A, found.port):
            options = {"upstream": f"ws://name.example:{found.port}", "listen": "127.0.0.1:0", "drain": "0s"}
            parts = ProxyParts(connector=connector_of(A, B))
            async with Proxy(observe=events.append, parts=parts, **options, accept_when_down=False) as proxy:
                assert await proxy.ready() is None
                client = await (await ask(proxy.url, get("/", *(HANDSHAKE if handshake else ())))).head()
                assert client.first.split()[1] == ("101" if handshake else "200")
                await client.closed()
    assert not [event for event in events if "Failed" in type(event).__name__]
