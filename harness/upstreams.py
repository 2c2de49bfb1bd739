"""Mock upstreams: the servers behind the system under test. One process serves one port.

| kind | what it does |
| --- | --- |
| record | an ordinary server: takes what comes and says nothing, unless it is told to push |
| push | an ordinary server that sends messages of its own |
| echo | an ordinary server that sends back what it gets |
| aware | keeps sessions, counts, and resumes: the aware side of PROTOCOL.md (`harness.aware`) |
| gate | announces a state with which it can be reconnected: PROTOCOL.md section 5 (`harness.gate`) |

Each of them can be rude as well (`harness.rude`). A kind is a class with `serve`, and `admit` and `greet` where it has a
say in the handshake; a new one is an entry in `kinds`. What an ordinary server pushes is one stream for each session id that the handshake names, or else for each
connection: a redial goes on with the number where the last link stopped, and repeats nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from harness.actor import background, obey, run, say
from harness.aware import AwareUpstream
from harness.gate import GateUpstream
from harness.history import End, Recorder
from harness.message import Direction, decode
from harness.workload import Speaker, Workload


class RecordUpstream:
    """An ordinary server that takes what comes, and pushes if its workload has a rate.

    Args:
        name: what it is called in the history.
        load: what it pushes to each client.
        recorder: where it records what it sees.
        seed: makes the same messages again.

    """

    def __init__(self, name: str, load: Workload, recorder: Recorder, seed: str) -> None:
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

    async def serve(self, connection: ServerConnection) -> None:
        """Serve one connection until it ends."""
        speaker = self._speaker(connection)
        self.recorder.link(speaker.stream, "connected", asked=True)
        pushing = background(self._push(connection, speaker))
        try:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self._take(connection, await connection.recv())
        finally:
            pushing.cancel()
            code, reason = connection.close_code, connection.close_reason or ""
            self.recorder.link(speaker.stream, "disconnected", asked=False, code=code, reason=reason)

    async def _take(self, connection: ServerConnection, message: str | bytes) -> None:
        self.recorder.received(self.name, Direction.C2U, decode(message))

    def _speaker(self, connection: ServerConnection) -> Speaker:
        assert connection.request is not None
        headers = connection.request.headers
        self._connections += 1
        session = headers.get("X-Reconnect-Id") or headers.get("X-Connection-Id") or str(self._connections)
        if session not in self._speakers:
            stream = f"{self.name}.{len(self._speakers) + 1}"
            self._speakers[session] = Speaker(self._load, stream, Direction.U2C, self._seed)
        return self._speakers[session]

    async def _push(self, connection: ServerConnection, speaker: Speaker) -> None:
        async for _ in self._load.moments():
            if self._quiet.is_set():
                return
            label, message = speaker.next()
            self.recorder.sent(self.name, Direction.U2C, label)
            try:
                await connection.send(message)
            except ConnectionClosed:
                self.recorder.refused(self.name, Direction.U2C, label)
                return


class EchoUpstream(RecordUpstream):
    """An ordinary server that sends back what it gets, as it came."""

    async def _take(self, connection: ServerConnection, message: str | bytes) -> None:
        label = decode(message)
        self.recorder.received(self.name, Direction.C2U, label)
        self.recorder.sent(self.name, Direction.U2C, label)
        try:
            await connection.send(message)
        except ConnectionClosed:
            self.recorder.refused(self.name, Direction.U2C, label)
            raise


#: The kinds of upstream, by the name that a scenario calls them.
KINDS: Mapping[str, type[RecordUpstream] | type[AwareUpstream]] = {
    "record": RecordUpstream,
    "push": RecordUpstream,
    "echo": EchoUpstream,
    "aware": AwareUpstream,
}


async def play(spec: dict[str, Any]) -> None:
    """Serve one upstream until stdin ends. `spec`: kind, name, load, history (a path), seed."""
    recorder = Recorder(Path(spec["history"]), End.UPSTREAM)
    upstream = KINDS[spec["kind"]](spec["name"], Workload.from_spec(spec["load"]), recorder, spec["seed"])

    async def count() -> dict[str, Any]:
        return recorder.counts()

    async def quiet() -> dict[str, Any]:
        await upstream.quiet()
        return {}

    async def handle(connection: ServerConnection) -> None:
        # websockets would log an error in a handler, and go on.
        await asyncio.wait([background(upstream.serve(connection))])

    try:
        async with serve(
            handle,
            "127.0.0.1",
            0,
            process_request=upstream.admit,
            process_response=upstream.greet,
            # The messages are random, and a cut is to come in mid-frame where it says.
            compression=None,
            max_size=None,
            # An ordinary server's handler is as fast as it can; the default of 16 frames is for slow ones.
            max_queue=256,
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            say({"ready": port})
            await obey({"count": count, "quiet": quiet})
    finally:
        await upstream.close()
        recorder.close()


if __name__ == "__main__":
    run(play)
