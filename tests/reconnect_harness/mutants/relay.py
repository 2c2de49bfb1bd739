"""A WebSocket relay that passes on all that an end can see, and one that also outlasts the loss of its upstream.

    client ── read ──► [ queue ] ── feed ──► upstream        with `keep`: a message stays queued until a Ping that was
           ◄──────────────────────── hear ──                 sent after it is answered, and is sent again on a redial

Each can be told to be wrong in one way (`mutants.harms`, `FLAWS`).
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Request, Response

from reconnect_harness.processes.actor import background
from tests.reconnect_harness.mutants.harms import Data, Harm, Passing, Way
from tests.reconnect_harness.mutants.legs import (
    FRAME_FLAWS,
    HANDSHAKE_FLAWS,
    ClientLeg,
    HarmedConnection,
    UpstreamLeg,
    offered_subprotocols,
    passing_headers,
    upstream_request,
)

#: What a relay may do wrong, other than to single messages.
FLAWS = (
    *FRAME_FLAWS,
    *HANDSHAKE_FLAWS,
    # Subprotocols: those that are offered, all but the first one, and the one that is chosen.
    *("drop-subprotocol", "drop-subprotocols", "drop-choice"),
    # It agrees to compress with its client, and cannot; it connects twice.
    *("copy-extensions", "dial-twice"),
    # Closes: without the code, without the reason, without a close frame; and without the message before it.
    *("drop-code", "drop-reason", "drop-close", "drop-last"),
    # It reads on while the other side does not, and keeps everything.
    "hoard",
    # With `keep`: after a redial.
    *(
        "forget-queue",
        "short-queue",
        "recall",
        "backwards",
        "trust-writes",
        "leak-redials",
        "impatient",
        "forget-headers",
    ),
)

#: Close codes of an upstream after which it is dialled again.
PASSING_CODES = (1001, 1006, 1011, 1012, 1013, 1014)

#: Bytes of a client's messages that are kept.
QUEUE_BYTES = 128 * 1024

#: How many messages `short-queue` keeps, and how many `recall` sends again.
SHORT_QUEUE = 1000
RECALLED = 100

REDIAL_SECONDS = 0.05

#: How long a client's last messages may take to be confirmed when it has left, in seconds.
LEAVING_SECONDS = 2.0

#: How long `drop-last` waits for a message or a close that follows.
LAST_SECONDS = 0.03

#: What is kept of connections that are over.
KEPT: list[object] = []


class RelayOptions(NamedTuple):
    """What a relay does; `flaw` and `leak` are what it does wrong."""

    keep: bool = False
    in_step: bool = False
    flaw: str = ""
    leak: str = ""


class Relay:
    """The relay at a port: its sessions, and what it does to them."""

    def __init__(self, upstream: str, every: Mapping[str, int], only: list[str], options: RelayOptions) -> None:
        self.upstream = upstream
        self.options = options
        self.ways: list[Way] = []
        self.harm = Harm(every, only, self.ways)
        self._turn = asyncio.Lock()
        self._sessions: dict[ServerConnection, Session] = {}
        self._hoards: dict[Connection, asyncio.Queue[Data]] = {}
        HarmedConnection.flaw = options.flaw

    async def run(self, listen: str) -> None:
        """Relay until cancelled."""
        host, _, port = listen.rpartition(":")
        async with serve(
            self._serve,
            host,
            int(port),
            process_request=self._admit,
            process_response=self._answer,
            select_subprotocol=self._choose,
            create_connection=ClientLeg,
            compression=None,
            max_size=None,
            ping_interval=None,
        ) as server:
            await server.serve_forever()

    async def send(self, passing: Passing, own: Way) -> None:
        """Send a message where it goes; a session other than `own` may have ended."""
        to = passing.to
        if to is None:
            return
        if self.options.flaw == "hoard":
            if to not in self._hoards:
                self._hoards[to] = asyncio.Queue()
                background(self._send_hoard(to))
            self._hoards[to].put_nowait(passing.data)
            return
        in_step = self.options.in_step and not passing.c2u
        async with self._turn if in_step else contextlib.nullcontext():
            with contextlib.suppress(ConnectionClosed) if passing.way is not own else contextlib.nullcontext():
                await to.send(passing.data)

    async def _send_hoard(self, to: Connection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await to.send(await self._hoards[to].get())

    async def _admit(self, client: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" not in request.headers:
            return None
        session = Session(self, client, request)
        try:
            await session.dial()
        except InvalidStatus as refused:
            return refused.response
        except (OSError, InvalidHandshake):
            if not self.options.keep:
                return client.respond(502, "the upstream cannot be reached\n")
        self._sessions[client] = session
        return None

    def _choose(self, client: ServerConnection, offered: object) -> Any:
        return None if self.options.flaw == "drop-choice" else self._sessions[client].subprotocol

    def _answer(self, client: ServerConnection, request: Request, response: Response) -> None:
        session = self._sessions.get(client)
        if session is not None and session.upstream is not None:
            assert session.upstream.response is not None
            passed = passing_headers(
                session.upstream.response.headers.raw_items(), ("sec-websocket-", "date", "server")
            )
            for name, value in passed:
                response.headers[name] = value
        if self.options.flaw == "copy-extensions" and "Sec-WebSocket-Extensions" in request.headers:
            response.headers["Sec-WebSocket-Extensions"] = "permessage-deflate"

    async def _serve(self, client: ServerConnection) -> None:
        session = self._sessions.pop(client)
        self.ways.append(session)
        session.accepted = time.monotonic()
        try:
            await (session.keep() if self.options.keep else session.relay())
        finally:
            self.ways.remove(session)
            _leave_behind(self.options.leak)


def _leave_behind(leak: str) -> None:
    if leak == "thread":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    if leak == "process":
        KEPT.append(subprocess.Popen(["sleep", "60"]))


class Session:
    """A client, and its connections to the upstream, one after the other."""

    def __init__(self, relay: Relay, client: ServerConnection, request: Request) -> None:
        self.client: Connection = client
        self.upstream: ClientConnection | None = None
        self.accepted = 0.0
        self.redials = 0
        self.first = {True: True, False: True}
        self.subprotocol: Any = None
        self._relay = relay
        self._flaw = relay.options.flaw
        self._request = request
        # What the client has sent and the upstream has not confirmed, how much of it was sent on this connection, and
        # how many messages were confirmed before.
        self._queue: list[Data] = []
        self._sent = 0
        self._confirmed = 0
        self._recent: deque[Data] = deque(maxlen=RECALLED)
        self._pinging = False
        self._changed = asyncio.Condition()

    async def dial(self, *, twice: bool = False) -> None:
        """Connect to the upstream as the client did."""
        keeps = self._relay.options.keep
        flaw = "drop-headers" if self._flaw == "forget-headers" and self.redials else self._flaw
        path, headers = upstream_request(self._request, flaw, ("x-reconnect-",) if keeps else ())
        offered = [] if self._flaw == "drop-subprotocol" else offered_subprotocols(self._request)
        if self._flaw == "drop-subprotocols":
            del offered[1:]
        self.upstream = await connect(
            f"ws://{self._relay.upstream}{path}",
            additional_headers=headers,
            subprotocols=offered or None,
            create_connection=UpstreamLeg,
            compression=None,
            max_size=None,
            ping_interval=None,
            proxy=None,
            user_agent_header=None,
        )
        self.subprotocol = self.upstream.subprotocol
        if self._flaw == "dial-twice" and not twice:
            first = self.upstream
            await self.dial(twice=True)
            await first.close()

    async def relay(self) -> None:
        """Relay until one side ends."""
        assert self.upstream is not None
        works = [asyncio.create_task(self._pump(True)), asyncio.create_task(self._pump(False))]
        leaks = self._relay.options.leak == "socket"
        await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED if leaks else asyncio.ALL_COMPLETED)
        KEPT.extend(works if leaks else [])

    async def _pump(self, c2u: bool) -> None:
        assert self.upstream is not None
        source, to = (self.client, self.upstream) if c2u else (self.upstream, self.client)
        with contextlib.suppress(ConnectionClosed):
            async for data in self._arrivals(source):
                await self._pass_on(data, c2u)
        if not (c2u and self._relay.options.leak == "socket"):
            await self._close(to, source)

    async def _arrivals(self, source: Connection) -> AsyncIterator[Data]:
        """Yield the messages of a connection until it ends."""
        held: list[Data] = []
        while True:
            try:
                data = await asyncio.wait_for(source.recv(), LAST_SECONDS if held else None)
            except TimeoutError:
                yield held.pop()
                continue
            except ConnectionClosed:
                return
            if self._flaw == "drop-last":
                held.append(data)
                if len(held) == 1:
                    continue
                data = held.pop(0)
            yield data

    async def _pass_on(self, data: Data, c2u: bool) -> None:
        if self._relay.options.leak == "memory":
            KEPT.append(data)
        for passing in await self._relay.harm.pass_on(Passing(data, self, c2u)):
            await self._relay.send(passing, self)

    async def _close(self, to: Connection, source: Connection) -> None:
        """Close a connection as the other one was."""
        code = source.close_code
        if code is None or code == 1006 or self._flaw == "drop-close":
            to.transport.abort()
            return
        code = 1000 if code == 1005 or self._flaw == "drop-code" else code
        await to.close(code, "" if self._flaw == "drop-reason" else source.close_reason or "")

    # With `keep`.

    async def keep(self) -> None:
        """Relay until the client leaves, or the upstream closes for a final reason."""
        reading = asyncio.create_task(self._read())
        try:
            while True:
                if self.upstream is None and not await self._redial(reading):
                    return
                assert self.upstream is not None
                upstream = self.upstream
                feeding, hearing = asyncio.create_task(self._feed()), asyncio.create_task(self._hear(upstream))
                await asyncio.wait([reading, hearing], return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    await self._settle(hearing)
                feeding.cancel()
                await asyncio.wait([feeding])
                if reading.done():
                    await self._close(upstream, self.client)
                    await hearing
                    return
                if upstream.close_code not in PASSING_CODES:
                    await self._close(self.client, upstream)
                    return
                if self._flaw == "impatient":
                    await self.client.close(1014, "the upstream is lost")
                    return
                self._lose(upstream)
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self) -> None:
        async for data in self._arrivals(self.client):
            async with self._changed:
                await self._changed.wait_for(lambda: sum(map(len, self._queue)) < QUEUE_BYTES)
                self._queue.append(data)
                if self._flaw == "short-queue" and self.upstream is None:
                    del self._queue[:-SHORT_QUEUE]
                self._changed.notify_all()

    async def _feed(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._sent < len(self._queue))
                    data = self._queue[self._sent]
                    self._sent += 1
                await self._pass_on(data, True)
                if self._flaw == "trust-writes":
                    await self._confirm(self._confirmed + self._sent)
                elif not self._pinging:
                    self._pinging = True
                    background(self._ask())

    async def _ask(self) -> None:
        """Ping until all that was sent is confirmed."""
        upstream = self.upstream
        assert upstream is not None
        with contextlib.suppress(ConnectionClosed):
            while self._sent:
                sent = self._confirmed + self._sent
                await (await upstream.ping())
                if upstream is not self.upstream:
                    return
                await self._confirm(sent)
        self._pinging = self._pinging and upstream is not self.upstream

    async def _confirm(self, sent: int) -> None:
        async with self._changed:
            number = sent - self._confirmed
            self._recent.extend(self._queue[:number])
            del self._queue[:number]
            self._sent -= number
            self._confirmed = sent
            self._changed.notify_all()

    async def _hear(self, upstream: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for data in self._arrivals(upstream):
                await self._pass_on(data, False)

    async def _settle(self, hearing: asyncio.Task[None]) -> None:
        """Wait until what the client has sent is confirmed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVING_SECONDS), self._changed:
                await self._changed.wait_for(lambda: not self._queue or hearing.done())

    def _lose(self, upstream: ClientConnection) -> None:
        """Begin again with what is not confirmed."""
        self.upstream = None
        self._sent, self._pinging = 0, False
        self.redials += 1
        self.first = {True: True, False: True}
        if self._flaw == "forget-queue":
            self._queue.clear()
        if self._flaw == "recall":
            self._queue[:0] = self._recent
            self._confirmed -= len(self._recent)

    async def _redial(self, reading: asyncio.Task[None]) -> bool:
        """Dial until the upstream answers; return False if the client leaves."""
        while not reading.done():
            with contextlib.suppress(OSError, InvalidHandshake):
                await self.dial()
                if self._flaw == "backwards":
                    self._queue.reverse()
                if self._flaw == "leak-redials":
                    assert self.upstream is not None
                    KEPT.append(self.upstream.transport.get_extra_info("socket").dup())
                return True
            await asyncio.wait([reading], timeout=REDIAL_SECONDS)
        return False
