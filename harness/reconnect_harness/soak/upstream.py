"""The upstream of a soak: one server with several manners, by the path of the handshake.

| path | what is there |
| --- | --- |
| /aware | keeps sessions, counts, resumes, and pushes (`peers.aware`) |
| /plain | an ordinary server that pushes: another stream on each connection |
| /echo | sends back what it gets; nothing of it is counted |
| /page | a page, to plain HTTP requests |
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
from reconnect_harness.peers.upstreams import goodbye
from reconnect_harness.peers.workload import Speaker, Workload
from reconnect_harness.processes.actor import background, obey, run, say
from reconnect_harness.soak.ledger import Ledger, Page, Shape

#: The rows of its ledger, which are also the paths.
AWARE, PLAIN = "aware", "plain"
ROWS = (AWARE, PLAIN)

#: What a plain HTTP request is answered with.
PAGE = "a page of the upstream\n"

#: How long an aware session without a link is kept, in seconds: longer than the proxy redials, which is 60.
KEEP_SECONDS = 70.0

#: Streams of a guest, and of the upstream, that are told apart at a time.
_DEEP = 64


def ledger(path: Path, guests: int) -> Ledger:
    """Open the ledger of the upstream of so many guests."""
    return Ledger(path, ROWS, came=Shape(guests + 1, _DEEP), went=Shape(1, _DEEP * (guests + 1)))


class _Manner(Protocol):
    async def admit(self, connection: ServerConnection, request: Request) -> Response | None: ...

    def greet(self, connection: ServerConnection, request: Request, response: Response) -> None: ...

    async def serve(self, connection: UpstreamConnection) -> None: ...


class _Aware(AwareUpstream):
    """The aware one. What it pushed in a session that has ended is owed to nobody."""

    def forget(self, session: UpstreamSession) -> None:
        super().forget(session)
        assert isinstance(self.recorder, Page)
        assert self.recorder.went is not None
        self.recorder.went.forget(session.speaker.stream)


class _Plain(RecordUpstream):
    """An ordinary one. Each connection has a stream of its own, so that one that was cut leaves no gap behind."""

    _streams = 0

    def _speaker(self, session: str) -> Speaker:
        self._streams += 1
        return Speaker(self._load, f"{self.name}.{self._streams}", Direction.U2C, self._seed)


class _Echo:
    """Sends back what it gets, as one that compares round trips wants it."""

    def __init__(self) -> None:
        self.connections = 0

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        return None

    def greet(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Say nothing."""

    async def serve(self, connection: UpstreamConnection) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)
        self.connections -= 1


async def play(spec: dict[str, Any]) -> None:
    """Serve until stdin ends, or SIGTERM comes.

    `spec`: port, ledger (a path), guests (how many), load (what is pushed in each session), seed, incarnation (how many
    have been here before; their streams are others).
    """
    book = ledger(Path(spec["ledger"]), spec["guests"])
    load = Workload.from_spec(spec["load"])
    for row in book.rows.values():
        # Who pushed that is no more.
        row.went.wipe()
    aware, plain = (book.rows[name] for name in ROWS)
    number, seed = spec["incarnation"], spec["seed"]
    pushing = (
        _Aware(f"a{number}", load, Page(book, aware, aware.came, aware.went, once=True), seed, keep=KEEP_SECONDS),
        _Plain(f"p{number}", load, Page(book, plain, plain.came, plain.went, short=True), seed),
    )
    echo = _Echo()
    manners: dict[str, _Manner] = {"/aware": pushing[0], "/plain": pushing[1]}

    def manner(request: Request | None) -> _Manner:
        assert request is not None
        return manners.get(request.path.partition("?")[0], echo)

    async def admit(connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" not in request.headers:
            return connection.respond(200, PAGE)
        return await manner(request).admit(connection, request)

    def greet(connection: ServerConnection, request: Request, response: Response) -> None:
        manner(request).greet(connection, request, response)

    async def meet(connection: ServerConnection) -> None:
        assert isinstance(connection, UpstreamConnection)
        # websockets would log an error in a handler, and go on.
        await asyncio.wait([background(manner(connection.request).serve(connection))])

    async def quiet() -> dict[str, Any]:
        for one in pushing:
            await one.quiet()
        return {}

    async def count() -> dict[str, Any]:
        return {"connections": echo.connections}

    try:
        async with AsyncExitStack() as running:
            # Told to be TCP: asyncio sets TCP_NODELAY on what it accepts only where the protocol is named.
            port = running.enter_context(socket.socket(proto=socket.IPPROTO_TCP))
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                # Whoever has started this process keeps the port, so that it is ours again after a restart.
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
            running.push_async_callback(goodbye, server)
            say({"ready": spec["port"]})
            await obey({"quiet": quiet, "count": count})
    finally:
        for one in pushing:
            await one.close()
        book.close()


if __name__ == "__main__":
    run(play)
