"""The generator's connections: opened many at a time, closed in good order, and one to the server past the contender.

`bench.flows` has what they send, and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import picows
from picows import WSCloseCode, WSListener, WSTransport

from reconnect_harness.bench.figures import ContenderFailed
from reconnect_harness.bench.server import BINARY, CLOSE, LARGEST, ControlMessage

T = TypeVar("T")

#: How many handshakes are in progress at a time.
AT_A_TIME = 64

#: How long a handshake with its first echo, or the end of all connections, may take, in seconds.
PATIENCE = 30.0

_ECHO = "echo"


class Flow:
    """What the connections send. `size` is that of each message, in bytes."""

    #: Whether messages of another size are passed over.
    lenient = False

    def __init__(self, size: int) -> None:
        self.size = size

    def arrived(self, connection: GeneratorConnection) -> None:
        """Handle a message that arrived on a connection."""

    def allowed(self, message: ControlMessage) -> None:
        """Handle a message of the server on the control connection."""


class GeneratorConnection(WSListener):
    """One WebSocket of the generator, number `n`."""

    #: When its last message was sent, on the clock of time.monotonic().
    since = 0.0
    #: How many messages have arrived on it.
    seen = 0

    def __init__(self, connections: GeneratorConnections, n: int) -> None:
        self.n = n
        self.transport: WSTransport
        self._connections = connections
        self._size = 0

    def send(self, payload: bytes) -> None:
        self.transport.send(BINARY, payload)  # type: ignore[arg-type]  # a number does as well

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: picows.WSFrame) -> None:
        """Tell the flow of a message, when all of it has arrived."""
        kind: Any = frame.msg_type
        if kind <= BINARY:
            size = self._size + frame.payload_size
            if frame.fin:
                self._size = 0
                flow = self._connections.flow
                if size == flow.size:
                    flow.arrived(self)
                elif not flow.lenient:
                    self._connections.fail(f"has turned a message of {flow.size:,} bytes into one of {size:,}")
            else:
                self._size = size
        elif kind == CLOSE:
            transport.send_close()
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._connections.lost(self)


class _ControlListener(WSListener):
    def __init__(self, connections: GeneratorConnections) -> None:
        self._connections = connections

    def on_ws_frame(self, transport: WSTransport, frame: picows.WSFrame) -> None:
        kind: Any = frame.msg_type
        if kind == BINARY:
            self._connections.flow.allowed(ControlMessage.from_bytes(frame.get_payload_as_bytes()))


class OpeningFlow(Flow):
    """The flow while sessions are opened: each sends one message and waits for its echo."""

    MESSAGE = b"hello"

    def __init__(self) -> None:
        super().__init__(len(self.MESSAGE))
        self.answered: dict[GeneratorConnection, asyncio.Future[None]] = {}

    async def echoed(self, connection: GeneratorConnection) -> None:
        """Send the message and wait for its echo."""
        answered = self.answered[connection] = asyncio.get_running_loop().create_future()
        connection.send(self.MESSAGE)
        await answered

    def arrived(self, connection: GeneratorConnection) -> None:
        if (answered := self.answered.pop(connection, None)) is not None and not answered.done():
            answered.set_result(None)


class GeneratorConnections:
    """All connections of the generator.

    Args:
        server: the URL of the server itself.

    Attributes:
        open_ones: those that are open, in the order in which they were asked for.
        flow: what they send.

    """

    def __init__(self, server: str) -> None:
        self.open_ones: list[GeneratorConnection] = []
        self.flow: Flow = OpeningFlow()
        self._open: set[GeneratorConnection] = set()
        self._server = server
        self._control: WSTransport | None = None
        self._closing = False
        self._closed = asyncio.Event()
        # What the contender has done wrong, and what is being waited for.
        self._problem: str | None = None
        self._work: asyncio.Task[Any] | None = None

    async def open(self, url: str, count: int, path: str) -> float:
        """Open further connections, and return how many seconds it took.

        Args:
            url: the URL of the contender.
            count: how many connections.
            path: the path on the server (`bench.server`), with `{n}` for the connection's number.
        """
        self._closing = False
        self._problem = None
        if self._control is None:
            self._control, _ = await picows.ws_connect(
                lambda: _ControlListener(self), f"{self._server}/control", use_aiofastnet=False
            )
        opening = self.flow = OpeningFlow()
        first = len(self.open_ones)
        new = [GeneratorConnection(self, n) for n in range(first, first + count)]
        waiting = iter(new)

        async def work() -> None:
            for connection in waiting:
                await self._connect(connection, f"{url.rstrip('/')}/{path.format(n=connection.n)}")
                if path == _ECHO:
                    await opening.echoed(connection)

        begin = time.monotonic()
        async with asyncio.timeout(PATIENCE + count / 100):
            await self.unbroken(_all([work() for _ in range(min(count, AT_A_TIME))]))
        self.open_ones += new
        return time.monotonic() - begin

    async def _connect(self, connection: GeneratorConnection, url: str) -> None:
        transport, _ = await picows.ws_connect(
            lambda: connection,
            url,
            websocket_handshake_timeout=PATIENCE,
            max_frame_size=LARGEST,
            use_aiofastnet=False,
        )
        # picows reports a socket that is closed during the handshake as opened.
        if transport.is_disconnected:
            raise ContenderFailed("has dropped a client during its handshake")
        self._open.add(connection)

    def tell(self, message: ControlMessage) -> None:
        """Send something to the server, past the contender."""
        assert self._control is not None
        self._control.send(BINARY, message.to_bytes())  # type: ignore[arg-type]  # see Connection.send

    def lost(self, connection: GeneratorConnection) -> None:
        """Handle the end of a connection."""
        self._open.discard(connection)
        if not self._closing:
            self.fail("has dropped a client")
        elif not self._open:
            self._closed.set()

    def fail(self, problem: str) -> None:
        """End what is being measured: `problem` is what the contender has done."""
        self._problem = self._problem or problem
        if self._work is not None:
            self._work.cancel()

    async def unbroken(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work`, or raise ContenderFailed as soon as the contender has failed."""
        self._work = task = asyncio.create_task(work)
        if self._problem is not None:
            task.cancel()
        try:
            found = await task
        except (Exception, asyncio.CancelledError):
            # A failure of `work` after that of the contender is a consequence of it.
            if self._problem is None:
                raise
        finally:
            self._work = None
        if self._problem is not None:
            raise ContenderFailed(self._problem)
        return found

    async def close(self) -> None:
        """Close all connections, in good order if the contender answers, and wait until they have ended."""
        self._closing = True
        self._closed.clear()
        for connection in list(self._open):
            connection.transport.send_close(WSCloseCode.OK)
        if self._open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), PATIENCE)
        for connection in list(self._open):
            connection.transport.underlying_transport.abort()
        self.open_ones.clear()
        self._open.clear()


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
