"""Upstreams that do not know the reconnect protocol: ordinary servers, which receive, push or echo.

What one pushes is one stream for each session id in a handshake, or for each connection without one: after a redial the
numbers continue, and nothing is repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from reconnect_harness.history.message import Direction
from reconnect_harness.history.recorder import EventSink
from reconnect_harness.peers.handshake import record_arrival
from reconnect_harness.peers.upstream_connection import UpstreamConnection
from reconnect_harness.peers.workload import Speaker, Workload
from reconnect_harness.processes.actor import background


class RecordUpstream:
    """An ordinary server that receives messages, and pushes if its workload has a rate.

    Args:
        name: its name in the history.
        load: what it pushes to each client.
        recorder: where it records messages and links.
        seed: makes the same messages again.

    Attributes:
        records_handshakes: whether what arrives of the clients' handshakes is recorded too.

    """

    records_handshakes = False

    def __init__(self, name: str, load: Workload, recorder: EventSink, seed: str) -> None:
        self.name = name
        self.recorder = recorder
        self._load = load
        self._seed = seed
        self._quiet = asyncio.Event()
        self._speakers: dict[str, Speaker] = {}
        self._connections = 0

    async def quiet(self) -> None:
        """Push no more messages."""
        self._quiet.set()

    async def close(self) -> None:
        """Do nothing: its tasks end with the connections."""

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return None to accept a handshake, or the response that refuses it."""
        return None

    def greet(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Add headers to the 101."""

    async def serve(self, connection: UpstreamConnection) -> None:
        """Serve one connection until it ends."""
        speaker = self._speaker(self._session(connection))
        connection.labels = speaker.labels
        if self.records_handshakes:
            record_arrival(self.recorder, speaker.stream, connection)
        self.recorder.link(speaker.stream, "connected", asked=True)
        works: list[asyncio.Task[None]] = []
        try:
            with contextlib.suppress(ConnectionClosed):
                await self._begin(connection)
                works += [background(work) for work in self._works(connection, speaker)]
                while True:
                    await connection.hearing.wait()
                    await self._take(connection, await connection.recv(), speaker.stream)
        finally:
            for work in works:
                work.cancel()
            asked, code, reason = connection.ending
            self.recorder.link(speaker.stream, "disconnected", asked=asked, code=code, reason=reason)

    async def _begin(self, connection: UpstreamConnection) -> None:
        """Do what precedes the first message of either side; nothing, if not overridden."""

    def _works(self, connection: UpstreamConnection, speaker: Speaker) -> list[Coroutine[Any, Any, None]]:
        """Return what runs while the connection lasts, in addition to receiving messages."""
        return [self._push(connection, speaker)]

    async def _take(self, connection: UpstreamConnection, message: str | bytes, session: str) -> None:
        self.recorder.received(self.name, Direction.C2U, connection.labels.read(message), session)

    def _session(self, connection: UpstreamConnection) -> str:
        """Return the key of a connection's session; without an id in the handshake each connection has its own."""
        assert connection.request is not None
        headers = connection.request.headers
        self._connections += 1
        return headers.get("X-Reconnect-Id") or headers.get("X-Connection-Id") or str(self._connections)

    def _speaker(self, session: str) -> Speaker:
        if session not in self._speakers:
            # The streams of a process that this one replaces have ended.
            stream = f"{self.name}.{len(self.recorder.said) + len(self._speakers) + 1}"
            self._speakers[session] = Speaker(self._load, stream, Direction.U2C, self._seed)
        return self._speakers[session]

    async def _push(self, connection: UpstreamConnection, speaker: Speaker) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._send_stream(connection, speaker)

    async def _send_stream(self, connection: UpstreamConnection, speaker: Speaker) -> None:
        async for _ in self._load.moments():
            if self._quiet.is_set():
                return
            label, message = speaker.next()
            self.recorder.sent(self.name, Direction.U2C, label)
            try:
                await self._load.send(connection, label.number, message)
            except (ConnectionClosed, asyncio.CancelledError):
                # A closing connection accepts no messages, and raises only when it is closed.
                self.recorder.refused(self.name, Direction.U2C, label)
                raise


class EchoUpstream(RecordUpstream):
    """An ordinary server that sends back what it receives, unchanged."""

    async def _take(self, connection: UpstreamConnection, message: str | bytes, session: str) -> None:
        label = connection.labels.read(message)
        self.recorder.received(self.name, Direction.C2U, label, session)
        self.recorder.sent(self.name, Direction.U2C, label)
        try:
            await connection.send(message)
        except ConnectionClosed:
            self.recorder.refused(self.name, Direction.U2C, label)
            raise
