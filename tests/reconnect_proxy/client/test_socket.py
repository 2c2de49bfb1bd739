"""The connection of the aware client, below its session."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from reconnect_proxy.client.socket import LinkedConnection


async def test_sending_on_a_connection_that_was_closed_with_a_full_buffer() -> None:
    """It raises what websockets promises, and not the AttributeError of CPython's transport."""
    accepted: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def handle(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        accepted.put_nowait(connection)
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}/"
        connection = await connect(url, proxy=None, compression=None, create_connection=LinkedConnection)
        serving = await accepted.get()
        # More than all buffers of the system take.
        sending = asyncio.create_task(connection.send(bytes(32 * 1024**2)))
        await asyncio.wait([sending], timeout=0.1)
        assert connection.transport.get_write_buffer_size() > 0
        connection.transport.close()
        serving.transport.resume_reading()
        await connection.wait_closed()
        assert connection.remote_address[1] == port
        with pytest.raises(ConnectionClosed):
            await connection.send("too late")
        await sending
