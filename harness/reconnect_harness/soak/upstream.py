"""The upstream of a soak: one server that behaves as the path of the handshake says.

| path | behaviour |
| --- | --- |
| /aware | keeps sessions, counts, resumes, and pushes (`peers.aware`) |
| /plain | an ordinary server that pushes another stream on each connection |
| /echo | sends back what it receives, and counts nothing |
| /page | answers plain HTTP requests with a page |
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from reconnect_harness.history.message import Direction
from reconnect_harness.peers.aware import AwareUpstream, UpstreamSession
from reconnect_harness.peers.ordinary import RecordUpstream
from reconnect_harness.peers.upstream_connection import UpstreamConnection
from reconnect_harness.peers.upstreams import close_for_restart
from reconnect_harness.peers.workload import Speaker, Workload
from reconnect_harness.processes.actor import background, obey, run, say
from reconnect_harness.soak.ledger import Ledger, MarkTable
from reconnect_harness.soak.ledger_sink import LedgerSink

#: The rows of its ledger, which are also the paths.
AWARE, PLAIN = "aware", "plain"
ROWS = (AWARE, PLAIN)

#: The answer to plain HTTP requests.
PAGE = "a page of the upstream\n"

#: How long an aware session without a link is kept, in seconds: longer than the proxy redials, which is 60 seconds.
KEEP_SECONDS = 70.0

#: How many streams of each client, and of the upstream for each client, have marks of their own at a time.
_ORDINALS = 64


def open_ledger(path: Path, clients: int) -> Ledger:
    """Open the ledger of an upstream that has so many clients at a time."""
    slots = clients + 1
    return Ledger(path, ROWS, incoming=MarkTable(slots, _ORDINALS), outgoing=MarkTable(1, _ORDINALS * slots))


class _Behaviour(Protocol):
    async def admit(self, connection: ServerConnection, request: Request) -> Response | None: ...

    def greet(self, connection: ServerConnection, request: Request, response: Response) -> None: ...

    async def serve(self, connection: UpstreamConnection) -> None: ...


class _AwareEnd(AwareUpstream):
    """The server that counts. What it pushed in a session that has ended need not arrive."""

    def forget(self, session: UpstreamSession) -> None:
        super().forget(session)
        assert isinstance(self.recorder, LedgerSink)
        assert self.recorder.outgoing is not None
        self.recorder.outgoing.remove(session.speaker.stream)


class _OrdinaryEnd(RecordUpstream):
    """The ordinary server. Each connection has a stream of its own, so that a cut leaves no gap in a stream."""

    _streams = 0

    def _speaker(self, session: str) -> Speaker:
        self._streams += 1
        return Speaker(self._load, f"{self.name}.{self._streams}", Direction.U2C, self._seed)


class _EchoEnd:
    """Sends back what it receives, for the probe."""

    def __init__(self) -> None:
        self.connections = 0

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        return None

    def greet(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Add nothing to the response."""

    async def serve(self, connection: UpstreamConnection) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)
        self.connections -= 1


async def play(spec: dict[str, Any]) -> None:
    """Serve until stdin ends, or SIGTERM comes.

    `spec`: port, ledger (a path), clients (how many at a time), load (what is pushed in each session), seed,
    incarnation (1 for the first process, 2 for the one that replaces it, …; it is part of the names of streams).
    """
    ledger = open_ledger(Path(spec["ledger"]), spec["clients"])
    load = Workload.from_spec(spec["load"])
    for row in ledger.rows.values():
        # The streams of the process that this one replaces do not go on.
        row.outgoing.clear()
    aware, plain = (ledger.rows[name] for name in ROWS)
    number, seed = spec["incarnation"], spec["seed"]
    pushing = (
        _AwareEnd(
            f"a{number}",
            load,
            LedgerSink(ledger, aware, aware.incoming, aware.outgoing, once=True),
            seed,
            keep=KEEP_SECONDS,
        ),
        _OrdinaryEnd(
            f"p{number}", load, LedgerSink(ledger, plain, plain.incoming, plain.outgoing, per_link=True), seed
        ),
    )
    echo = _EchoEnd()
    behaviours: dict[str, _Behaviour] = {"/aware": pushing[0], "/plain": pushing[1]}

    def behaviour(request: Request | None) -> _Behaviour:
        assert request is not None
        return behaviours.get(request.path.partition("?")[0], echo)

    async def admit(connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" not in request.headers:
            return connection.respond(200, PAGE)
        return await behaviour(request).admit(connection, request)

    def greet(connection: ServerConnection, request: Request, response: Response) -> None:
        behaviour(request).greet(connection, request, response)

    async def meet(connection: ServerConnection) -> None:
        assert isinstance(connection, UpstreamConnection)
        # In the background, where a failure ends this process: websockets would only log it, and go on.
        await asyncio.wait([background(behaviour(connection.request).serve(connection))])

    async def quiet() -> dict[str, Any]:
        for one in pushing:
            await one.quiet()
        return {}

    async def count() -> dict[str, Any]:
        return {"connections": echo.connections}

    try:
        async with AsyncExitStack() as running:
            # With the protocol named: only then does asyncio set TCP_NODELAY on what it accepts.
            port = running.enter_context(socket.socket(proto=socket.IPPROTO_TCP))
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                # The parent process keeps the port bound, so that it is free again after a restart.
                port.setsockopt(socket.SOL_SOCKET, option, 1)
            port.bind(("127.0.0.1", spec["port"]))
            server = await running.enter_async_context(
                serve(
                    meet,
                    sock=port,
                    process_request=admit,
                    process_response=greet,
                    create_connection=UpstreamConnection,
                    compression=None,
                    max_size=None,
                    max_queue=256,
                )
            )
            running.push_async_callback(close_for_restart, server)
            say({"ready": spec["port"]})
            await obey({"quiet": quiet, "count": count})
    finally:
        for one in pushing:
            await one.close()
        ledger.close()


if __name__ == "__main__":
    run(play)
