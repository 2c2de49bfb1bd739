"""`reconnect-harness upstream`: a WebSocket server that sends back what it receives, as a program of its own.

The shipped scenarios start it in a container as an ordinary server. Behind the proxy in compose.yaml it is `--aware`,
so that no message is lost or repeated when its link is cut. Unlike the mock upstreams of a run (`peers.upstreams`) it
records nothing, so it may run without end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import click
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from reconnect_harness.history.recorder import NullRecorder
from reconnect_harness.peers.aware import AwareEchoUpstream
from reconnect_harness.peers.upstream_connection import UpstreamConnection
from reconnect_harness.peers.workload import Workload

#: How long an aware server keeps a session that has no link, in seconds: longer than a proxy tries by default.
KEEP_SECONDS = 300.0

_PORT = os.environ.get("PORT", "9200")


@click.command("upstream")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default=f"127.0.0.1:{_PORT}",
    show_default="127.0.0.1, and the port of the variable PORT or 9200",
    help="Where to listen.",
)
@click.option(
    "--aware",
    is_flag=True,
    help="Speak the reconnect protocol: keep sessions, count, and resume them. Without it, it is an ordinary server.",
)
def upstream(listen: str, *, aware: bool) -> None:
    """Serve WebSocket connections, and send back what they receive, until SIGTERM or Ctrl-C."""
    host, _, port = listen.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise click.BadParameter(f"{listen!r} is not of the form HOST:PORT", param_hint="--listen")
    try:
        asyncio.run(_serve(host.strip("[]"), int(port), aware=aware))
    except OSError as failure:
        used = failure.errno == errno.EADDRINUSE
        reason = "the port is in use" if used else failure.strerror
        raise click.ClickException(f"cannot listen on {listen}: {reason}; choose another with --listen") from None


async def _serve(host: str, port: int, *, aware: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    handler, options = _aware() if aware else (_echo, {})
    async with serve(handler, host, port, compression=None, max_size=None, **options) as server:
        bound = server.sockets[0].getsockname()[1]
        click.echo(f"echoing messages at ws://{host}:{bound}/", err=True)
        await stopping.wait()
        # As in a planned restart: RFC 6455 section 7.4 and the registry of close codes, 1012.
        server.close(code=1012, reason="service restart")


def _aware() -> tuple[Callable[[ServerConnection], Awaitable[None]], dict[str, Any]]:
    """Return the handler of a connection, and further options of the server."""
    echo = AwareEchoUpstream("upstream", Workload(), NullRecorder(), "", keep=KEEP_SECONDS)

    async def meet(connection: ServerConnection) -> None:
        assert isinstance(connection, UpstreamConnection)
        await echo.serve(connection)

    return meet, {
        "process_request": echo.admit,
        "process_response": echo.greet,
        "create_connection": UpstreamConnection,
    }


async def _echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)
