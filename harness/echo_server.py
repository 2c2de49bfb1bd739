"""`reconnect-harness upstream`: an ordinary WebSocket server that sends back what it gets, as a program of its own.

It is what a scenario starts in a container, and what stands behind the proxy in compose.yaml. Unlike the mock upstreams
of a run (`harness.upstreams`) it records nothing, so it may run for as long as one likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import click
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

_PORT = os.environ.get("PORT", "9200")


@click.command("upstream")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default=f"127.0.0.1:{_PORT}",
    show_default="127.0.0.1, and the port of the variable PORT or 9200",
    help="Where to listen.",
)
def upstream(listen: str) -> None:
    """Serve WebSocket connections, and send back what comes on them, until SIGTERM or Ctrl-C."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise click.BadParameter(f"{listen!r} is not of the form HOST:PORT", param_hint="--listen")
    try:
        asyncio.run(_serve(host.strip("[]"), int(port)))
    except OSError as failure:
        raise click.ClickException(f"cannot listen on {listen}: {failure.strerror}") from None


async def _serve(host: str, port: int) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with serve(_echo, host, port, compression=None, max_size=None) as server:
        bound = server.sockets[0].getsockname()[1]
        click.echo(f"sending back what comes to ws://{host}:{bound}/", err=True)
        await told.wait()
        # As a planned restart does: RFC 6455 section 7.4 and the registry of close codes, 1012.
        server.close(code=1012, reason="service restart")


async def _echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)
