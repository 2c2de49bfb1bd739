"""A proxy that is stopped for longer than a silent link is given, and goes on: no link is lost, nor any message."""

import asyncio
import signal

import psutil
import pytest

from .broken import with_harm
from .conftest import Serve
from .process import Serving
from .rawserver import RawServer
from .rawsocket import dial
from .waiting import numbered

BRISK = ("--ping-interval", "300ms", "--ping-timeout", "300ms")


def signal_all(proxy: Serving, number: signal.Signals) -> None:
    """Send a signal to the proxy's processes."""
    parent = psutil.Process(proxy.process.pid)
    for process in (parent, *parent.children(recursive=True)):
        process.send_signal(number)


@pytest.mark.parametrize("harm", [None, "judge-frozen-peers"])
async def test_a_frozen_proxy_loses_no_link_and_reads_what_has_come(
    serve: Serve, upstream: RawServer, harm: str | None
) -> None:
    """One session is idle, and two speak while the proxy does not run. The control loses links."""
    proxy = await serve(upstream.url, *BRISK, prefix=with_harm(harm) if harm else ())
    pairs = []
    for _ in range(3):
        client = await dial(f"{proxy.url}/")
        pairs.append((client, await upstream.accept()))
    for client, server in pairs:
        await client.send("hello")
        assert await server.recv() == "hello"
    signal_all(proxy, signal.SIGSTOP)
    try:
        for number in range(1, 11):
            for client, server in pairs[:2]:
                await client.send(*numbered("c2u", 1, start=number))
                await server.send(*numbered("u2c", 1, start=number))
            # What makes the freeze last: 3 s.
            await asyncio.sleep(0.3)
    finally:
        signal_all(proxy, signal.SIGCONT)
    if harm:
        (_, idle) = pairs[2]
        assert (await idle.ended()).code == 1006
        return
    for client, server in pairs[:2]:
        assert await server.take(10) == numbered("c2u", 10)
        assert await client.take(10) == numbered("u2c", 10)
    for client, server in pairs:
        await client.send("still there")
        assert await server.recv() == "still there"
    assert "leg lost" not in proxy.log
