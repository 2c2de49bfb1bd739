"""Mock upstreams: the servers behind the system under test. One process serves one port.

`peers.kinds` says what each kind does. Each of them can misbehave as well (`peers.misbehaviour`), and listen late. A
kind is a class with `serve`, `admit` and `greet`; a new one is a name in `peers.kinds` and its class in `KINDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from reconnect_harness.history.record import End
from reconnect_harness.history.recorder import NullRecorder, Recorder
from reconnect_harness.peers.aware import AwareEchoUpstream, AwareUpstream
from reconnect_harness.peers.gate import GateUpstream
from reconnect_harness.peers.handshake import first_offered
from reconnect_harness.peers.kinds import UpstreamKind
from reconnect_harness.peers.misbehaviour import Misbehaver, Misbehaviour
from reconnect_harness.peers.ordinary import EchoUpstream, RecordUpstream
from reconnect_harness.peers.upstream_connection import UpstreamConnection
from reconnect_harness.peers.workload import Workload
from reconnect_harness.processes.actor import background, obey, run, say
from reconnect_harness.processes.certificates import Certificates

#: The class of each kind of upstream. A gate is told its setting as well.
KINDS: Mapping[UpstreamKind, Callable[..., RecordUpstream | AwareUpstream]] = {
    UpstreamKind.RECORD: RecordUpstream,
    UpstreamKind.PUSH: RecordUpstream,
    UpstreamKind.ECHO: EchoUpstream,
    UpstreamKind.AWARE: AwareUpstream,
    UpstreamKind.GATE: GateUpstream,
    UpstreamKind.AWARE_ECHO: AwareEchoUpstream,
}


class Service:
    """An upstream on its port: passes handshakes and connections on to it, after its misbehaviour.

    Until the traffic starts (`begun`) it may be `warming`: then connections do not reach the upstream or the history,
    and messages on them are sent back. Such connections are made to measure the resources of a system under test that
    has been used once.
    """

    def __init__(self, upstream: RecordUpstream | AwareUpstream, misbehaviour: Misbehaviour, *, warming: bool) -> None:
        self.upstream = upstream
        self.begun = asyncio.Event()
        self.warming = warming
        self._misbehaver = Misbehaver(misbehaviour, upstream.name, upstream.recorder, self.begun)
        self._warm: set[ServerConnection] = set()

    @property
    def warm(self) -> int:
        """How many connections of the warming up are still open."""
        return len(self._warm)

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return None to accept a handshake, or the response that refuses it, which is recorded."""
        if self.warming:
            self._warm.add(connection)
            return None
        refusal = self._misbehaver.admit(connection, request) or await self.upstream.admit(connection, request)
        if refusal is not None:
            reason = refusal.body.decode().strip()
            self.upstream.recorder.link(
                self.upstream.name, "refused", asked=True, code=refusal.status_code, reason=reason
            )
        return refusal

    def greet(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Add headers to a response."""
        if connection not in self._warm:
            self.upstream.greet(connection, request, response)

    async def serve(self, connection: ServerConnection) -> None:
        """Serve one connection until it ends."""
        assert isinstance(connection, UpstreamConnection)
        if connection in self._warm:
            with contextlib.suppress(ConnectionClosed):
                async for message in connection:
                    await connection.send(message)
            self._warm.discard(connection)
            return
        self._misbehaver.meet(connection)
        # websockets would only log an exception of its handler; a task of the actor ends the actor.
        await asyncio.wait([background(self.upstream.serve(connection))])


class Handlers(Protocol):
    """What a server does with handshakes and connections."""

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return None to accept a handshake, or the response that refuses it."""

    def greet(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Add headers to a response."""

    async def serve(self, connection: ServerConnection) -> None:
        """Serve one connection until it ends."""


def bound_socket(port: int) -> socket.socket:
    """Return a socket that is bound to a loopback port, 0 for any, and does not listen yet."""
    # The protocol is named: only then asyncio sets TCP_NODELAY on accepted connections.
    bound = socket.socket(proto=socket.IPPROTO_TCP)
    try:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            # The process that has started this one also binds the port, so that it is kept for a restart.
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(("127.0.0.1", port))
    except OSError:
        bound.close()
        raise
    return bound


async def listen_on(
    port: socket.socket,
    handlers: Handlers,
    running: AsyncExitStack,
    *,
    tls: ssl.SSLContext | None = None,
    compression: str | None = None,
    ping: float | None = None,
) -> None:
    """Serve connections at a bound socket until `running` is closed.

    `ping` is after how many seconds of silence a connection is pinged, and then given up.
    """
    pings: dict[str, Any] = {} if ping is None else {"ping_interval": ping, "ping_timeout": ping}
    server = await running.enter_async_context(
        serve(
            handlers.serve,
            sock=port,
            ssl=tls,
            process_request=handlers.admit,
            process_response=handlers.greet,
            create_connection=UpstreamConnection,
            select_subprotocol=first_offered,
            compression=compression,
            max_size=None,
            # The handler of an ordinary server keeps up; the default of 16 frames is for slow handlers.
            max_queue=256,
            **pings,
        )
    )
    running.push_async_callback(close_for_restart, server)


async def close_for_restart(server: Server) -> None:
    """Accept no more connections, and close the open ones with 1012, as in a planned restart."""
    server.close(close_connections=False)
    connections = [found for found in server.connections if isinstance(found, UpstreamConnection)]
    await asyncio.gather(*(connection.leave(1012, "service restart") for connection in connections))


async def play(spec: dict[str, Any]) -> None:
    """Serve one upstream until stdin ends, or SIGTERM comes.

    `spec`: kind, name, load, history (a path, or None to record nothing), seed; optionally gate, rude (`Misbehaviour`),
    late (seconds from the start of the traffic until it listens; its port refuses connections before), warm (whether
    warming up comes first), handshakes (whether they are recorded), compress (whether it accepts permessage-deflate),
    ping (seconds between its Pings), tls (the paths of `Certificates`, in their order).
    """
    recorder = Recorder(Path(spec["history"]), End.UPSTREAM) if spec["history"] else NullRecorder()
    kind = UpstreamKind(spec["kind"])
    gate = {"gate": spec["gate"]} if kind is UpstreamKind.GATE else {}
    load = Workload.from_spec(spec["load"])
    upstream = KINDS[kind](spec["name"], load, recorder, spec["seed"], **gate)
    upstream.records_handshakes = spec.get("handshakes", False)
    tls = Certificates(*map(Path, spec["tls"])).server_context() if spec.get("tls") else None
    service = Service(upstream, Misbehaviour.from_spec(spec.get("rude") or {}), warming=spec.get("warm", False))

    async def count() -> dict[str, Any]:
        return recorder.counts()

    async def warm() -> dict[str, Any]:
        return {"connections": service.warm}

    async def warmed() -> dict[str, Any]:
        service.warming = False
        return {}

    async def go() -> dict[str, Any]:
        service.begun.set()
        return {}

    async def quiet() -> dict[str, Any]:
        await upstream.quiet()
        return {}

    async def listen() -> None:
        if late := spec.get("late"):
            await service.begun.wait()
            await asyncio.sleep(late)
            recorder.link(upstream.name, "rude", asked=True, reason=f"late: by {late:g} s")
        # Compression is off by default: cuts and bandwidths of a scenario are in bytes of the messages.
        compression = "deflate" if spec.get("compress") else None
        await listen_on(port, service, running, tls=tls, compression=compression, ping=spec.get("ping"))

    try:
        async with AsyncExitStack() as running:
            # It is bound now; connections are refused until it listens.
            port = running.enter_context(bound_socket(spec.get("port", 0)))
            listening = background(listen())
            running.callback(listening.cancel)
            if not spec.get("late"):
                await listening
            say({"ready": port.getsockname()[1]})
            await obey({"count": count, "go": go, "quiet": quiet, "warm": warm, "warmed": warmed})
    finally:
        await upstream.close()
        recorder.close()


if __name__ == "__main__":
    run(play)
