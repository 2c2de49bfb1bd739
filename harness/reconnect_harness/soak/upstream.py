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
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from reconnect_harness.history.message import Direction
from reconnect_harness.history.recorder import NullRecorder
from reconnect_harness.peers.aware import AwareUpstream, UpstreamSession
from reconnect_harness.peers.ordinary import EchoUpstream, RecordUpstream
from reconnect_harness.peers.upstream_connection import UpstreamConnection
from reconnect_harness.peers.upstreams import bound_socket, listen_on
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
    own = MarkTable(1, _ORDINALS * slots)
    return Ledger(path, ROWS, incoming=MarkTable(slots, _ORDINALS), outgoing=own, owners=own)


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


class _SoakUpstream:
    """The server of the port: passes each handshake and connection to the behaviour of its path."""

    def __init__(self, ledger: Ledger, load: Workload, seed: str, incarnation: int) -> None:
        for row in ledger.rows.values():
            # The streams of the process that this one replaces do not go on.
            row.outgoing.clear()
        aware, plain = (ledger.rows[name] for name in ROWS)
        counting = LedgerSink(ledger, aware, aware.incoming, aware.outgoing, once=True)
        ordinary = LedgerSink(ledger, plain, plain.incoming, plain.outgoing, per_link=True)
        self._aware = _AwareEnd(f"a{incarnation}", load, counting, seed, keep=KEEP_SECONDS)
        self._plain = _OrdinaryEnd(f"p{incarnation}", load, ordinary, seed)
        # For the probe.
        self._echo = EchoUpstream("echo", Workload(), NullRecorder(), seed)
        self._echoing = 0

    def _behaviour(self, request: Request | None) -> AwareUpstream | RecordUpstream:
        assert request is not None
        found: dict[str, AwareUpstream | RecordUpstream] = {"/aware": self._aware, "/plain": self._plain}
        return found.get(request.path.partition("?")[0], self._echo)

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return None to accept a handshake, or the response that refuses it; plain HTTP gets a page."""
        if "Upgrade" not in request.headers:
            return connection.respond(200, PAGE)
        return await self._behaviour(request).admit(connection, request)

    def greet(self, connection: ServerConnection, request: Request, response: Response) -> None:
        self._behaviour(request).greet(connection, request, response)

    async def serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, UpstreamConnection)
        behaviour = self._behaviour(connection.request)
        self._echoing += behaviour is self._echo
        # websockets would only log an exception of its handler; a task of the actor ends the actor.
        await asyncio.wait([background(behaviour.serve(connection))])
        self._echoing -= behaviour is self._echo

    async def quiet(self) -> dict[str, Any]:
        for pushing in (self._aware, self._plain):
            await pushing.quiet()
        return {}

    async def count(self) -> dict[str, Any]:
        """Return how many connections of the probe are open."""
        return {"connections": self._echoing}

    async def close(self) -> None:
        for pushing in (self._aware, self._plain):
            await pushing.close()


async def play(spec: dict[str, Any]) -> None:
    """Serve until stdin ends, or SIGTERM comes.

    `spec`: port, ledger (a path), clients (how many at a time), load (what is pushed in each session), seed,
    incarnation (1 for the first process, 2 for the one that replaces it, …; it is part of the names of streams).
    """
    ledger = open_ledger(Path(spec["ledger"]), spec["clients"])
    upstream = _SoakUpstream(ledger, Workload.from_spec(spec["load"]), spec["seed"], spec["incarnation"])
    try:
        async with AsyncExitStack() as running:
            port = running.enter_context(bound_socket(spec["port"]))
            await listen_on(port, upstream, running)
            say({"ready": spec["port"]})
            await obey({"quiet": upstream.quiet, "count": upstream.count})
    finally:
        await upstream.close()
        ledger.close()


if __name__ == "__main__":
    run(play)
