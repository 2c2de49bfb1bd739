"""Upstreams that know nothing of the reconnect protocol: ordinary servers, which take, push or echo.

What one pushes is one stream for each session id that the handshake names, or else for each connection: a redial goes
on with the number where the last link stopped, and repeats nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from reconnect_harness.history.message import Direction, decode
from reconnect_harness.history.recorder import EventSink
from reconnect_harness.peers.upstream_connection import UpstreamConnection
from reconnect_harness.peers.workload import Speaker, Workload
from reconnect_harness.processes.actor import background


class RecordUpstream:
    """An ordinary server that takes what comes, and pushes if its workload has a rate.

    Args:
        name: what it is called in the history.
        load: what it pushes to each client.
        recorder: where it records what it sees.
        seed: makes the same messages again.

    """

    def __init__(self, name: str, load: Workload, recorder: EventSink, seed: str) -> None:
        self.name = name
        self.recorder = recorder
        self._load = load
        self._seed = seed
        self._quiet = asyncio.Event()
        self._speakers: dict[str, Speaker] = {}
        self._connections = 0

    async def quiet(self) -> None:
        """Push nothing from now on."""
        self._quiet.set()

    async def close(self) -> None:
        """Leave no task behind."""

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Say whether to accept a handshake: None, or the response that refuses it."""
        return None

    def greet(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Add headers to the 101."""

    async def serve(self, connection: UpstreamConnection) -> None:
        """Serve one connection until it ends."""
        speaker = self._speaker(self._session(connection))
        self.recorder.link(speaker.stream, "connected", asked=True)
        works: list[asyncio.Task[None]] = []
        try:
            with contextlib.suppress(ConnectionClosed):
                await self._begin(connection)
                works += [background(work) for work in self._works(connection, speaker)]
                while True:
                    await connection.hearing.wait()
                    await self._take(connection, await connection.recv())
        finally:
            for work in works:
                work.cancel()
            asked, code, reason = connection.ending
            self.recorder.link(speaker.stream, "disconnected", asked=asked, code=code, reason=reason)

    async def _begin(self, connection: UpstreamConnection) -> None:
        """Do what comes before the first message of either side; nothing, if not overridden."""

    def _works(self, connection: UpstreamConnection, speaker: Speaker) -> list[Coroutine[Any, Any, None]]:
        """Return what is done beside taking messages for as long as the connection lasts."""
        return [self._push(connection, speaker)]

    async def _take(self, connection: UpstreamConnection, message: str | bytes) -> None:
        self.recorder.received(self.name, Direction.C2U, decode(message))

    def _session(self, connection: UpstreamConnection) -> str:
        """Return what names the session of a connection; without an id in its handshake it is one of its own."""
        assert connection.request is not None
        headers = connection.request.headers
        self._connections += 1
        return headers.get("X-Reconnect-Id") or headers.get("X-Connection-Id") or str(self._connections)

    def _speaker(self, session: str) -> Speaker:
        if session not in self._speakers:
            # Streams of before this process took over are over.
            stream = f"{self.name}.{len(self.recorder.said) + len(self._speakers) + 1}"
            self._speakers[session] = Speaker(self._load, stream, Direction.U2C, self._seed)
        return self._speakers[session]

    async def _push(self, connection: UpstreamConnection, speaker: Speaker) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._say(connection, speaker)

    async def _say(self, connection: UpstreamConnection, speaker: Speaker) -> None:
        async for _ in self._load.moments():
            if self._quiet.is_set():
                return
            label, message = speaker.next()
            self.recorder.sent(self.name, Direction.U2C, label)
            try:
                await connection.send(message)
            except (ConnectionClosed, asyncio.CancelledError):
                # A closing connection takes nothing more, and says so only when it is closed.
                self.recorder.refused(self.name, Direction.U2C, label)
                raise


class EchoUpstream(RecordUpstream):
    """An ordinary server that sends back what it gets, as it came."""

    async def _take(self, connection: UpstreamConnection, message: str | bytes) -> None:
        label = decode(message)
        self.recorder.received(self.name, Direction.C2U, label)
        self.recorder.sent(self.name, Direction.U2C, label)
        try:
            await connection.send(message)
        except ConnectionClosed:
            self.recorder.refused(self.name, Direction.U2C, label)
            raise
