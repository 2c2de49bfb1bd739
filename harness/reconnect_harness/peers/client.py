"""One client of a run: sends and receives a stream of its own over websockets or `reconnect_proxy.connect`.

`peers.kinds` lists the kinds of clients; those whose sessions are contended for are in `peers.contenders`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Mapping
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any, Protocol
from urllib.parse import SplitResult, urljoin

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from reconnect_harness.adapters.adapter import Adapter
from reconnect_harness.history.message import Direction, LabelReader
from reconnect_harness.history.recorder import EventSink
from reconnect_harness.peers.handshake import ClientHandshake
from reconnect_harness.peers.late_pong import LatePongClient
from reconnect_harness.peers.workload import Speaker, Workload
from reconnect_harness.processes.actor import background

#: How long a handshake may take, in seconds.
OPEN_SECONDS = 10.0

#: The longest wait of a reconnecting client before it tries again, in seconds.
RETRY_SECONDS = 1.0

#: How many frames an ordinary client buffers; the default of websockets, 16, is for slow clients.
FRAMES = 256

#: What a slow client buffers: frames, or bytes if it is aware, and bytes in the kernel. Little, so that it soon blocks.
SLOW_FRAMES = 4
SLOW_BYTES = 64 * 1024

#: The exceptions of a failed handshake.
FAILED_HANDSHAKE = (OSError, InvalidHandshake, TimeoutError, ConnectionClosed)


class Sending(Protocol):
    """An object that sends messages."""

    async def send(self, message: str | bytes) -> None:
        """Send one message."""


class Socket(Sending, Protocol):
    """What clients need of a connection: the methods that connections of websockets and reconnect_proxy share."""

    async def recv(self) -> str | bytes:
        """Receive one message."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the conversation."""


class PlainClient:
    """An ordinary client, which does not reconnect.

    Args:
        name: its name, and the name of its stream.
        url: where to connect.
        load: what it sends.
        recorder: where it records messages and links.
        seed: makes the same messages again.
        ping: seconds of silence after which it pings, and then gives up the link; None for the default of the library.
        takes: how many messages a second it reads while the traffic lasts; 0 reads all that comes.
        compress: whether it offers permessage-deflate.
        tls: the TLS context for a URL that is wss://.
        through: the URL whose host and port are connected to instead of those of `url`.
        adapter: how messages look in the protocol of the application; None where they are sent as they are.
        handshake: what it asks for in its handshakes.
        leaves: the close code and reason with which it leaves.

    """

    def __init__(
        self,
        name: str,
        url: str,
        load: Workload,
        recorder: EventSink,
        seed: str,
        *,
        ping: float | None = None,
        takes: float = 0.0,
        compress: bool = False,
        tls: ssl.SSLContext | None = None,
        through: SplitResult | None = None,
        adapter: Adapter | None = None,
        handshake: ClientHandshake | None = None,
        leaves: tuple[int, str] = (1000, "done"),
    ) -> None:
        self.name = name
        self.adapter = adapter
        self.handshake = handshake or ClientHandshake()
        self.url = urljoin(url, adapter.filled(adapter.path)) if adapter is not None else self.handshake.url(url)
        self._leaves = leaves
        self.recorder = recorder
        self.speaker = Speaker(load, name, Direction.C2U, seed)
        # If this process replaces one that was killed, the stream is continued.
        self.speaker.number = recorder.said.get(name, 0)
        self.random = random.Random(f"{seed} {name} waits")
        # As hard to guess as an id of the proxy, and the same for the same seed.
        self.session_id = f"{name}-{self.random.getrandbits(128):032x}"
        # Set when the first handshake has succeeded or failed.
        self.tried = asyncio.Event()
        # Set between the start and the end of the traffic: messages may be sent.
        self.may_talk = asyncio.Event()
        # Set when the client must close and not reconnect.
        self.leaving = asyncio.Event()
        # Whether it is closing its connection, and may reconnect.
        self.is_going = False
        self._load = load
        # Options of every connection. A proxy that the environment names does not lead to loopback.
        self.basics: dict[str, Any] = {"proxy": None, "compression": "deflate" if compress else None}
        if tls is not None:
            self.basics["ssl"] = tls
        if subprotocols := self.handshake.subprotocols if adapter is None else adapter.subprotocols:
            self.basics["subprotocols"] = list(subprotocols)
        if through is not None:
            self.basics |= {"host": through.hostname, "port": through.port}
        self._labels = LabelReader()
        self._ping = ping
        self._takes = takes

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Hold the whole conversation: connect, send, receive, close."""
        socket = await self._open(opening)
        if socket is not None:
            await self._use(socket)

    async def _dial(self) -> Socket:
        if not self._takes:
            return await connect(self.url, max_queue=FRAMES, **self._options())
        socket = await connect(self.url, max_queue=SLOW_FRAMES, **self._options())
        # Otherwise the kernel buffers megabytes for a slow reader before the sender blocks.
        socket.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, SLOW_BYTES)
        return socket

    def _options(self) -> dict[str, Any]:
        options = {**self.basics, "max_size": None, "open_timeout": OPEN_SECONDS}
        if self.handshake.headers:
            options["additional_headers"] = dict(self.handshake.headers)
        if self._ping is not None:
            options |= {"ping_interval": self._ping, "ping_timeout": self._ping}
        return options

    async def _open(self, opening: asyncio.Semaphore) -> Socket | None:
        """Connect once, and record the result."""
        try:
            async with opening:
                socket = await self._dial()
                if self.adapter is not None:
                    async with asyncio.timeout(OPEN_SECONDS):
                        await self._log_in(socket, self.adapter)
        except (*FAILED_HANDSHAKE, ValueError) as failure:
            self.recorder.link(self.name, "unreachable", asked=False, **handshake_failure(failure))
            return None
        else:
            if self.handshake.path:
                # Without one the system under test may choose where its clients arrive.
                self.handshake.record(self.recorder, self.name, self.url, getattr(socket, "subprotocol", None))
            self.recorder.link(self.name, "connected", asked=True)
            return socket
        finally:
            self.tried.set()

    async def _use(self, socket: Socket) -> None:
        """Send and receive on a connection until it ends, or the client leaves."""
        sending = background(self._send(socket))
        leaving = background(self._leave(socket))
        code: int | None = None
        reason = ""
        try:
            while True:
                await self._arrive(socket, await socket.recv())
                if self._takes and self.may_talk.is_set():
                    await asyncio.sleep(1 / self._takes)
        except ConnectionClosed as end:
            code, reason = (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, str(end))
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.wait([sending, leaving])
            asked = self.leaving.is_set() or self.is_going
            self.recorder.link(self.name, "disconnected", asked=asked, code=code, reason=reason)

    async def _log_in(self, socket: Socket, adapter: Adapter) -> None:
        """Do what the protocol of the application asks for before the first message."""
        login = adapter.login()
        with contextlib.suppress(StopIteration):
            step = next(login)
            while True:
                for message in step if isinstance(step, list) else [] if step is None else [step]:
                    await socket.send(message)
                if isinstance(step, list):
                    step = next(login)
                    continue
                while await self._arrive(socket, received := await socket.recv()):
                    pass
                step = login.send(received)

    async def _arrive(self, socket: Sending, message: str | bytes) -> bool:
        """Record a message that has arrived; return whether it was one of a client of the run."""
        stamp: str | bytes | None = message
        if self.adapter is not None:
            if (answer := self.adapter.answer(message)) is not None:
                await socket.send(answer)
            stamp = self.adapter.unpack(message)
        if stamp is not None:
            self.recorder.received(self.name, Direction.U2C, self._labels.read(stamp))
        return stamp is not None

    async def _leave(self, socket: Socket) -> None:
        await self.leaving.wait()
        code, reason = self._leaves
        self.recorder.link(self.name, "left", asked=True, code=code, reason=reason)
        await socket.close(code, reason)

    async def _send(self, socket: Sending) -> None:
        await self.may_talk.wait()
        # So that clients which start together do not send at the same times.
        await asyncio.sleep(self.random.random() / max(1.0, self._load.rate))
        async for _ in self._load.moments():
            if not self.may_talk.is_set():
                return
            label, message = self.speaker.next()
            self.recorder.sent(self.name, Direction.C2U, label)
            if self.adapter is not None:
                message = self.adapter.pack(label.number, str(message))
            try:
                await self._load.send(socket, label.number, message)
            except ConnectionClosed:
                # The receiving task gets the same exception, and ends the connection.
                self.recorder.refused(self.name, Direction.C2U, label)
                return
            except asyncio.CancelledError:
                # The connection has ended while the message waited to be sent.
                self.recorder.refused(self.name, Direction.C2U, label)
                raise


class ReconnectingClient(PlainClient):
    """An ordinary client that reconnects under its connection id, and resends nothing."""

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Hold the conversation over as many connections as it takes."""
        wait = 0.0
        while not self.leaving.is_set():
            socket = await self._open(opening)
            if socket is not None:
                await self._use(socket)
                wait = 0.0
            wait = min(RETRY_SECONDS, max(0.05, 2 * wait))
            await asyncio.sleep(wait * self.random.random())

    def _options(self) -> dict[str, Any]:
        named = {**self.handshake.headers, "X-Connection-Id": self.session_id}
        # After it was killed, too, the proxy resends what this client has not confirmed; so it must not confirm too
        # early.
        return {**super()._options(), "additional_headers": named, "create_connection": LatePongClient}


class VisitingClient(PlainClient):
    """An ordinary client that connects for a while, leaves with 1000, and connects again.

    `visits` has the seconds for which it stays and is away, and the seconds until its first visit.
    """

    def __init__(self, *arguments: Any, visits: Mapping[str, float], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._visits = visits

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Connect and leave repeatedly, until the client must leave."""
        # The start of the run does not wait for its first visit.
        self.tried.set()
        await self.may_talk.wait()
        wait = self._visits["first"]
        while not await self._leaving_within(wait):
            socket = await self._open(opening)
            if socket is not None:
                self.is_going = False
                await self._use(socket)
            wait = self._visits["away"]

    async def _leave(self, socket: Socket) -> None:
        await self._leaving_within(self._visits["stay"])
        self.is_going = True
        await socket.close(1000, "gone for now")

    async def _leaving_within(self, seconds: float) -> bool:
        """Wait; return early, and True, when the client must close and not reconnect."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.leaving.wait(), seconds)
        return self.leaving.is_set()


class AwareClient(PlainClient):
    """A client that knows the protocol. Its user does not see a lost link, only a lost session."""

    async def _dial(self) -> Socket:
        # Imported here: clients that do not know the protocol must not need it.
        from reconnect_proxy import connect as connect_session

        options = {**self._options(), **({"max_queue": SLOW_BYTES} if self._takes else {})}
        socket: Socket = await connect_session(self.url, **options)
        return socket


def handshake_failure(failure: BaseException) -> dict[str, Any]:
    """Return the code and reason that are recorded for a failed handshake: an HTTP status and body, if any."""
    if isinstance(failure, InvalidStatus):
        body = (failure.response.body or b"").decode(errors="replace").strip()
        return {"code": failure.response.status_code, "reason": f"{failure}: {body}"[:300]}
    return {"code": None, "reason": str(failure)}
