"""A small server that keeps sessions as PROTOCOL.md says, on `websockets`: what the client talks to in its tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

Data = str | bytes

# Seconds. Longer than anything takes on a busy machine: where it passes, something hangs.
PATIENCE = 30.0


class ServerSession:
    """One session as the server sees it.

    Attributes:
        received: what the client sent, in order.
        outgoing: what the client is sent, in order; add to it with `push`.
        confirmed: how many of `outgoing` the client has confirmed by Pongs and stated counts.
        stated: the counts that the client has stated, one for each handshake.
        link: the connection of the moment.
        end: the close code and reason of the last link that ended.
    """

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.received: list[Data] = []
        self.outgoing: list[Data] = []
        self.confirmed = 0
        self.stated: list[int] = []
        self.link: ServerConnection | None = None
        self.end: tuple[int | None, str | None] = (None, None)
        self.generation = 0
        self._changed = asyncio.Event()

    def push(self, *messages: Data) -> None:
        """Send messages to the client, over the present link or the next."""
        self.outgoing.extend(messages)
        self.notify()

    def notify(self) -> None:
        """Wake the tasks that wait in `until`."""
        self._changed.set()

    async def change(self) -> None:
        """Wait until anything happens."""
        self._changed.clear()
        await self._changed.wait()

    async def until(self, condition: Callable[[ServerSession], object]) -> None:
        """Wait until `condition` holds; raises TimeoutError where that takes longer than anything here should."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                await self.change()


class AwareServer:
    """Serves aware clients on a free loopback port, and speaks the subprotocol `chat` where it is offered.

    Attributes:
        port: where it listens.
        sessions: the sessions by id, in the order in which they were opened.
        requests: every handshake that came, refused ones included.
        ping_every: a Ping follows after this many messages, and after the last.
        on_message: called with the session and each message that it received.
        refuse: status with which every handshake is refused; None serves.
        misstate: what is added to the count of the next 101.
    """

    def __init__(self) -> None:
        self.port = 0
        self.sessions: dict[str, ServerSession] = {}
        self.requests: list[Request] = []
        self.on_message: Callable[[ServerSession, Data], None] = lambda session, message: None
        self.ping_every = 16
        self.refuse: int | None = None
        self.misstate = 0
        self._claims: dict[ServerConnection, tuple[ServerSession, int]] = {}
        self._made = 0

    @property
    def session(self) -> ServerSession:
        """The only session."""
        (session,) = self.sessions.values()
        return session

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            0,
            process_request=self._decide,
            process_response=self._state_count,
            select_subprotocol=_chat,
            # So that the bytes on the link are those of the messages.
            compression=None,
            ping_interval=None,
            close_timeout=1,
            max_size=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _decide(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if self.refuse is not None:
            return connection.respond(self.refuse, "refused by the test\n")
        received = int(request.headers["X-Reconnect-Received"])
        if "X-Reconnect-Id" in request.headers:
            session = self.sessions.get(request.headers["X-Reconnect-Id"])
            if session is None:
                return connection.respond(410, "no such session\n")
        else:
            self._made += 1
            session = ServerSession(request.headers.get("X-Connection-Id", f"session-number-{self._made:06}"))
            self.sessions[session.id] = session
        while session.link is not None:
            # What the old link has brought must be counted before this one is answered.
            session.link.transport.abort()
            await session.until(lambda one: one.link is None)
        if not session.confirmed <= received <= len(session.outgoing):
            return connection.respond(
                409, f"stated {received}, but {session.confirmed} are confirmed of {len(session.outgoing)}\n"
            )
        session.confirmed = received
        session.stated.append(received)
        session.generation += 1
        self._claims[connection] = (session, session.generation)
        return None

    def _state_count(self, connection: ServerConnection, request: Request, response: Response) -> None:
        if connection in self._claims:
            session, _ = self._claims[connection]
            response.headers["X-Connection-Id"] = session.id
            response.headers["X-Reconnect-Received"] = str(len(session.received) + self.misstate)
            self.misstate = 0

    async def _handle(self, connection: ServerConnection) -> None:
        session, generation = self._claims.pop(connection)
        if generation != session.generation:
            connection.transport.abort()
            return
        session.link = connection
        session.notify()
        sender = asyncio.create_task(self._send(session, connection, session.confirmed))
        try:
            while True:
                message = await connection.recv()
                session.received.append(message)
                self.on_message(session, message)
                session.notify()
        except ConnectionClosed:
            session.end = connection.close_code, connection.close_reason
        finally:
            sender.cancel()
            await asyncio.wait([sender])
            session.link = None
            session.notify()

    async def _send(self, session: ServerSession, connection: ServerConnection, sent: int) -> None:
        def confirm(n: int, pong: asyncio.Future[float]) -> None:
            if not pong.cancelled() and pong.exception() is None:
                session.confirmed = max(session.confirmed, n)
                session.notify()

        with contextlib.suppress(ConnectionClosed):
            while True:
                batch = session.outgoing[sent : sent + self.ping_every]
                for message in batch:
                    await connection.send(message)
                sent += len(batch)
                if batch:
                    pong = await connection.ping(sent.to_bytes(8, "big"))
                    assert isinstance(pong, asyncio.Future)
                    pong.add_done_callback(partial(confirm, sent))
                while len(session.outgoing) == sent:
                    await session.change()


def _chat(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("chat") if "chat" in offered else None
