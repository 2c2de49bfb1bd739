"""websockify in front of a TCP server, as noVNC uses it: a byte stream in binary messages."""

from __future__ import annotations

import asyncio

import pytest

from .install import python
from .network import cut_and_come_back, cut_while_it_works, told_and_back
from .testbed import Server, Testbed

pytestmark = pytest.mark.needs("websockify")


class Target:
    """A TCP server: it answers numbered lines, and sends numbered ticks of its own on each connection.

    Attributes:
        calls: the numbers of the calls that it has had.
        connections: how many connections it has had.

    """

    def __init__(self) -> None:
        """Prepare it; `serve` is called with each connection."""
        self.calls: list[int] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        ticks = 0
        over = asyncio.Event()

        async def tick() -> None:
            nonlocal ticks
            while not over.is_set():
                ticks += 1
                writer.write(b"tick %d\n" % ticks)
                await asyncio.sleep(0.02)

        ticking = asyncio.create_task(tick())
        try:
            while line := await reader.readline():
                word, number = line.split()
                if word == b"end":
                    over.set()
                    await ticking
                    writer.write(b"bye %d\n" % ticks)
                else:
                    self.calls.append(int(number))
                    writer.write(b"answer %d\n" % int(number))
        except ConnectionError:
            pass
        finally:
            ticking.cancel()
            writer.close()


async def start_websockify(testbed: Testbed, target: int) -> Server:
    """Start websockify in front of a port of loopback."""
    port = testbed.port()
    command = [str(python()), "-m", "websockify", f"127.0.0.1:{port}", f"127.0.0.1:{target}"]
    return await testbed.serve("websockify", command, port)


async def test_pair(testbed: Testbed) -> None:
    """Every byte arrives once and in order, both ways; the TCP connection behind websockify stays."""
    target = Target()
    async with await asyncio.start_server(target.serve, "127.0.0.1", 0) as listener:
        server = await start_websockify(testbed, listener.sockets[0].getsockname()[1])
        route = await testbed.pair(server.netloc, preset="stateful")
        client = await testbed.run("websockify_client.js", url=route.url("/websockify"))
        await cut_while_it_works(route.link, client, "answers")
        await client.finish()
    everything = list(range(1, client.called() + 1))
    assert target.calls == everything
    assert client.numbers("answers") == everything
    assert client.numbers("ticks") == list(range(1, client.sent("ticks") + 1))
    assert (target.connections, client.count("lost")) == (1, 0)


async def test_one_proxy(testbed: Testbed) -> None:
    """A cut between proxy and websockify disconnects the client at once, and it connects again: no byte comes twice."""
    target = Target()
    async with await asyncio.start_server(target.serve, "127.0.0.1", 0) as listener:
        server = await start_websockify(testbed, listener.sockets[0].getsockname()[1])
        route = await testbed.single(server.netloc, preset="stateful")
        client = await testbed.run("websockify_client.js", url=route.url("/websockify"), owed=[])
        await cut_and_come_back(route.link, client, "answers")
        await client.finish()
    assert target.calls == sorted(set(target.calls))


async def test_restart(testbed: Testbed) -> None:
    """When websockify is killed the client is told, and connects to the next one."""
    target = Target()
    async with await asyncio.start_server(target.serve, "127.0.0.1", 0) as listener:
        server = await start_websockify(testbed, listener.sockets[0].getsockname()[1])
        route = await testbed.pair(server.netloc, preset="stateful")
        client = await testbed.run("websockify_client.js", url=route.url("/websockify"), owed=[])
        await client.further("answers")
        await server.restart()
        await told_and_back(client, "answers")
        await client.finish()
    assert target.calls == sorted(set(target.calls))
