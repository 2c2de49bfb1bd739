"""An upstream that knows the reconnect protocol: the aware side of PROTOCOL.md sections 3 and 4, written from its text.

It shares no code with the proxy, so that each tests the other: this and `peers.unconfirmed` are the one implementation
of the aware peer besides that of the proxy (`reconnect_proxy.client.aware_session`).

    session:  what was sent and not confirmed (`UnconfirmedMessages`), and how many messages were received
    link:     one connection at a time; a resume ends the old one and waits until it is drained

A count is stated only when the old link is drained, because websockets may have answered Pings behind buffered
messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import weakref
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from reconnect_harness.history.message import Direction
from reconnect_harness.history.recorder import EventSink
from reconnect_harness.peers.handshake import record_arrival
from reconnect_harness.peers.unconfirmed import ImpossibleCount, UnconfirmedMessages
from reconnect_harness.peers.upstream_connection import UpstreamConnection
from reconnect_harness.peers.workload import Speaker, Workload
from reconnect_harness.processes.actor import background

#: How many unconfirmed messages a session may have before it stops making more.
FULL = 20_000

_ID = re.compile(r"[A-Za-z0-9._~-]{16,128}")
_COUNT = re.compile(r"[0-9]{1,19}")

#: Close codes after which a session may be resumed (PROTOCOL.md section 6: "retryable").
RESUMABLE = frozenset({1001, 1006, 1011, 1012, 1013, 1014})


class HandshakeRefused(Exception):
    """A handshake that is answered with an HTTP error."""

    def __init__(self, status: HTTPStatus, error: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.body = json.dumps({"error": error, "detail": detail})


class UpstreamSession:
    """One session: the messages that its peer has not confirmed, and how many it has received itself."""

    def __init__(self, speaker: Speaker, load: Workload, upstream: AwareUpstream) -> None:
        # The id by which it can be resumed, set when a connection has claimed it.
        self.key = ""
        self.speaker = speaker
        self.received = 0
        self.ended = False
        # The connection that has claimed the session last; any other one must end.
        self.claimed_by: ServerConnection | None = None
        self._load = load
        self._upstream = upstream
        self._owed = UnconfirmedMessages(asyncio.get_running_loop().time)
        self._link: ServerConnection | None = None
        self._drained = asyncio.Event()
        self._drained.set()
        # There is something to send, or a Pong has come.
        self._more = asyncio.Event()
        self._pushing: asyncio.Task[None] | None = None
        self._abandoning: asyncio.TimerHandle | None = None

    async def claim(self, connection: ServerConnection, count: int) -> None:
        """Give the session to a new connection whose peer has received `count` messages.

        Raises HandshakeRefused if the count is impossible, or another connection claims the session in the meantime.
        """
        self.claimed_by = connection
        if self._link is not None:
            self._link.transport.abort()
        await self._drained.wait()
        if self.claimed_by is not connection:
            raise HandshakeRefused(HTTPStatus.CONFLICT, "taken-over", "a newer connection has claimed this session")
        if self.ended:
            raise HandshakeRefused(HTTPStatus.GONE, "gone", "the session ended with its last connection")
        try:
            self._owed.resume(count)
        except ImpossibleCount as impossible:
            raise HandshakeRefused(HTTPStatus.CONFLICT, "count", str(impossible)) from impossible
        # Its handshake may still fail, and then `serve` is not called.
        self._await_resume()

    async def serve(self, connection: UpstreamConnection) -> None:
        """Carry the session on a connection that has claimed it, until the connection ends."""
        if self.claimed_by is not connection:
            # Without a Close frame, which would say that the session has ended: the peer may still resume it.
            connection.transport.abort()
            return
        self._link = connection
        self._drained.clear()
        if self._pushing is None:
            self._pushing = background(self._push())
        sending = background(self._send(connection))
        try:
            # recv() returns buffered messages before it raises ConnectionClosed.
            while True:
                await connection.hearing.wait()
                message = await connection.recv()
                self.received += 1
                self._upstream.took(self, message)
        except ConnectionClosed:
            pass
        finally:
            sending.cancel()
            self._link = None
            if connection.close_code not in RESUMABLE:
                self.end()
            self._await_resume()
            self._drained.set()

    def _await_resume(self) -> None:
        """End the session after `keep` seconds, unless it has a link by then."""

        def abandon() -> None:
            if self._link is None:
                self.end()

        self._cancel_abandoning()
        if self._upstream.keep is not None and not self.ended:
            self._abandoning = asyncio.get_running_loop().call_later(self._upstream.keep, abandon)

    def _cancel_abandoning(self) -> None:
        if self._abandoning is not None:
            self._abandoning.cancel()
            self._abandoning = None

    def end(self) -> None:
        """End the session: no more messages are pushed, and it cannot be resumed."""
        self.ended = True
        self._cancel_abandoning()
        self._upstream.forget(self)
        if self._pushing is not None:
            self._pushing.cancel()

    def owe(self, message: str | bytes) -> None:
        """Send the peer a message, now or on its next link, and keep it until it is confirmed."""
        self._owed.add(message)
        self._more.set()

    async def _push(self) -> None:
        async for _ in self._load.moments():
            if self._upstream.is_quiet:
                return
            if len(self._owed) >= FULL:
                continue
            label, message = self.speaker.next()
            self._upstream.recorder.sent(self._upstream.name, Direction.U2C, label)
            self.owe(message)

    async def _send(self, connection: ServerConnection) -> None:
        """Send the unconfirmed messages, and the Pings that ask for their confirmation."""
        # The receiving task gets the same exception, and ends the link.
        with contextlib.suppress(ConnectionClosed):
            while True:
                for due in self._owed.due():
                    if isinstance(due, int):
                        await self._ping(connection, due)
                    else:
                        await connection.send(due)
                self._more.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._more.wait(), self._owed.due_in())

    async def _ping(self, connection: ServerConnection, number: int) -> None:
        """Send the Ping that stands for message `number`."""

        def confirm(answer: asyncio.Future[float]) -> None:
            # Pongs of a link that has been replaced do not count.
            if answer.cancelled() or answer.exception() is not None or self._link is not connection:
                return
            self._owed.pong(number)
            self._more.set()

        answered = asyncio.ensure_future(await connection.ping(number.to_bytes(8, "big")))
        answered.add_done_callback(confirm)


class AwareUpstream:
    """A server that keeps sessions, by the ids of PROTOCOL.md section 3, and resumes them with exactly-once delivery.

    A peer that does not send `X-Reconnect-Received` is not aware: its session ends with its connection. The arguments
    and attributes are those of `RecordUpstream`; `keep` is for how many seconds a session without a link is kept, None
    for as long as the upstream runs.
    """

    records_handshakes = False

    def __init__(self, name: str, load: Workload, recorder: EventSink, seed: str, *, keep: float | None = None) -> None:
        self.name = name
        self.recorder = recorder
        self.keep = keep
        self.is_quiet = False
        self._load = load
        self._seed = seed
        self._all: set[UpstreamSession] = set()
        self._begun = 0
        # The sessions that may be resumed, by id.
        self._sessions: dict[str, UpstreamSession] = {}
        # The session that a connection has claimed in its handshake, the id for its peer, and whether the peer is
        # aware.
        self._claims: weakref.WeakKeyDictionary[ServerConnection, tuple[UpstreamSession, str, bool]]
        self._claims = weakref.WeakKeyDictionary()

    async def quiet(self) -> None:
        """Push no more messages; unconfirmed ones are still sent."""
        self.is_quiet = True

    async def close(self) -> None:
        """End all sessions."""
        for session in list(self._all):
            session.end()

    def forget(self, session: UpstreamSession) -> None:
        """Remove a session that has ended."""
        self._all.discard(session)
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]

    def took(self, session: UpstreamSession, message: str | bytes) -> None:
        """Record a message that arrived."""
        self.recorder.received(self.name, Direction.C2U, session.speaker.labels.read(message), session.speaker.stream)

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Find or make the session of a handshake, or answer with what is wrong: 400, 409, 410."""
        try:
            await self._claim(connection, request)
        except HandshakeRefused as refusal:
            response = connection.respond(refusal.status, refusal.body)
            # Assigning a header of websockets adds a second one.
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/json"
            return response
        return None

    async def _claim(self, connection: ServerConnection, request: Request) -> None:
        reconnect_id = _id(request, "X-Reconnect-Id")
        connection_id = _id(request, "X-Connection-Id")
        received = request.headers.get("X-Reconnect-Received")
        if received is not None and not _COUNT.fullmatch(received):
            raise HandshakeRefused(HTTPStatus.BAD_REQUEST, "count", "X-Reconnect-Received is not a number")
        named = reconnect_id or connection_id
        key = named or secrets.token_urlsafe(16)
        session = self._sessions.get(key)
        if session is None or session.ended:
            if reconnect_id is not None and connection_id is None:
                raise HandshakeRefused(HTTPStatus.GONE, "gone", "there is no session of this id")
            session = self._begin(named)
            session.key = key
            if received is not None:
                self._sessions[key] = session
        await session.claim(connection, int(received or 0))
        self._claims[connection] = session, key, received is not None

    def greet(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Add the session's id, and for an aware peer the number of its messages that have arrived."""
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return
        session, key, aware = self._claims[connection]
        response.headers["X-Connection-Id"] = key
        if aware:
            response.headers["X-Reconnect-Received"] = str(session.received)

    async def serve(self, connection: UpstreamConnection) -> None:
        """Serve one connection until it ends."""
        session, _, aware = self._claims.pop(connection)
        stream = session.speaker.stream
        if self.records_handshakes:
            record_arrival(self.recorder, stream, connection)
        self.recorder.link(stream, "connected", asked=True)
        await session.serve(connection)
        if not aware:
            session.end()
        asked, code, reason = connection.ending
        self.recorder.link(stream, "disconnected", asked=asked, code=code, reason=reason)

    def _begin(self, named: str | None) -> UpstreamSession:
        """Begin a session, under an id if the peer has named one."""
        # The streams of a process that this one replaces have ended.
        stream = f"{self.name}.{len(self.recorder.said) + self._begun + 1}"
        return self._opened(Speaker(self._load, stream, Direction.U2C, self._seed))

    def _opened(self, speaker: Speaker) -> UpstreamSession:
        self._begun += 1
        session = UpstreamSession(speaker, self._load, self)
        self._all.add(session)
        return session


class AwareEchoUpstream(AwareUpstream):
    """An aware server that sends back what it receives, and may push as well: the upstream of a load run.

    An ordinary peer that reconnects under its id gets a new session, in which the numbers of the pushed stream
    continue: lost messages show as a gap. If sessions are kept for a limited time, an ended one is forgotten, and the
    stream of the next one starts at 1.
    """

    def __init__(self, name: str, load: Workload, recorder: EventSink, seed: str, *, keep: float | None = None) -> None:
        super().__init__(name, load, recorder, seed, keep=keep)
        # The latest session of each id.
        self._latest: dict[str, UpstreamSession] = {}
        # Unique for each process that serves: after a restart numbers start at 1 again.
        self._life = secrets.token_hex(3)

    def took(self, session: UpstreamSession, message: str | bytes) -> None:
        """Send a message back."""
        session.owe(message)

    def forget(self, session: UpstreamSession) -> None:
        """Remove a session that has ended, unless its stream may be continued in another one."""
        super().forget(session)
        if self.keep is not None and self._latest.get(session.key) is session:
            del self._latest[session.key]

    def _begin(self, named: str | None) -> UpstreamSession:
        before = self._latest.get(named) if named is not None else None
        if before is not None:
            before.end()
            session = self._opened(before.speaker)
        else:
            stream = f"{self.name}-{self._life}.{self._begun + 1}"
            session = self._opened(Speaker(self._load, stream, Direction.U2C, self._seed))
        if named is not None:
            self._latest[named] = session
        return session


def _id(request: Request, header: str) -> str | None:
    found = request.headers.get(header)
    if found is not None and not _ID.fullmatch(found):
        raise HandshakeRefused(HTTPStatus.BAD_REQUEST, "id", f"{header} is not 16 to 128 of A-Za-z0-9._~-")
    return found
