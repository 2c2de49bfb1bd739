"""The session of an aware client: two queues, one link after the other, and one task that follows them.

    send() -> outbox -> Link -> LinkedConnection ~~~ proxy     c2u: held until a Pong or a 101 confirms it
    recv() <- inbox <- _follow <- LinkedConnection ~~~ proxy   u2c: counted when it enters the inbox

Both queues are `core.outbox.Outbox`es and the rules of confirmation are those of `core.link.Link`, the same as in the
proxy.

**Drain before count.** websockets answers a Ping while it parses, when the messages before that Ping may still lie in
its buffer; and a Pong is a promise to count them (PROTOCOL.md section 4). So a lost connection is read on until `recv`
raises ConnectionClosed, past every limit, and only then is `X-Reconnect-Received` stated. `_run` does both in turn.

**Cancellation.** That task alone awaits sockets. `send` queues and `recv` takes with no await after it, so that a
caller who is cancelled has done either nothing or all of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import TracebackType

from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
)
from websockets.frames import Close, CloseCode, Frame
from websockets.frames import Opcode as FrameOpcode
from websockets.http11 import Response
from websockets.typing import Subprotocol

from ..core.confirmation import EVERY_MESSAGES, IN_FLIGHT
from ..core.link import Link
from ..core.message import Message, Opcode
from ..core.outbox import Outbox, OutOfRange
from ..core.policy import Policy
from ..core.wire import CONNECTION_ID, RECEIVED, RECONNECT_ID, Refusal, parse_count
from ..events import short_id
from .redial import Dial, Redial, SessionLost
from .socket import LinkedConnection

__all__ = ["Connection"]

logger = logging.getLogger(__name__)

#: Closes after which the session goes on over a new link. 1005 and 1006: without a code, RFC 6455 section 7.4.1.
RESUMED = frozenset({1001, 1005, 1006, 1011, 1012, 1013})

#: The close code of a link that another one has replaced, PROTOCOL.md section 6.
TAKEN_OVER = 4000

#: Messages without confirmation after which `send` lets the event loop run: all Pings are in flight by then. `recv`
#: does so every so many messages. Neither has to wait for anything while there is room, or something to take.
YIELD_AFTER = EVERY_MESSAGES * IN_FLIGHT


class Connection:
    """A session with a reconnect proxy. Made by `connect`; has the methods of a `websockets` connection.

    Attributes:
        session_id: the id under which the proxy keeps the session, a secret; None if the server names none.
        resumable: whether the session outlives its link. False with a server that does not speak the protocol, or does
            not resume this session: a drop then raises ConnectionClosed, as with plain `websockets`.
        subprotocol: as negotiated when the session was opened.
        response: the server's answer to the handshake that opened the session.
        resumes: how many times the session went on over a new link.
        unconfirmed: once the session is over, the messages passed to `send` that the peer never confirmed, in order.
    """

    def __init__(self, connection: LinkedConnection, dial: Dial, policy: Policy, close_timeout: float | None) -> None:
        """Take over a connection that is open. Not for users: see `connect`."""
        assert connection.response is not None
        self.response: Response = connection.response
        self.subprotocol: Subprotocol | None = connection.subprotocol
        self.session_id: str | None = self.response.headers.get(CONNECTION_ID)
        self.resumable: bool = self.session_id is not None and RECEIVED in self.response.headers
        self.resumes = 0
        self.unconfirmed: tuple[str | bytes, ...] = ()
        self._redial = Redial(dial, policy.retry_for)
        self._policy = policy
        self._close_timeout = close_timeout
        self._outbox = Outbox(policy.max_queue)
        # What was received and not taken yet: taking a message marks it as sent and confirms it.
        self._inbox = Outbox(policy.max_queue)
        self._receiving = False
        # The call of close() has come: nothing more may be sent, and what arrives no longer meets a limit.
        self._closing = False
        # Why the session is over; None until then.
        self._over: ConnectionClosed | None = None
        self._ended = asyncio.Event()
        # Something entered the inbox, or the session is over.
        self._arrived = asyncio.Event()
        # The outbox shrank, or there is a new link, or the session is over.
        self._relieved = asyncio.Event()
        try:
            self._attach(connection)
        except BaseException:
            connection.transport.abort()
            raise
        self._runner = asyncio.create_task(self._run(), name=f"session {self._name}")

    # The methods of a websockets connection.

    async def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Queue a message: text for a str, else binary. Waits only while more than `max_queue` bytes are unconfirmed.

        Raises:
            ConnectionClosed: the session is over or closing.
            TypeError: `message` is of another type.
        """
        encoded = _encode(message)
        if len(self._outbox) >= YIELD_AFTER:
            await asyncio.sleep(0)
        while self._outbox.full and not self._closing and self._over is None:
            self._relieved.clear()
            await self._relieved.wait()
        if self._closing:
            await self._ended.wait()
        if self._over is not None:
            raise self._over.with_traceback(None)
        self._outbox.push(encoded)
        self._link.pump()

    async def recv(self, timeout: float | None = None) -> str | bytes:  # noqa: ASYNC109 (as in websockets.sync)
        """Take the next message: a str for text, bytes for binary.

        Args:
            timeout: seconds to wait for one; None waits as long as the session lives.

        Raises:
            TimeoutError: none came in time.
            ConnectionClosed: the session is over, and everything received was taken.
            ConcurrencyError: another task waits in `recv`.
        """
        if self._inbox.pending and self._inbox.sent % YIELD_AFTER == 0:
            await asyncio.sleep(0)
        if not self._inbox.pending:
            if self._receiving:
                raise ConcurrencyError("cannot call recv while another coroutine is already running recv")
            self._receiving = True
            try:
                async with asyncio.timeout(timeout):
                    await self._arrival()
            finally:
                self._receiving = False
        opcode, payload = self._inbox.mark_sent()
        self._inbox.confirm(self._inbox.sent)
        self._link.regulate(self._inbox.full and not self._closing)
        return payload.decode() if opcode == Opcode.TEXT else payload

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Yield messages until the session ends with 1000; raises ConnectionClosedError if it ends otherwise."""
        try:
            while True:
                yield await self.recv()
        except ConnectionClosedOK:
            return

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Deliver what is queued, over new links if need be, then close the session. Does nothing if it is over.

        Takes `close_timeout` seconds at the most; what was not confirmed by then is in `unconfirmed`, with a warning.

        Raises:
            ProtocolError: `code` or `reason` may not be sent (RFC 6455 sections 5.5.1 and 7.4).
        """
        close = Close(code, reason)
        Frame(FrameOpcode.CLOSE, close.serialize()).check()
        if self._closing or self._over is not None:
            await asyncio.wait([self._runner])
            return
        self._closing = True
        # The Pongs that confirm what is queued come behind what the caller has not taken.
        self._link.regulate(False)
        self._relieved.set()
        try:
            async with asyncio.timeout(self._close_timeout):
                await self._close_delivered(close)
        except TimeoutError:
            logger.warning(
                "session %s: closed after %s s with %d messages unconfirmed",
                self._name,
                self._close_timeout,
                len(self._outbox),
            )
        finally:
            self._finish(ConnectionClosedError(None, close, None))
            self._runner.cancel()
            await asyncio.wait([self._runner])
            await self._connection.wait_closed()
        if not self._runner.cancelled():
            self._runner.result()

    async def wait_closed(self) -> None:
        """Wait until the session is over."""
        await self._ended.wait()

    @property
    def close_code(self) -> int | None:
        """The close code received, 1006 if the session ended without one, None while it lives."""
        if self._over is None:
            return None
        return CloseCode.ABNORMAL_CLOSURE if self._over.rcvd is None else self._over.rcvd.code

    @property
    def close_reason(self) -> str | None:
        """The close reason received, empty if the session ended without one, None while it lives."""
        if self._over is None:
            return None
        return "" if self._over.rcvd is None else self._over.rcvd.reason

    async def __aenter__(self) -> Connection:
        """Return the session itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the session: with 1000, or with 1011 if the body raised."""
        await self.close(CloseCode.NORMAL_CLOSURE if exc_type is None else CloseCode.INTERNAL_ERROR)

    # The life of the session.

    @property
    def _name(self) -> str:
        return "without id" if self.session_id is None else short_id(self.session_id)

    async def _arrival(self) -> None:
        while not self._inbox.pending:
            if self._over is not None:
                raise self._over.with_traceback(None)
            self._arrived.clear()
            await self._arrived.wait()

    async def _close_delivered(self, close: Close) -> None:
        """Close the link once everything is confirmed, and the next one if this dies before the answer."""
        while self._over is None:
            self._relieved.clear()
            if not self._link.dead:
                if len(self._outbox) == 0:
                    await self._connection.close(close.code, close.reason)
                else:
                    self._link.ask()
            await self._relieved.wait()

    async def _run(self) -> None:
        """Follow one link after the other until the session is over."""
        try:
            while True:
                closed = await self._follow()
                if not self._goes_on(closed):
                    return self._finish(closed)
                logger.info("session %s: link lost: %s; %d messages wait", self._name, closed, len(self._outbox))
                await self._resume(closed)
        except SessionLost as lost:
            # If the proxy has taken the close and its answer was lost, a session that is gone is what was asked for.
            self._finish(ConnectionClosedError(None, None) if self._closing and not len(self._outbox) else lost)
        except BaseException as failure:
            self._finish(SessionLost(f"the client's own task ended with {failure!r}"))
            raise
        finally:
            self._connection.transport.abort()
        return None

    async def _follow(self) -> ConnectionClosed:
        """Take all that the link brings, and return its end: `recv` raises only when its buffer is empty.

        Messages do not go through the link, which ignores what comes after it was judged dead: those may have been
        answered with a Pong, and must be counted.
        """
        connection, link = self._connection, self._link
        began = connection.loop.time()
        try:
            while True:
                message = await connection.recv()
                link.on_heard()
                self._deliver(*_encode(message))
                await connection.readable.wait()
        except ConnectionClosed as closed:
            link.die()
            self._redial.lost(began, (self._inbox.pushed, self._outbox.confirmed))
            return closed

    def _deliver(self, opcode: int, payload: bytes, now: float | None = None) -> None:
        self._inbox.push((opcode, payload))
        self._arrived.set()
        self._link.regulate(self._inbox.full and not self._closing)

    def _goes_on(self, closed: ConnectionClosed) -> bool:
        """Tell whether a link that ended like this is to be replaced."""
        if not self.resumable:
            return False
        if closed.rcvd is None:
            # A close of ours: what was asked for and not answered yet, or our refusal of what the next link would bring
            # again (1002, 1007, 1009).
            return closed.sent is None or self._closing
        if closed.rcvd_then_sent is False:
            return False
        if closed.rcvd.code == TAKEN_OVER:
            return self._redial.forgive_takeover()
        return closed.rcvd.code in RESUMED

    async def _resume(self, closed: ConnectionClosed) -> None:
        """Get a new link, and go on over it."""
        connection = await self._redial.next_link(self._claim, closed)
        try:
            self._attach(connection)
        except BaseException:
            connection.transport.abort()
            raise
        self.resumes += 1
        logger.info("session %s: resumed, %d messages wait", self._name, len(self._outbox))

    def _claim(self) -> dict[str, str]:
        assert self.session_id is not None
        return {RECONNECT_ID: self.session_id, RECEIVED: str(self._inbox.pushed)}

    def _attach(self, connection: LinkedConnection) -> None:
        """Make `connection` the link, settle what earlier links left open, and send."""
        assert connection.response is not None
        stated = self._stated_count(connection.response)
        link = Link(connection.leg, self._outbox, connection.leg, self._deliver, connection.loop, self._policy)
        try:
            link.resume(stated)
        except OutOfRange as mismatch:
            link.die()
            raise SessionLost(
                f"the proxy's count of what it received disagrees with this client: {mismatch}"
            ) from mismatch
        connection.leg.relieved = self._relieved
        connection.link = link
        self._connection, self._link = connection, link
        link.regulate(self._inbox.full and not self._closing)
        link.pump()
        self._relieved.set()

    def _stated_count(self, response: Response) -> int | None:
        """Return how many messages the server says it received, None in a session that is not resumable."""
        if not self.resumable:
            return None
        if response.headers.get(CONNECTION_ID, self.session_id) != self.session_id:
            raise SessionLost("the proxy resumed another session than the one that was asked for")
        try:
            return parse_count(RECEIVED, response.headers.get(RECEIVED, ""))
        except Refusal as malformed:
            raise SessionLost(f"the proxy's answer does not say what it received: {malformed}") from malformed

    def _finish(self, over: ConnectionClosed) -> None:
        """Make the session over, once: callers learn of it when they have taken what was received."""
        if self._over is not None:
            return
        self._link.die()
        self.unconfirmed = tuple(_decode(self._outbox.mark_sent()) for _ in range(self._outbox.pending))
        if isinstance(over, SessionLost):
            over.unconfirmed = self.unconfirmed
        self._over = over
        logger.info("session %s: over: %s", self._name, over)
        for event in (self._ended, self._arrived, self._relieved):
            event.set()


def _encode(message: str | bytes | bytearray | memoryview) -> Message:
    if isinstance(message, str):
        return Opcode.TEXT, message.encode()
    if isinstance(message, (bytes, bytearray, memoryview)):
        return Opcode.BINARY, bytes(message)
    raise TypeError(f"a message is a str or bytes, not {type(message).__name__}")


def _decode(message: Message) -> str | bytes:
    return message[1].decode() if message[0] == Opcode.TEXT else message[1]
