"""Whether an upstream is there at all: one TCP connection, bounded in time."""

from __future__ import annotations

import asyncio

from reconnect_proxy.net.connector import Connector
from reconnect_proxy.net.reach import reach

from .black_hole import black_hole, listener


def unused_url() -> str:
    """Return the URL of a port without a listener."""
    with listener() as url:
        return url


async def test_one_that_accepts_is_enough() -> None:
    """The outcome of the others does not matter."""
    with listener() as url:
        assert await reach([unused_url(), url], 5.0, Connector()) is None


async def test_the_connection_is_dropped_at_once() -> None:
    """It asks nothing, and leaves nothing open."""
    ended: asyncio.Queue[bytes | str] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await ended.put(await reader.read())
        except ConnectionResetError:
            await ended.put("reset")
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        assert await reach([f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/base"], 5.0, Connector()) is None
        assert await ended.get() in (b"", "reset")


async def test_the_reason_names_each_that_does_not() -> None:
    """The reader learns where to look."""
    one, two = unused_url(), unused_url()
    reason = await reach([one, two, "ws://host..name:1"], 5.0, Connector())
    assert reason is not None
    assert reason.startswith("no upstream can be reached: ")
    assert one in reason
    assert two in reason


async def test_one_that_does_not_answer_is_given_up_in_time() -> None:
    """A host that swallows packets must not delay the answer."""
    with black_hole() as port:
        url = f"ws://127.0.0.1:{port}"
        reason = await reach([url], 0.05, Connector())
        assert reason == f"no upstream can be reached: {url} does not answer within 0.05 s"
