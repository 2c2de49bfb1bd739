"""The session of an aware client under asyncio: a layer over `AwareSession`, and one task that follows its links.

    send() -> AwareSession -> LinkedConnection ~~~ proxy                c2u: held until a Pong or a 101 confirms it
    recv() <- inbox <- AwareSession <- _follow <- LinkedConnection ~~~ proxy      u2c: counted on its way

Both queues are `core.outbox.Outbox`es.

**Drain before count.** websockets answers a Ping while it parses, when the messages before that Ping may still lie in
its buffer. So a lost connection is read on until `recv` raises ConnectionClosed, past every limit, and only then is a
count stated. `_run` does both in turn.

**Cancellation.** That task alone awaits sockets. `send` queues and `recv` takes with no await after it, so that a
caller who is cancelled has done either nothing or all of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from types import TracebackType

from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidStatus,
)
from websockets.frames import Close, CloseCode, Frame
from websockets.frames import Opcode as FrameOpcode
from websockets.http11 import Response
from websockets.typing import Subprotocol

from ..core.confirmation import EVERY_MESSAGES, IN_FLIGHT
from ..core.link import Link
from ..core.message import Message, Opcode
from ..core.outbox import Outbox
from ..core.policy import Policy
from ..events import short_id
from .aware_session import AwareSession, SessionLost
from .socket import LinkedConnection

__all__ = ["Connection", "Dial"]

logger = logging.getLogger(__name__)

#: Opens a connection whose handshake carries these headers.
Dial = Callable[[dict[str, str]], Awaitable[LinkedConnection]]

#: Messages without confirmation after which `send` lets the event loop run: all Pings are in flight by then. `recv`
#: does so every so many messages. Neither has to wait for anything while there is room, or something to take.
YIELD_AFTER = EVERY_MESSAGES * IN_FLIGHT


class Connection:
    """A session with a reconnect proxy. Made by `connect`; has the methods of a `websockets` connection.

    Attributes:
        subprotocol: as negotiated when the session was opened.
        response: the server's answer to the handshake that opened the session.
        resumes: how many times the session went on over a new link.
        unconfirmed: once the session is over, the messages passed to `send` that the peer never confirmed, in order.
    """

    response: Response
    subprotocol: Subprotocol | None
    # Set by `open`, like the two above.
    _connection: LinkedConnection
    _link: Link
    _runner: asyncio.Task[None]

    def __init__(self, dial: Dial, policy: Policy, close_timeout: float | None, session_id: str | None) -> None:
        """Make a session; `open` follows. Not for users: see `connect`."""
        self.resumes = 0
        self.unconfirmed: tuple[str | bytes, ...] = ()
        self._session = AwareSession(self, asyncio.get_running_loop(), policy, session_id)
        self._dial = dial
        self._close_timeout = close_timeout
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

    async def open(self) -> None:
        """Make the first link. Not for users: see `connect`.

        Raises:
            SessionLost: the proxy has a session under the chosen id whose counts are not those of a new one (409).
            OSError, InvalidHandshake: the link cannot be made.
        """
        try:
            connection = await self._dial(self._session.request_headers())
        except InvalidStatus as refused:
            if refused.response.status_code == HTTPStatus.CONFLICT:
                self._refused(refused)
            raise
        assert connection.response is not None
        self.response, self.subprotocol = connection.response, connection.subprotocol
        self._attach(connection)
        self._runner = asyncio.create_task(self._run(), name=f"session {self._name}")

    @property
    def session_id(self) -> str | None:
        """The id under which the proxy keeps the session, a secret; None if the server names none."""
        return self._session.session_id

    @property
    def resumable(self) -> bool:
        """Whether the session outlives its link.

        False with a server that does not speak the protocol, or does not resume this session: a drop then raises
        ConnectionClosed, as with plain `websockets`.
        """
        return bool(self._session.resumable)

    # The methods of a websockets connection.

    async def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Queue a message: text for a str, else binary. Waits only while more than `max_queue` bytes are unconfirmed.

        Raises:
            ConnectionClosed: the session is over or closing.
            TypeError: `message` is of another type.
        """
        encoded = _encode(message)
        outbox = self._session.outbox
        if len(outbox) >= YIELD_AFTER:
            await asyncio.sleep(0)
        while outbox.full and not self._closing and self._over is None:
            self._relieved.clear()
            await self._relieved.wait()
        if self._closing:
            await self._ended.wait()
        if self._over is not None:
            raise self._over.with_traceback(None)
        self._session.push(encoded)

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
                len(self._session.outbox),
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
                if len(self._session.outbox) == 0:
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
                logger.info(
                    "session %s: link lost: %s; %d messages wait", self._name, closed, len(self._session.outbox)
                )
                self._attach(await self._next_link(closed))
                self.resumes += 1
                logger.info("session %s: resumed, %d messages wait", self._name, len(self._session.outbox))
        except SessionLost as lost:
            # If the proxy has taken the close and its answer was lost, a session that is gone is what was asked for.
            closed_well = self._closing and not len(self._session.outbox)
            self._finish(ConnectionClosedError(None, None) if closed_well else lost)
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
        connection = self._connection
        try:
            while True:
                self._session.take(*_encode(await connection.recv()))
                await connection.readable.wait()
        except ConnectionClosed as closed:
            self._session.link_ended()
            return closed

    def _goes_on(self, closed: ConnectionClosed) -> bool:
        """Tell whether a link that ended like this is to be replaced."""
        if closed.rcvd is None:
            # A close of ours: what was asked for and not answered yet, or our refusal of what the next link would bring
            # again (1002, 1007, 1009).
            return (closed.sent is None or self._closing) and self._session.goes_on_after(CloseCode.ABNORMAL_CLOSURE)
        return closed.rcvd_then_sent is not False and self._session.goes_on_after(closed.rcvd.code)

    async def _next_link(self, cause: Exception) -> LinkedConnection:
        """Dial until there is an answer.

        Raises:
            SessionLost: the answer is final, or the budget is spent; `cause` is blamed if no dial was made.
        """
        session, time = self._session, asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(session.next_wait(cause))
            if time() >= session.deadline:
                continue
            try:
                async with asyncio.timeout_at(session.deadline):
                    return await self._dial(session.request_headers())
            except InvalidStatus as refused:
                cause = refused
                self._refused(refused)
            except (OSError, EOFError, InvalidHandshake, ConnectionClosed) as failed:
                cause = failed
                if not isinstance(failed, ConnectionRefusedError):
                    session.unanswered()

    def _refused(self, refused: InvalidStatus) -> None:
        """Raise SessionLost if a refusal is final."""
        body = (refused.response.body or b"").decode("utf-8", "replace")[:200]
        self._session.refused(refused.response.status_code, body)

    def _attach(self, connection: LinkedConnection) -> None:
        """Make `connection` the link, settle what earlier links left open, and send."""
        assert connection.response is not None
        try:
            link = self._session.attach(connection.leg, self._session.answered(connection.response.headers.get))
        except BaseException:
            connection.transport.abort()
            raise
        connection.link = link
        self._connection, self._link = connection, link
        link.regulate(self._inbox.full and not self._closing)
        link.pump()
        self._relieved.set()

    # What the session calls: `aware_session.SessionListener`.

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Keep a message until `recv` takes it."""
        self._inbox.push((opcode, payload))
        self._arrived.set()
        self._link.regulate(self._inbox.full and not self._closing)

    def on_relieved(self) -> None:
        """Let `send` and `close` look again."""
        self._relieved.set()

    def on_link_lost(self, code: int, reason: str) -> None:
        """Log why the link gave its connection up. `_follow` sees the end of that."""
        logger.info("link lost: %s", reason)

    def _finish(self, over: ConnectionClosed) -> None:
        """Make the session over, once: callers learn of it when they have taken what was received."""
        if self._over is not None:
            return
        self.unconfirmed = tuple(map(_decode, self._session.end()))
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
