"""The generator's connections: opened many at a time, closed in good order, and one to the server past the contender.

What they say and when is the business of a `Flow` (`flows`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

import picows
from picows import WSCloseCode, WSListener, WSTransport

from reconnect_harness.bench.server import BINARY, CLOSE, LARGEST, Word

T = TypeVar("T")

#: Handshakes that are under way at a time.
AT_A_TIME = 64

#: How long a handshake with the first answer, or the end of all connections, may take in seconds.
PATIENCE = 30.0

_ECHO = "echo"


class LoadFailed(Exception):
    """The contender has not done what a proxy is for. The message is the second half of a sentence about it."""


class Flow(Protocol):
    """What the connections say."""

    def arrived(self, connection: Connection, size: int) -> None:
        """Take a message of `size` bytes from a connection."""

    def allowed(self, word: Word) -> None:
        """Take what the server says on the control connection."""


class Connection(WSListener):
    """One WebSocket of the generator, number `n` of its `load`."""

    #: When its last message was sent, on the clock of time.monotonic().
    since = 0.0
    #: How many messages it has been sent.
    seen = 0

    def __init__(self, load: Load, n: int) -> None:
        self.n = n
        self.transport: WSTransport
        self._load = load
        self._size = 0

    def send(self, payload: bytes) -> None:
        """Send a message."""
        self.transport.send(BINARY, payload)  # type: ignore[arg-type]  # a number does as well

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: picows.WSFrame) -> None:
        """Hand a message's size to the flow, when it is there as a whole."""
        kind: Any = frame.msg_type
        if kind <= BINARY:
            size = self._size + frame.payload_size
            if frame.fin:
                self._size = 0
                self._load.flow.arrived(self, size)
            else:
                self._size = size
        elif kind == CLOSE:
            transport.send_close()
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell that it is gone."""
        self._load.lost(self)


class _Control(WSListener):
    def __init__(self, load: Load) -> None:
        self._load = load

    def on_ws_frame(self, transport: WSTransport, frame: picows.WSFrame) -> None:
        kind: Any = frame.msg_type
        if kind == BINARY:
            self._load.flow.allowed(Word.from_bytes(frame.get_payload_as_bytes()))


class Hello:
    """The flow while sessions are opened: each says one word and gets it back."""

    WORD = b"hello"

    def __init__(self) -> None:
        self.answered: dict[Connection, asyncio.Future[None]] = {}

    async def say(self, connection: Connection) -> None:
        """Send the word and wait until it is back."""
        answered = self.answered[connection] = asyncio.get_running_loop().create_future()
        connection.send(self.WORD)
        await answered

    def arrived(self, connection: Connection, size: int) -> None:
        """Take the word."""
        if (answered := self.answered.pop(connection, None)) is not None and not answered.done():
            answered.set_result(None)

    def allowed(self, word: Word) -> None:
        """Take nothing: an echo asks for no leave."""


class Load:
    """All connections of the generator.

    Attributes:
        connections: those that are open, in the order in which they were asked for.
        flow: what they say.

    """

    def __init__(self, server: str) -> None:
        """Make it without connections; `server` is the URL of the server itself."""
        self.connections: list[Connection] = []
        self.flow: Flow = Hello()
        self._open: set[Connection] = set()
        self._server = server
        self._control: WSTransport | None = None
        self._closing = False
        self._closed = asyncio.Event()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, url: str, count: int, path: str) -> float:
        """Open so many further connections, and return how many seconds it took.

        Args:
            url: of the contender.
            count: how many.
            path: what the server is asked for (see `bench.server`), with `{n}` for the connection's number.
        """
        self._closing = False
        if self._broken.done():
            self._broken = asyncio.get_running_loop().create_future()
        if self._control is None:
            self._control, _ = await picows.ws_connect(
                lambda: _Control(self), f"{self._server}/control", use_aiofastnet=False
            )
        hello = self.flow = Hello()
        first = len(self.connections)
        new = [Connection(self, n) for n in range(first, first + count)]
        waiting = iter(new)

        async def work() -> None:
            for connection in waiting:
                await self._connect(connection, f"{url.rstrip('/')}/{path.format(n=connection.n)}")
                if path == _ECHO:
                    await hello.say(connection)

        begin = time.monotonic()
        async with asyncio.timeout(PATIENCE + count / 100):
            await self.unbroken(_all([work() for _ in range(min(count, AT_A_TIME))]))
        self.connections += new
        return time.monotonic() - begin

    async def _connect(self, connection: Connection, url: str) -> None:
        transport, _ = await picows.ws_connect(
            lambda: connection,
            url,
            websocket_handshake_timeout=PATIENCE,
            max_frame_size=LARGEST,
            use_aiofastnet=False,
        )
        # picows takes a socket that is closed during the handshake for one that was opened.
        if transport.is_disconnected:
            raise LoadFailed("has dropped a client during its handshake")
        self._open.add(connection)

    def tell(self, word: Word) -> None:
        """Say something to the server, past the contender."""
        assert self._control is not None
        self._control.send(BINARY, word.to_bytes())  # type: ignore[arg-type]  # see Connection.send

    def lost(self, connection: Connection) -> None:
        """Take note of a connection that is gone."""
        self._open.discard(connection)
        if not self._closing:
            self.fail("has dropped a client")
        elif not self._open:
            self._closed.set()

    def fail(self, problem: str) -> None:
        """End what is under way: `problem` is what the contender has done."""
        if not self._broken.done():
            self._broken.set_exception(LoadFailed(problem))

    async def unbroken(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work`, or raise LoadFailed as soon as it has become pointless."""
        task = asyncio.create_task(work)
        both: list[asyncio.Future[Any]] = [task, self._broken]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                self._broken.result()
            return await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
            elif not task.cancelled():
                # Where something else has failed first, this is a consequence.
                task.exception()

    async def close(self) -> None:
        """Close all connections, in good order where the contender answers, and wait until they are gone."""
        self._closing = True
        if self._broken.done():
            # It has been told, or will never be.
            self._broken.exception()
        self._closed.clear()
        for connection in list(self._open):
            connection.transport.send_close(WSCloseCode.OK)
        if self._open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), PATIENCE)
        for connection in list(self._open):
            connection.transport.underlying_transport.abort()
        self.connections.clear()
        self._open.clear()


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
